"""Prints the outcomes of messages for people or programs, and finds the exit code."""

import sys
from collections.abc import Iterable, Iterator

import click

from mailtools.commands.output import exits
from mailtools.commands.output.print import json_line, print_rows, warn
from mailtools.services.submission.prepare import Unsendable
from mailtools.services.submission.send import Uncopied
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing

_LONG_LINE = "a line of more than 998 octets goes out as it is; a server may refuse or cut it"


class SendReport:
    """Prints results, a line for each recipient, and collects exit codes."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.codes: list[int] = []
        self._as_json = as_json
        self._quiet = quiet
        self._rows: list[tuple[object, ...]] = []

    def warned(self, messages: Iterable[Outgoing | Unsendable]) -> Iterator[Outgoing | Unsendable]:
        """Pass on *messages*; warn of long lines."""
        for message in messages:
            if isinstance(message, Outgoing) and message.has_long_line and not self._quiet:
                warn(f"{message.name}: {_LONG_LINE}")
            yield message

    def dry(self, message: Outgoing | Unsendable) -> None:
        """Print what would be sent: the envelope on stderr, the octets on stdout."""
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

    def result(self, result: list[Outcome] | Unsendable | Uncopied) -> None:
        """Print a line for each recipient."""
        if isinstance(result, Uncopied):
            self.codes.append(exits.code_for(result.error) or exits.CANNOT_CREATE)
            warn(str(result.error))
            return
        if isinstance(result, Unsendable):
            self._unsendable(result)
            return
        for outcome in result:
            self._outcome(outcome)
        if not self._as_json and not sys.stdout.isatty():
            self.end()

    def _unsendable(self, message: Unsendable) -> None:
        self.codes.append(exits.code_for(message.error) or exits.DATA)
        warn(str(message.error))
        if self._as_json:
            click.echo(json_line({"status": "failed", "message": message.name, "text": str(message.error)}))

    def _outcome(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self.codes.append(exits.code_for(outcome.error) or exits.UNAVAILABLE)
        reply = outcome.reply
        status = "failed" if outcome.error else "queued" if outcome.queued else "sent"
        text = f"{reply.enhanced} {reply.text}".strip() if reply else str(outcome.error or "")
        note = _note(outcome)
        text += note
        if outcome.queued:
            text = f"as {outcome.queued}" + (f": {text or outcome.remote}" if text or outcome.remote else "")
        if not self._as_json:
            self._rows.append((status, outcome.recipient, reply.code if reply else "", text))
            return
        row = {
            "status": status,
            "recipient": outcome.recipient,
            "code": reply.code if reply else None,
            "enhanced": reply.enhanced if reply else "",
            "text": reply.text + note if reply and not outcome.queued else text,
            "queue_id": outcome.queued or None,
            "sender": outcome.message.reverse_path,
            "message": outcome.message.name,
        }
        click.echo(json_line(row))

    def end(self) -> None:
        """Print the rows that wait: a table on a terminal needs all of them."""
        print_rows(("status", "recipient", "code", "text"), self._rows)
        self._rows = []

    @property
    def code(self) -> int:
        """The exit code."""
        return exits.worst(self.codes)


def _note(outcome: Outcome) -> str:
    """Return what an error says beyond the reply, such as why the message was not queued."""
    if outcome.reply is None or outcome.error is None:
        return ""
    error = str(outcome.error)
    said = (str(outcome.reply), outcome.reply.text)  # errors of our own mailboxes have no reply code
    return next((error.removeprefix(text) for text in said if error.startswith(f"{text}; ")), "")
