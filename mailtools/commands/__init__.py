"""The door: options to one service call to output; no logic here."""
