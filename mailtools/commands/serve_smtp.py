"""``mailtools serve-smtp``: reads the options and runs services/smtp_server/service."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailtools.commands.options.common import DURATION, SIZE, spool_option, spool_path
from mailtools.commands.options.leaving import leaving, leaving_options
from mailtools.commands.options.local import local_options
from mailtools.commands.options.server import (
    announce,
    login_rules,
    open_certificates,
    open_sockets,
    server_options,
    settings_of,
)

if TYPE_CHECKING:
    import socket

    from mailtools.services.smtp_server.faults import Fault
    from mailtools.services.smtp_server.relay import Relaying

F = TypeVar("F", bound=Callable[..., Any])


class FaultRule(click.ParamType["Fault"]):
    """Parses one rule of ``--fault``."""

    name = "fault"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Fault":
        from mailtools.services.smtp_server import faults

        if isinstance(value, faults.Fault):
            return value
        try:
            return faults.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def delivery_options(function: F) -> F:
    """Add the options that say whose mail is accepted, and where it goes."""
    options = [
        local_options,
        click.option("--mbox", metavar="FILE", default="", help="Store all mail in this one mbox."),
        click.option("--lmtp", is_flag=True, help="Speak LMTP, which has a reply for each recipient."),
        click.option(
            "--max-size",
            metavar="SIZE",
            type=SIZE,
            default="50M",
            show_default=True,
            help="Refuse larger messages.",
        ),
        click.option(
            "--max-recipients",
            metavar="N",
            type=click.IntRange(1),
            default=1000,
            show_default=True,
            help="At most N recipients of one message; RFC 5321 requires at least 100.",
        ),
        click.option(
            "--bare-newline",
            type=click.Choice(["reject", "normalize"]),
            default="reject",
            show_default=True,
            help="Refuse a line that ends with LF alone, or take it as if it ended with CRLF.",
        ),
        click.option(
            "--filter",
            "filter_command",
            metavar="CMD",
            default="",
            help="Run CMD with each message on stdin; store what it prints.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def relay_options(function: F) -> F:
    """Add the options for relaying: who may send mail to other servers, and how it leaves."""
    options = [
        click.option("--relay", is_flag=True, help="Accept mail for other servers from clients that log in."),
        click.option(
            "--relay-from",
            metavar="NET",
            multiple=True,
            help="With --relay: accept it also from this network, or from unix sockets (unix); repeatable.",
        ),
        click.option(
            "--no-deliver", is_flag=True, help="With --relay: only queue such mail; `queue run` delivers it."
        ),
        spool_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


def test_options(function: F) -> F:
    """Add the options for tests of programs that send mail."""
    options = [
        click.option(
            "--fault",
            "faults",
            metavar="RULE",
            type=FaultRule(),
            multiple=True,
            help="Misbehave by a rule: STAGE [to=GLOB from=GLOB] ACTION [times=N every=N p=0.1]; repeatable.",
        ),
        click.option("--seed", metavar="N", type=int, help="Make the random faults of --fault repeatable."),
        click.option(
            "--to-stdout",
            type=click.Choice(["raw", "mbox", "json"]),
            default=None,
            help="Also print each message in this format.",
        ),
        click.option(
            "--exit-after",
            metavar="N",
            type=click.IntRange(1),
            default=None,
            help="Exit with 0 after N messages.",
        ),
        click.option(
            "--total-timeout",
            metavar="DUR",
            type=DURATION,
            default=None,
            help="Exit with 75 after DUR at the latest.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _relaying(
    ctx: click.Context, options: dict[str, Any], sockets: "Sequence[socket.socket]"
) -> "Relaying | None":
    if not options["relay"]:
        if options["relay_from"]:
            raise click.UsageError("--relay-from goes with --relay")
        return None
    from mailtools.services.smtp_server import relay
    from mailtools.system.net.listeners import addresses

    return relay.Relaying(
        spool_path(options),
        relay.parse_networks(options["relay_from"]),
        relay.UNIX in options["relay_from"],
        None if options["no_deliver"] else leaving(ctx, options)._replace(listeners=addresses(sockets)),
    )


@click.command("serve-smtp")
@server_options(port=2525)
@delivery_options
@relay_options
@leaving_options
@test_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Receive mail over SMTP into mbox files.

    Mail for bob@anywhere goes to DIR/bob/INBOX.mbox. The reply 250 comes when it is on the disk.

    \b
    Examples:
      mailtools serve-smtp --port 2525
      mailtools serve-smtp --mbox all.mbox --port 0 --port-file port --exit-after 1
      mailtools serve-smtp --dev --fault 'rcpt to=*@grey.test reply "451 4.7.1 Greylisted" times=1'
    """
    from mailtools.commands.output.logging import set_up
    from mailtools.core.smtp.offer import SmtpOffer
    from mailtools.services.delivery.addressing import AddressingSettings
    from mailtools.services.smtp_server import service
    from mailtools.system import clock

    log = set_up(ctx.obj["verbosity"], ctx.obj["log_format"])
    sockets = open_sockets(options["host"], options["port"], options["listen"])
    host = clock.host_name()
    ours = AddressingSettings(
        root=options["root"],
        mbox=options["mbox"],
        domains=options["domains"],
        users=options["users"],
        aliases=options["aliases"],
        alias_commands=options["alias_commands"],
        catch_all=options["catch_all"],
        plus_delimiter=options["plus_delimiter"],
        relays=options["relay"],
    )
    addressing = service.choose_addressing(ours, host, sockets, options["dev"])
    certificates = open_certificates(options, ("lmtp",) if options["lmtp"] else ("smtp",), host)
    smtp = service.SmtpService(
        offer=SmtpOffer(
            host,
            lmtp=options["lmtp"],
            starttls=certificates is not None and not options["implicit_tls"],
            max_size=options["max_size"],
            max_recipients=options["max_recipients"],
            takes_lf=options["bare_newline"] == "normalize",
            takes_any_login=options["dev"],
        ),
        addressing=addressing,
        login_rules=login_rules(options, addressing.users),
        filter=options["filter_command"],
        relaying=_relaying(ctx, options, sockets),
        faults=options["faults"],
        seed=options["seed"],
        to_stdout=options["to_stdout"] or "",
        exit_after=options["exit_after"] or 0,
    )
    settings = settings_of(options, certificates)._replace(total_timeout=options["total_timeout"] or 0.0)

    def ready(_: Callable[[], object]) -> None:
        if addressing.users is None and not options["dev"]:
            log.warning("no users file: mail for every recipient is accepted")
        announce(smtp.name, sockets, options["port_file"])

    ctx.exit(service.run(smtp, sockets, settings, ready))
