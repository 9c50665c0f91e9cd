"""Chooses the next hop of mail for other servers as `mailtools send` does.

Imported only if the configuration has accounts, or a server for `send`: reading them takes click.
"""

from typing import TYPE_CHECKING

import click

from mailtools.commands.options import config
from mailtools.commands.options.dial import connection, shown_route, why_not_queued
from mailtools.core.errors import ConfigurationError
from mailtools.services.submission import next_hop
from mailtools.services.submission.sendmail import QueuedHop

if TYPE_CHECKING:
    from mailtools.services.submission.sendmail import Choose


def chooser(program: click.Command, path: str) -> "Choose":
    """Return a function that chooses by the configuration in *path*, or in the usual places if it is "".

    *program*: the command line of mailtools, against which the configuration is checked. Raises
    ConfigurationError.
    """
    ctx = click.Context(program, info_name="mailtools")
    usual = connection(config.load(ctx, path or None).get("send", {}))
    accounts = config.accounts(ctx)

    def choose(author: str) -> QueuedHop:
        hop = next_hop.choose(next_hop.NOTHING, "", accounts, author, usual)
        if why := why_not_queued(hop):
            raise ConfigurationError(f"[send]: {why}")
        sender = ""
        if hop.account:
            account = accounts[hop.account]
            sender = author if next_hop.is_sender(account, author) else account.address
        return QueuedHop(shown_route(hop.route), hop.connection.tls, hop.account, sender)

    return choose
