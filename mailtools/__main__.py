"""``python -m mailtools``."""

from mailtools.cli import run

run()
