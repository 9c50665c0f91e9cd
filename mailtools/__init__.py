"""mailtools: e-mail as Unix commands over plain mbox files."""

__version__ = "0.1.0"
