"""``python -m mailtools``."""

from mailtools.cli import main

main()
