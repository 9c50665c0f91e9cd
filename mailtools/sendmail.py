"""The program `mailtools-sendmail`: what cron, mutt and git call /usr/sbin/sendmail.

As `mailtools sendmail`, without the time that a command line of many commands takes to come up.
"""

import gc
import os
import sys


def run() -> None:
    """One command line of sendmail(8); as `cli.run`, the interpreter is not taken down piece by piece."""
    gc.disable()  # a short life: what it would find is 5 % of it
    from mailtools.commands.sendmail.main import main

    os._exit(main(sys.argv[1:], sys.argv[0]))


if __name__ == "__main__":
    run()
