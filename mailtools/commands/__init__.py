"""Commands read options, call one service and print its results. No decision is made here."""
