"""``mailtools queue``: the group of commands for mail that is on its way."""

import click

from mailtools.commands.lazy_group import LazyGroup

COMMANDS = {
    "add": ("mailtools.commands.queue.add", "Put a message into the queue."),
    "bounce": ("mailtools.commands.queue.change:bounce", "Give messages up and tell their senders."),
    "delete": ("mailtools.commands.queue.change:delete", "Remove messages and tell nobody."),
    "hold": ("mailtools.commands.queue.change:hold", "Keep messages back until they are released."),
    "list": ("mailtools.commands.queue.list", "List messages, a line each."),
    "log": ("mailtools.commands.queue.show:log", "Show what was tried, and what came of it."),
    "release": ("mailtools.commands.queue.change:release", "Let messages on hold go on."),
    "retry": ("mailtools.commands.queue.change:retry", "Have messages tried again now."),
    "run": ("mailtools.commands.queue.run", "Deliver what is due."),
    "show": ("mailtools.commands.queue.show:show", "Show messages and their envelopes."),
    "stats": ("mailtools.commands.queue.stats", "Count messages by state, site and reason."),
}


class _Verbs(LazyGroup):
    """Several commands share one module: the table names them as ``module:name``."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        from importlib import import_module

        module, _, name = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name or "command")
        return command


@click.command(cls=_Verbs, table=COMMANDS)
def command() -> None:
    """Look at queued mail, change it, deliver it.

    ID is a queue id as `list` shows it; - reads ids from standard input, one a line. A message must
    match all options that select.
    """
