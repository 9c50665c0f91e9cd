"""``mailtools serve-pop3``: reads the options and runs services/pop3_server/service."""

from collections.abc import Callable
from typing import Any

import click

from mailtools.commands.options.common import DURATION
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


class Days(click.ParamType[str]):
    """Converts ``never`` or a number of days to the argument of EXPIRE in CAPA (RFC 2449 §6.7)."""

    name = "days"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).upper().removesuffix("D")
        if text != "NEVER" and not (text.isascii() and text.isdigit() and len(text) < 6):
            self.fail(f"{value!r}: write never, or a number of days", param, ctx)
        return text


@click.command("serve-pop3")
@server_options(port=1110, timeout="10m")
@click.option(
    "--expire",
    metavar="DAYS",
    type=Days(),
    default="never",
    show_default=True,
    help="Tell clients how many days mail is kept; this server does not remove any.",
)
@click.option(
    "--login-delay",
    metavar="DUR",
    type=DURATION,
    default=None,
    help="Let each user log in at most once in DUR.  [default: no limit]",
)
@workers_option
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Let mail programs read mbox files over POP3.

    The maildrop of bob is DIR/bob/INBOX.mbox as it is at login. Only QUIT removes the messages that were
    deleted. The users file names the users who may log in: see mailtools user.

    \b
    Examples:
      mailtools serve-pop3 --port 1110
      mailtools serve-pop3 --dev --port 0 --port-file port --root Mail
    """
    from mailtools.commands.output.logging import set_up
    from mailtools.core.pop3.server import Pop3Offer
    from mailtools.services.pop3_server import service
    from mailtools.services.users.choice import choose_users
    from mailtools.system import clock

    set_up(ctx.obj["verbosity"], ctx.obj["log_format"])
    sockets = open_sockets(options["host"], options["port"], options["listen"])
    host = clock.host_name()
    users = choose_users(options["root"], options["users"], options["dev"], sockets)
    certificates = open_certificates(options, (service.NAME,), host)
    pop3 = service.Pop3Service(
        offer=Pop3Offer(
            host,
            stls=certificates is not None and not options["implicit_tls"],
            expire=options["expire"],
            login_delay=round(options["login_delay"] or 0),
        ),
        root=options["root"],
        login_rules=login_rules(options, users),
    )

    def ready(_: Callable[[], object]) -> None:
        announce(service.NAME, sockets, options["port_file"])

    settings = settings_of(options, certificates)
    ctx.exit(run_workers(options["workers"], lambda call: service.run(pop3, sockets, settings, call), ready))
