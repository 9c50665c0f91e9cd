"""``mailtools send``: composes a message if asked, and passes messages to services/submission/send."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailtools.commands.options import config
from mailtools.commands.options.common import json_option, root_option, spool_option, spool_path
from mailtools.commands.options.compose import Composed, compose_options, composed
from mailtools.commands.options.dial import (
    carrier,
    chooser,
    dial_options,
    explanation,
    shown_route,
    why_not_queued,
)
from mailtools.commands.output.outcomes import SendReport
from mailtools.commands.output.print import json_line
from mailtools.core.wire.visible import visible
from mailtools.services.submission import prepare
from mailtools.services.submission.prepare import Unsendable
from mailtools.services.transit.outgoing import Outgoing, Wishes, is_address

if TYPE_CHECKING:
    from mailtools.services.submission.next_hop import Account, Hop
    from mailtools.services.submission.send import Way

F = TypeVar("F", bound=Callable[..., Any])
_EVENTS = {"never": "NEVER", "success": "SUCCESS", "failure": "FAILURE", "delay": "DELAY"}


class Events(click.ParamType[str]):
    """Converts ``never``, or some of ``success,failure,delay``, to the words of NOTIFY (RFC 3461 §4.1)."""

    name = "events"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            return ""
        words = str(value).lower().split(",")
        if set(words) - set(_EVENTS) or (len(words) > 1 and "never" in words):
            self.fail(f"{value!r}: write never, or some of success,failure,delay", param, ctx)
        return ",".join(_EVENTS[word] for word in dict.fromkeys(words))


def envelope_options(function: F) -> F:
    """Add the options of the envelope: recipients, sender, and the DSNs that the sender wants."""
    options = [
        click.option("--mbox", metavar="FILE", help="Send every message of an mbox; - is stdin."),
        click.option("-t", "from_header", is_flag=True, help="Send to To, Cc and Bcc as well as to ADDR."),
        click.option(
            "-f", "sender", metavar="ADDR", help="The envelope sender; '' or '<>' is the null sender."
        ),
        click.option(
            "--dsn",
            metavar="EVENTS",
            type=Events(),
            default="",
            help="Ask for reports: never, or some of success,failure,delay.",
        ),
        click.option(
            "--ret",
            type=click.Choice(["full", "hdrs"]),
            help="What a report of a failure returns: the whole message, or its header.",
        ),
        click.option("--envid", metavar="ID", default="", help="An id of the message for such reports."),
        click.option(
            "--body",
            type=click.Choice(["auto", "7bit", "8bit"]),
            default="auto",
            show_default=True,
            help="auto: re-encode 8-bit parts if the server takes only 7 bits.",
        ),
        click.option("--partial", is_flag=True, help="Send to the other recipients if one is refused."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def outcome_options(function: F) -> F:
    """Add the options that say what happens to the message."""
    options = [
        click.option(
            "--queue",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            show_default=True,
            help="auto: queue it after a temporary failure, if a queue run is alive.",
        ),
        root_option,
        spool_option,
        click.option(
            "--fcc", metavar="MBOX", default="", help="Append a copy to this mbox once it is sent or queued."
        ),
        click.option("--explain", is_flag=True, help="Explain how the message would be sent; send nothing."),
        click.option("--dry-run", is_flag=True, help="Print the exact octets instead of sending them."),
        click.option(
            "--transcript", metavar="FILE|-", default="", help="Write the session as S: and C: lines."
        ),
        json_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command("send")
@click.argument("recipients", metavar="[ADDR]...", nargs=-1)
@compose_options
@envelope_options
@dial_options
@outcome_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Send a message, or every message of an mbox, over SMTP.

    Reads the message from stdin and sends it as it is, except that Bcc is removed, and Date and Message-ID
    are added if they are missing. With -s, --to, -a and similar options it composes a message, and stdin is
    the text. Without ADDR the recipients are those of To, Cc and Bcc. Prints a line for each recipient:
    status, address, reply code, text.

    \b
    Examples:
      mailtools send --host 127.0.0.1 --port 2525 < msg.eml
      mailtools send --route smtp://127.0.0.1:2525 --mbox archive.mbox bob@localhost
      echo hello | mailtools send --host 127.0.0.1 --port 2525 -s greetings bob@localhost
    """
    accounts = config.accounts(ctx)
    choose = chooser(ctx, accounts)
    writes_as = _address(options, accounts)
    if writes_as and not options["from_"]:
        options["from_"] = writes_as
    composition = composed(options, ctx)
    if composition is None:
        for recipient in options["recipients"]:
            if not is_address(recipient):
                raise click.UsageError(f"not an address: {recipient!r}; write local@domain")
    report = SendReport(options["as_json"], quiet=ctx.obj["verbosity"] < 0)
    with _messages(options, composition, writes_as) as messages:
        if options["dry_run"] or options["explain"]:
            for message in messages:
                if options["explain"] and isinstance(message, Outgoing):
                    _explain(message, choose(message.author), options)
                else:
                    report.dry(message)
        else:
            _send(report.warned(messages), choose, options, report)
            if composition is not None and not report.code:
                composition.sent()
    report.end()
    ctx.exit(report.code)


def _address(options: dict[str, Any], accounts: "Mapping[str, Account]") -> str:
    """Return the address of the account that sends, if only one can."""
    name = options["account"] or (next(iter(accounts)) if len(accounts) == 1 else "")
    return accounts[name].address if name in accounts else ""


def _send(
    messages: Iterator[Outgoing | Unsendable],
    choose: "Callable[[str], Hop]",
    options: dict[str, Any],
    report: SendReport,
) -> None:
    from mailtools.services.submission import send

    ways = _Ways(choose, options)
    for result in send.send(messages, ways.of, options["fcc"], options["partial"]):
        report.result(result)


class _Ways:
    """The way of each message; messages with one next hop that follow each other have the same one."""

    def __init__(self, choose: "Callable[[str], Hop]", options: dict[str, Any]) -> None:
        self._choose = choose
        self._options = options
        self._last: tuple[Hop, Way] | None = None

    def of(self, message: Outgoing) -> "Way":
        """Return the way of *message*. Raises MailError."""
        hop = self._choose(message.author)._replace(why="")  # the reasons of two senders differ
        if self._last is None or self._last[0] != hop:
            self._last = (hop, self._made(hop))
        return self._last[1]

    def _made(self, hop: "Hop") -> "Way":
        from mailtools.services.submission import send

        options = self._options
        queueing = send.Queueing(
            options["queue"],
            spool_path(options),
            shown_route(hop.route),
            hop.connection.tls,
            hop.account,
            why_not_queued(hop),
        )
        if queueing.when == send.ALWAYS:
            return send.Way(send.into_queue(queueing), queueing)
        return send.Way(carrier(hop, options), queueing)


def _explain(message: Outgoing, hop: "Hop", options: dict[str, Any]) -> None:
    recipients = [recipient.address for recipient in message.recipients]
    found = {"from": message.reverse_path, "to": recipients, **explanation(hop, recipients, options)}
    if options["as_json"]:
        click.echo(json_line(found))
        return
    for key, value in found.items():
        if isinstance(value, dict):
            for domain, hosts in value.items():
                shown = hosts if isinstance(hosts, str) else ", ".join(hosts)
                click.echo(f"{key} of {visible(domain)}: {visible(shown)}")
        elif value is not None:
            click.echo(f"{key}: {visible(', '.join(value) if isinstance(value, list) else str(value))}")


@contextmanager
def _messages(
    options: dict[str, Any], composition: Composed | None, writes_as: str
) -> Iterator[Iterator[Outgoing | Unsendable]]:
    if composition is None:
        with prepare.open_messages(
            options["mbox"], _wishes(options, options["recipients"], writes_as)
        ) as messages:
            yield messages
    else:
        with composition:
            yield iter(
                [prepare.made_ready("the message", [composition.octets], _wishes(options, (), writes_as))]
            )


def _wishes(options: dict[str, Any], recipients: tuple[str, ...], writes_as: str) -> Wishes:
    return Wishes(
        recipients=recipients,
        from_header=options["from_header"],
        sender=options["sender"],
        fallback_sender=writes_as or prepare.default_sender(),
        notify=options["dsn"],
        ret=(options["ret"] or "").upper(),
        envid=_xtext(options["envid"]),
        body=options["body"],
    )


def _xtext(text: str) -> str:
    """Encode *text* as xtext (RFC 3461 §4)."""
    return "".join(
        chr(octet) if 33 <= octet <= 126 and octet not in b"+=" else f"+{octet:02X}"
        for octet in os.fsencode(text)
    )
