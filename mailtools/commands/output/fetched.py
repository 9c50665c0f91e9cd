"""What `fetch` prints: JSON lines if asked for, a progress bar and a summary on a terminal, else nothing."""

import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import click

from mailtools.commands.output import exits
from mailtools.commands.output.print import json_line, warn
from mailtools.core.errors import MailError
from mailtools.core.wire.visible import visible
from mailtools.services.fetch.remote import Fetched, Item
from mailtools.services.transit import mbox_form


class FetchReport:
    """The report of one run over all its accounts. Several threads may call it."""

    def __init__(self, options: Mapping[str, Any], verbosity: int, several: bool) -> None:
        self._as_json = options["as_json"]
        self._is_dry = options["dry_run"]
        self._several = several
        self._is_person = sys.stderr.isatty() and verbosity >= 0
        self._verbose = verbosity > 0
        self._lock = threading.Lock()
        self._bar: Any = None
        self._codes: list[int] = []
        self.fetched = self.deleted = self.octets = self.failed = 0

    def watch(self, account: str) -> "Watcher":
        """Return the watcher of one account."""
        return Watcher(self, account)

    def begin(self, messages: int) -> None:
        """Show a progress bar for so many messages."""
        with self._lock:
            if not messages or not self._is_person or (self._as_json and sys.stdout.isatty()):
                return
            if self._bar is None:
                self._bar = click.progressbar(length=0, label="fetching", file=sys.stderr)
                self._bar.__enter__()
            self._bar.length += messages

    def came(self, account: str, mailbox: str, message: Fetched, problem: str) -> None:
        """Report one message."""
        with self._lock:
            if self._bar is not None:
                self._bar.update(1)
            if problem:
                self.failed += 1
                where = f"{account}: " if account and self._several else ""
                warn(f"{where}message {message.item.number} was not fetched: {problem}")
            else:
                self.fetched += 1
                self.octets += message.body.size
            if self._as_json:
                self._line(account, mailbox, message.item, "failed" if problem else "fetched", message)

    def problem(self, account: str, problem: MailError) -> None:
        """Report what could not be done while the rest was."""
        with self._lock:
            warn(f"{account}: {problem}" if account else str(problem))
            self._codes.append(exits.code_for(problem) or exits.TEMP_FAIL)

    def deleted_some(self, account: str, mailbox: str, items: Sequence[Item]) -> None:
        """Report messages that were deleted on the server."""
        with self._lock:
            self.deleted += len(items)
            if self._as_json:
                for item in items:
                    self._line(account, mailbox, item, "deleted", None)

    def would(self, account: str, mailbox: str, items: Sequence[Item]) -> None:
        """Report messages that would be fetched."""
        with self._lock:
            self.fetched += len(items)
            for item in items:
                if self._as_json:
                    self._line(account, mailbox, item, "new", None)
                else:
                    cells = (
                        [account] * self._several
                        + [mailbox] * bool(mailbox)
                        + [item.name, str(item.size or "")]
                    )
                    click.echo("\t".join(visible(cell) for cell in cells))

    def _line(self, account: str, mailbox: str, item: Item, status: str, message: Fetched | None) -> None:
        found: dict[str, Any] = {"status": status}
        found |= {"account": account} if account else {}
        found |= {"mailbox": mailbox} if mailbox else {}
        found |= {"name": item.name, "size": item.size}
        if message is not None and not message.problem:
            found |= {"size": item.size or message.body.size, **mbox_form.summary(message.body)}
        click.echo(json_line(found))

    def end(self, codes: list[int]) -> int:
        """Remove the bar, print a summary for people; return the exit code."""
        if self._bar is not None:
            self._bar.update(max(0, self._bar.length - self._bar.pos))
            self._bar.__exit__(None, None, None)
        if self._is_person and not self._is_dry and not (codes and not self.fetched):
            print(self._summary(), file=sys.stderr)
        codes = codes + self._codes + [exits.TEMP_FAIL] * bool(self.failed)
        return exits.worst(codes) if codes else exits.OK if self.fetched else exits.NOTHING

    def _summary(self) -> str:
        if not self.fetched and not self.deleted:
            return "no new mail"
        text = f"{self.fetched} message{'' if self.fetched == 1 else 's'}, {_shown_size(self.octets)}"
        return text + (f"; {self.deleted} deleted on the server" if self.deleted else "")


class Watcher:
    """The report of one account, as services/fetch/collect calls it."""

    def __init__(self, report: FetchReport, account: str) -> None:
        self._report = report
        self._account = account

    def begin(self, messages: int) -> None:
        """Report how many messages will come."""
        self._report.begin(messages)

    def came(self, mailbox: str, message: Fetched, problem: str) -> None:
        """Report that a message was stored, or was not."""
        self._report.came(self._account, mailbox, message, problem)

    def deleted(self, mailbox: str, items: Sequence[Item]) -> None:
        """Report messages that were deleted on the server."""
        self._report.deleted_some(self._account, mailbox, items)

    def would(self, mailbox: str, items: Sequence[Item]) -> None:
        """Report messages that would be fetched."""
        self._report.would(self._account, mailbox, items)

    def failed(self, problem: MailError) -> None:
        """Print what could not be done, and remember its exit code."""
        self._report.problem(self._account, problem)

    def warn(self, text: str) -> None:
        """Print a warning."""
        warn(f"{self._account}: {text}" if self._account else text)


def _shown_size(octets: int) -> str:
    size = float(octets)
    for unit in ("octets", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "octets" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
