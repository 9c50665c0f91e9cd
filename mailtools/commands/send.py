"""``mailtools send``: a message as it is, or composed here, to its next hop."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailtools.commands._compose import Composed, compose_options, composed
from mailtools.commands._options import DURATION, json_option, root_option, spool_option, spool_path
from mailtools.commands._outcomes import Report
from mailtools.core.smtp import grammar, route
from mailtools.core.smtp.route import Route
from mailtools.services import submit
from mailtools.services.outgoing import Outgoing, Wishes
from mailtools.services.submit import Unsendable

if TYPE_CHECKING:
    from mailtools.services.sending import Carry

F = TypeVar("F", bound=Callable[..., Any])
_EVENTS = {"never": "NEVER", "success": "SUCCESS", "failure": "FAILURE", "delay": "DELAY"}


class Events(click.ParamType[str]):
    """``never``, or ``success,failure,delay`` in any choice, to NOTIFY's words (RFC 3461 §4.1)."""

    name = "events"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not value:
            return ""
        words = str(value).lower().split(",")
        if set(words) - set(_EVENTS) or (len(words) > 1 and "never" in words):
            self.fail(f"{value!r}: write never, or some of success,failure,delay", param, ctx)
        return ",".join(_EVENTS[word] for word in dict.fromkeys(words))


def envelope_options(function: F) -> F:
    """To whom, from whom, and what the sender wants to hear."""
    options = [
        click.option("--mbox", metavar="FILE", help="Send every message of an mbox; - is stdin."),
        click.option("-t", "from_header", is_flag=True, help="Send to To, Cc and Bcc as well as to ADDR."),
        click.option("-f", "sender", metavar="ADDR", help="The envelope sender; '' or '<>' is the null one."),
        click.option(
            "--dsn",
            metavar="EVENTS",
            type=Events(),
            default="",
            help="Ask to be told: never, or some of success,failure,delay.",
        ),
        click.option("--ret", type=click.Choice(["full", "hdrs"]), help="What a report of failure returns."),
        click.option("--envid", metavar="ID", default="", help="What such reports call the message."),
        click.option(
            "--body",
            type=click.Choice(["auto", "7bit", "8bit"]),
            default="auto",
            show_default=True,
            help="auto: 8-bit parts are re-encoded where the server takes 7 bits only.",
        ),
        click.option("--partial", is_flag=True, help="Send to the others where a recipient is refused."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def outcome_options(function: F) -> F:
    """What becomes of the message."""
    options = [
        click.option(
            "--queue",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            show_default=True,
            help="auto: into the queue after a temporary failure.",
        ),
        root_option,
        spool_option,
        click.option(
            "--fcc", metavar="MBOX", default="", help="Append a copy to this mbox once it is sent or queued."
        ),
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
@click.option("--host", metavar="HOST", help="The server.")
@click.option(
    "--port", metavar="N", type=click.IntRange(1, 65535), default=25, show_default=True, help="Its port."
)
@click.option("--route", metavar="URL", help="smtp://HOST:PORT or unix:PATH, instead of --host and --port.")
@click.option(
    "--timeout",
    metavar="DUR",
    type=DURATION,
    default="5m",
    show_default=True,
    help="Give up after DUR without an answer.",
)
@outcome_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Send a message, or every message of an mbox, over SMTP.

    The message is read from stdin and sent as it is; only Bcc is removed, and Date and Message-ID are added
    where they are missing. With -s, --to, -a and their like it is composed, and stdin is its text. Without
    ADDR it goes to its To, Cc and Bcc. Prints a line a recipient: status, address, reply code, text.

    \b
    Examples:
      mailtools send --host 127.0.0.1 --port 2525 < msg.eml
      mailtools send --route smtp://127.0.0.1:2525 --mbox archive.mbox bob@localhost
      echo hello | mailtools send --host 127.0.0.1 --port 2525 -s greetings bob@localhost
    """
    composition = composed(options, ctx)
    if composition is None:
        for recipient in options["recipients"]:
            if not grammar.is_mailbox(recipient):
                raise click.UsageError(f"not an address: {recipient!r}; write local@domain")
    hop = None if options["dry_run"] else _route(options)
    report = Report(options["as_json"], quiet=ctx.obj["verbosity"] < 0)
    with _messages(options, composition) as messages:
        if hop is None:
            for message in messages:
                report.dry(message)
        else:
            _send(report.warned(messages), hop, options, report)
        if composition is not None and not report.code and hop is not None:
            composition.sent()
    report.end()
    ctx.exit(report.code)


def _send(
    messages: Iterator[Outgoing | Unsendable], hop: Route, options: dict[str, Any], report: Report
) -> None:
    from mailtools.services import sending

    queueing = sending.Queueing(options["queue"], spool_path(options), "" if hop.scheme == "mx" else str(hop))
    carry = _carry(hop, options)
    for result in sending.send(messages, carry, queueing, options["fcc"], options["partial"]):
        report.result(result)


def _carry(hop: Route, options: dict[str, Any]) -> "Carry":
    from mailtools.services import dial, sending

    if hop.scheme == "mbox":
        return sending.into_mbox(hop.path)
    dialling = dial.Dialling(hop, timeout=options["timeout"], transcript=options["transcript"])
    return sending.over_links(lambda: dial.open_link(dialling), options["partial"])


@contextmanager
def _messages(
    options: dict[str, Any], composition: Composed | None
) -> Iterator[Iterator[Outgoing | Unsendable]]:
    if composition is None:
        with submit.open_messages(options["mbox"], _wishes(options)) as messages:
            yield messages
    else:
        with composition:
            yield iter([submit.made_ready("the message", [composition.octets], _wishes(options, ()))])


def _route(options: dict[str, Any]) -> Route:
    if options["route"] and options["host"]:
        raise click.UsageError("--route and --host exclude each other")
    if options["route"]:
        return route.parse(options["route"])
    if options["host"]:
        return Route("smtp", options["host"], options["port"])
    raise click.UsageError("say where to send: --host HOST --port N, or --route smtp://HOST:PORT")


def _wishes(options: dict[str, Any], recipients: tuple[str, ...] | None = None) -> Wishes:
    return Wishes(
        recipients=options["recipients"] if recipients is None else recipients,
        from_header=options["from_header"],
        sender=options["sender"],
        fallback_sender=submit.default_sender(),
        notify=options["dsn"],
        ret=(options["ret"] or "").upper(),
        envid=_xtext(options["envid"]),
        body=options["body"],
    )


def _xtext(text: str) -> str:
    """RFC 3461 §4: what a parameter's value may not hold, in hexadecimal."""
    return "".join(
        chr(octet) if 33 <= octet <= 126 and octet not in b"+=" else f"+{octet:02X}"
        for octet in os.fsencode(text)
    )
