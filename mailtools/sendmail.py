"""The program `mailtools-sendmail`: what cron, mutt and git call /usr/sbin/sendmail.

Does what `mailtools sendmail` does, without the start-up time of a command line with many commands.
"""

import gc
import os
import sys


def run() -> None:
    """Run one command line of sendmail(8). Exits without taking the interpreter down, as `cli.run` does."""
    gc.disable()  # collecting would take 5 % of such a short run
    from mailtools.commands.sendmail.main import main

    os._exit(main(sys.argv[1:], sys.argv[0], _mailtools))


def _mailtools() -> object:
    """Return the command line of mailtools, which is imported only if its configuration is needed."""
    from mailtools.cli import command

    return command


if __name__ == "__main__":
    run()
