"""``mailtools send``: messages as they are, over SMTP."""

import sys
from typing import Any

import click

from mailtools.commands import _exits
from mailtools.commands._options import DURATION, json_option
from mailtools.commands._output import json_line, print_rows, warn
from mailtools.core.smtp import grammar, route
from mailtools.core.smtp.route import Route
from mailtools.services import submit
from mailtools.services.outgoing import Outgoing, Wishes
from mailtools.services.submit import Unsendable
from mailtools.services.transfer import Outcome

_LONG_LINE = "a line of more than 998 octets goes out as it is; a server may refuse or cut it"


@click.command("send")
@click.argument("recipients", metavar="[ADDR]...", nargs=-1)
@click.option("--mbox", metavar="FILE", help="Send every message of an mbox; - is stdin.")
@click.option("-t", "from_header", is_flag=True, help="Send to To, Cc and Bcc as well as to ADDR.")
@click.option("-f", "sender", metavar="ADDR", help="The envelope sender; '' or '<>' is the null one.")
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
@click.option("--dry-run", is_flag=True, help="Print the exact octets instead of sending them.")
@click.option("--transcript", metavar="FILE|-", default="", help="Write the session as S: and C: lines.")
@json_option
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Send a message, or every message of an mbox, over SMTP.

    The message is read from stdin and sent as it is; only Bcc is removed, and Date and Message-ID are added
    where they are missing. Without ADDR it goes to its To, Cc and Bcc. Prints a line a recipient: status,
    address, reply code, text.

    \b
    Examples:
      mailtools send --host 127.0.0.1 --port 2525 < msg.eml
      mailtools send --route smtp://127.0.0.1:2525 --mbox archive.mbox bob@localhost
    """
    for recipient in options["recipients"]:
        if not grammar.is_mailbox(recipient):
            raise click.UsageError(f"not an address: {recipient!r}; write local@domain")
    hop = None if options["dry_run"] else _route(options)
    report = _Report(options["as_json"], quiet=ctx.obj["verbosity"] < 0)
    with submit.open_messages(options["mbox"], _wishes(options)) as messages:
        if hop is None:
            for message in messages:
                report.dry(message)
        else:
            open_link = submit.link_opener(hop, options["timeout"], options["transcript"])
            for result in submit.send(report.warned(messages), open_link):
                report.result(result)
    report.end()
    ctx.exit(_exits.worst(report.codes))


def _route(options: dict[str, Any]) -> Route:
    if options["route"] and options["host"]:
        raise click.UsageError("--route and --host exclude each other")
    if options["route"]:
        return route.parse(options["route"])
    if options["host"]:
        return Route("smtp", options["host"], options["port"])
    raise click.UsageError("say where to send: --host HOST --port N, or --route smtp://HOST:PORT")


def _wishes(options: dict[str, Any]) -> Wishes:
    return Wishes(
        recipients=options["recipients"],
        from_header=options["from_header"],
        sender=options["sender"],
        fallback_sender=submit.default_sender(),
    )


class _Report:
    """Prints results and gathers exit codes."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.codes: list[int] = []
        self._as_json = as_json
        self._quiet = quiet
        self._rows: list[tuple[object, ...]] = []

    def warned(self, messages: Any) -> Any:
        """The same messages; a long line is told."""
        for message in messages:
            if isinstance(message, Outgoing) and message.has_long_line and not self._quiet:
                warn(f"{message.name}: {_LONG_LINE}")
            yield message

    def dry(self, message: Outgoing | Unsendable) -> None:
        """What would be sent: the envelope on stderr, the octets on stdout."""
        if isinstance(message, Unsendable):
            self._unsendable(message)
            return
        recipients = " ".join(f"<{recipient.address}>" for recipient in message.recipients)
        if not self._quiet:
            click.echo(f"envelope: from <{message.reverse_path}> to {recipients}", err=True)
        for block in message.blocks():
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        message.body.close()

    def result(self, result: list[Outcome] | Unsendable) -> None:
        """A line a recipient."""
        if isinstance(result, Unsendable):
            self._unsendable(result)
            return
        for outcome in result:
            self._outcome(outcome)
        if not self._as_json and not sys.stdout.isatty():
            self.end()

    def _unsendable(self, message: Unsendable) -> None:
        self.codes.append(_exits.code_for(message.error) or _exits.DATA)
        warn(str(message.error))
        if self._as_json:
            click.echo(json_line({"status": "failed", "message": message.name, "text": str(message.error)}))

    def _outcome(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.codes.append(_exits.code_for(outcome.error) or _exits.UNAVAILABLE)
        status = "failed" if outcome.error else "sent"
        code = outcome.reply.code if outcome.reply else ""
        if outcome.reply:
            text = f"{outcome.reply.enhanced} {outcome.reply.text}".strip()
        else:
            text = str(outcome.error)
        if self._as_json:
            row = {
                "status": status,
                "recipient": outcome.recipient,
                "code": code or None,
                "enhanced": outcome.reply.enhanced if outcome.reply else "",
                "text": outcome.reply.text if outcome.reply else text,
                "sender": outcome.message.reverse_path,
                "message": outcome.message.name,
            }
            click.echo(json_line(row))
            return
        self._rows.append((status, outcome.recipient, code, text))

    def end(self) -> None:
        """Print what waits: a table on a terminal needs all rows."""
        print_rows(("status", "recipient", "code", "text"), self._rows)
        self._rows = []
