"""``mailtools serve-smtp``: receive mail over SMTP into mbox files."""

import os
from typing import Any

import click

from mailtools.commands._options import DURATION, SIZE
from mailtools.commands._server import announce, open_sockets, server_options


@click.command("serve-smtp")
@server_options(port=2525)
@click.option("--domain", "domains", metavar="NAME", multiple=True, help="A domain of ours; repeatable.")
@click.option("--mbox", metavar="FILE", default="", help="All mail into this one mbox.")
@click.option(
    "--max-size",
    metavar="SIZE",
    type=SIZE,
    default="50M",
    show_default=True,
    help="Refuse a larger message.",
)
@click.option(
    "--max-recipients",
    metavar="N",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Recipients of one message; RFC 5321 wants at least 100.",
)
@click.option(
    "--to-stdout", type=click.Choice(["raw", "mbox", "json"]), default=None, help="Also print each message."
)
@click.option(
    "--exit-after", metavar="N", type=click.IntRange(1), default=None, help="End after N messages, with 0."
)
@click.option(
    "--total-timeout",
    metavar="DUR",
    type=DURATION,
    default=None,
    help="End after DUR at the latest, with 75.",
)
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Receive mail over SMTP into mbox files.

    Mail for bob@anywhere goes to DIR/bob/INBOX.mbox, and 250 is said when it is on the disk.

    \b
    Examples:
      mailtools serve-smtp --port 2525
      mailtools serve-smtp --mbox all.mbox --port 0 --port-file port --exit-after 1
    """
    from mailtools.commands._logging import set_up
    from mailtools.services import smtp_service
    from mailtools.system import clock, serve

    log = set_up(ctx.obj["verbosity"], ctx.obj["log_format"])
    sockets = open_sockets(options["host"], options["port"], options["listen"])
    host = clock.host_name()
    door = smtp_service.Door(
        root=options["root"],
        mbox=options["mbox"],
        domains=options["domains"],
        users=options["users"],
        dev=options["dev"],
    )
    policy = smtp_service.choose_policy(door, host, sockets)
    if policy.users is None:
        log.warning("no users file: mail for every recipient is accepted")
    service = smtp_service.SmtpService(
        host=host,
        policy=policy,
        max_size=options["max_size"],
        max_recipients=options["max_recipients"],
        to_stdout=options["to_stdout"] or "",
        exit_after=options["exit_after"] or 0,
    )
    per_address = options["max_connections_per_ip"]
    limits = serve.Limits(
        connections=options["max_connections"],
        connections_per_address=50 if per_address is None else per_address,
        count_loopback=per_address is not None,
        timeout=options["timeout"],
    )
    settings = serve.Settings(limits, options["transcript"], options["total_timeout"] or 0.0)
    if options["transcript"] not in ("", "-"):
        os.makedirs(options["transcript"], exist_ok=True)

    def ready() -> None:
        announce("smtp", sockets, options["port_file"])

    ctx.exit(smtp_service.run(service, sockets, settings, ready))
