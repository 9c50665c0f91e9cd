"""``mailtools mbox``: the commands that read mbox files."""

import click

from mailtools.commands.lazy_group import LazyGroup

COMMANDS = {
    "cat": ("mailtools.commands.mbox.cat", "Copy selected messages, as an mbox."),
    "count": ("mailtools.commands.mbox.count", "Count messages."),
    "list": ("mailtools.commands.mbox.list", "List messages, a line each."),
    "show": ("mailtools.commands.mbox.show", "Show messages, decoded for reading."),
}


@click.command(cls=LazyGroup, table=COMMANDS)
def command() -> None:
    """Read and filter mbox files.

    A SOURCE is an mbox file, as it is or compressed (gz, bz2, xz, zst), or - for standard input, which is
    also what is read when none is given.
    """
