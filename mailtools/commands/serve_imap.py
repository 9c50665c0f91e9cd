"""``mailtools serve-imap``: reads the options and runs services/imap_server/service."""

from collections.abc import Callable
from typing import Any

import click

from mailtools.commands.options.server import (
    announce,
    login_rules,
    open_certificates,
    open_sockets,
    run_workers,
    server_options,
    settings_of,
    workers_option,
)


@click.command("serve-imap")
@server_options(port=1143, timeout="30m")
@workers_option
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Let mail programs read and order mbox files over IMAP.

    The mailboxes of bob are the mbox files below DIR/bob: INBOX is DIR/bob/INBOX.mbox, Work/2026 is
    DIR/bob/Work/2026.mbox. The users file names the users who may log in: see mailtools user.

    \b
    Examples:
      mailtools serve-imap --port 1143
      mailtools serve-imap --dev --port 0 --port-file port --root Mail
    """
    from mailtools.commands.output.logging import set_up
    from mailtools.services.imap_server import service
    from mailtools.services.users.choice import choose_users
    from mailtools.system import clock

    set_up(ctx.obj["verbosity"], ctx.obj["log_format"])
    sockets = open_sockets(options["host"], options["port"], options["listen"])
    host = clock.host_name()
    users = choose_users(options["root"], options["users"], options["dev"], sockets)
    certificates = open_certificates(options, (service.NAME,), host)
    imap = service.ImapService(
        host=host,
        starttls=certificates is not None and not options["implicit_tls"],
        root=options["root"],
        login_rules=login_rules(options, users),
    )

    def ready(_: Callable[[], object]) -> None:
        announce(service.NAME, sockets, options["port_file"])

    settings = settings_of(options, certificates)
    ctx.exit(run_workers(options["workers"], lambda call: service.run(imap, sockets, settings, call), ready))
