"""Fetches mail from a POP3 server.

This module knows no mbox and no state. If the server offers PIPELINING (RFC 2449 §6.6), it sends `_WINDOW`
commands ahead of their replies, so that the server is not idle while a message is stored.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

from mailtools.core.auth.client import Mechanism, printable
from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import MailError, ProtocolError, TemporaryError
from mailtools.core.message import date, header
from mailtools.core.pop3.client import Answered, Listing, Pop3Client, Pop3Piece, numbered
from mailtools.services.access import IMPLICIT, STARTTLS, no_login_fits, overheard
from mailtools.services.fetch.remote import (
    TEMPORARY_CODES,
    Fetched,
    FetchTarget,
    FetchWishes,
    Item,
    LoginAnswer,
    RefusedInMailboxError,
    Wire,
    check_login,
    exceeds,
    is_busy,
    refused_before,
    sasl_login,
)
from mailtools.services.transit import mbox_form
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer

_WINDOW = 500  # commands ahead of their replies
_MOST = 1_000_000  # messages in a maildrop


class Pop3Remote:
    """One POP3 session."""

    def __init__(self, target: FetchTarget) -> None:
        """Connect and log in. Raises MailError."""
        self._engine = Pop3Client()
        self._wire = Wire(target, self._engine)
        self._target = target
        self._problems: list[MailError] = []
        self._deletes = False
        try:
            self._open()
        except BaseException:  # Ctrl-C too: nobody else has the connection yet
            self.close()
            raise

    # -- opening --------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._target.access.tls == IMPLICIT:
            self._wire.start_tls()
        greeting = self._answer()
        if not greeting.is_ok:
            raise TemporaryError(f"{self._target.host} takes no calls now: {greeting.text}")
        self._ask_capabilities()
        if self._target.access.tls == STARTTLS:
            answer = self._ask("STLS")
            if not answer.is_ok:
                raise ProtocolError(f"{self._target.host} does not do STLS, which is required: {answer.text}")
            self._engine.start_tls()
            self._wire.start_tls()
            self._ask_capabilities()
        self._log_in()
        self._ask_capabilities()  # some servers offer PIPELINING only after the login

    def _ask_capabilities(self) -> None:
        """Send CAPA. Servers older than 1998 have no CAPA, and offer nothing."""
        if self._ask("CAPA", is_long=True).is_ok:
            self._lines()

    def _log_in(self) -> None:
        target, engine, access = self._target, self._engine, self._target.access
        offered = engine.capabilities.get("SASL", "").split()
        refusal = sasl_login(self._wire, offered, self._auth)
        if refusal is None:
            return
        if engine.banner and not access.is_token and not access.auth and not self._wire.is_safe:
            engine.apop(access.user, self._wire.password())
            check_login(target, "APOP", self._login_answer())
        elif access.is_token or access.auth not in ("", "plain"):
            if refusal.how:
                check_login(target, *refusal)
            raise no_login_fits(target.host, offered, access)
        elif not self._wire.is_safe:
            if refusal.how:
                check_login(target, *refusal)
            raise overheard("a password", "--tls starttls or implicit")
        else:
            with refused_before(target, refusal):
                engine.command(f"USER {access.user}")
                answer = self._login_answer()
                if answer.is_ok:
                    engine.command(f"PASS {self._wire.password()}")
                    answer = self._login_answer()
            check_login(target, "USER and PASS", answer)

    def _auth(self, name: str, steps: Mechanism) -> LoginAnswer:
        self._engine.auth(name, steps, with_initial=True)
        return self._login_answer()

    def _login_answer(self) -> LoginAnswer:
        answer = self._answer()
        is_final = answer.code == "AUTH"  # RFC 3206 §5
        is_temporary = answer.code in TEMPORARY_CODES or (not is_final and is_busy(answer.text))
        note = self._engine.login_note
        return LoginAnswer(answer.is_ok, printable(answer.text), is_temporary, note, is_final)

    # -- what there is --------------------------------------------------------------------------------------

    def mailboxes(self, patterns: Collection[str]) -> list[str]:
        """Return the one mailbox of POP3."""
        return [""]

    def select(self, mailbox: str, to_change: bool) -> str:
        """POP3 has one mailbox, which is always selected."""
        return ""

    def items(self, wishes: FetchWishes) -> list[Item]:
        """Return numbers, names and sizes of all messages. Raises MailError."""
        named, sized = self._listings()
        sizes = {number: _size(value) for number, value in (sized or {}).items()}
        if named is None:
            if sized is None:
                raise TemporaryError(f"{self._target.host} lists no messages (UIDL, LIST)")
            if sizes and not wishes.delete:
                raise ProtocolError(
                    f"{self._target.host} gives its messages no names (UIDL): nobody can tell which are new;"
                    " fetch them with --delete"
                )
            return [Item(number, "", size) for number, size in sorted(sizes.items())]
        nameless = sorted(sizes.keys() - named.keys())
        if nameless and not wishes.delete:
            first = f"message {nameless[0]} and others" if len(nameless) > 1 else f"message {nameless[0]}"
            text = f"{self._target.host} gives {first} no name (UIDL): nobody can tell whether it is new"
            self._problems.append(TemporaryError(text))
        found = [Item(number, name, sizes.get(number, 0)) for number, name in _distinct(named)]
        return found + [Item(number, "", sizes[number]) for number in nameless if wishes.delete]

    def _listings(self) -> tuple[dict[int, str] | None, dict[int, str] | None]:
        """Return the listings UIDL and LIST by number; None for one that the server refuses."""
        commands = ("UIDL", "LIST")
        is_ahead = "PIPELINING" in self._engine.capabilities
        for command in commands if is_ahead else ():
            self._engine.command(command, is_long=True)
        found: list[dict[int, str] | None] = []
        for command in commands:
            if not is_ahead:
                self._engine.command(command, is_long=True)
            found.append(self._listing(command) if self._answer().is_ok else None)
        return found[0], found[1]

    def _listing(self, command: str) -> dict[int, str]:
        """Return a listing by number. A line that cannot be read stands in the way of no other."""
        lines, bad = numbered(self._lines())
        if len(lines) > _MOST:
            raise RemoteProtocolError(f"{self._target.host} lists more than {_MOST} messages")
        if bad:
            text = f"{self._target.host}: a line of {command} cannot be read: {printable(bad[0])}"
            self._problems.append(TemporaryError(text))
        return lines

    def problems(self) -> list[MailError]:
        """Return what went wrong without ending the session, each problem once."""
        found, self._problems = self._problems, []
        return found

    def since(self, items: list[Item], seconds: float) -> set[str]:
        """Return the names of messages whose Date is not older, as TOP shows it;

        Those without a Date count as new.

        Raises MailError.
        """
        found = {item.name for item in items}
        for item, answer in self._pipelined(items, lambda item: f"TOP {item.number} 0", is_long=True):
            if not answer.is_ok:
                continue
            octets = b"".join(self._blocks(item))
            value = header.value(octets[: header.body_offset(octets)], "Date")
            moment = date.parse(value) if value else None
            if moment is not None and moment.seconds < seconds:
                found.discard(item.name)
        return found

    # -- messages -------------------------------------------------------------------------------------------

    def fetch(self, items: Iterable[Item], beside: str) -> Iterator[Fetched]:
        """Send RETR for each message. Raises MailError, OSError."""
        for item, answer in self._pipelined(items, lambda item: f"RETR {item.number}", is_long=True):
            if answer.is_ok:
                yield Fetched(item, self._message(item, beside), clock.now())
            else:
                yield Fetched(item, Buffer(), 0.0, answer.text or "refused")
            self._wire.renew()  # storing took its time, too

    def _message(self, item: Item, beside: str) -> Buffer:
        event = self._event()
        if isinstance(event, Listing):
            self._wire.progress(len(event.octets))
            body = Buffer(beside)
            body.append(mbox_form.stored(event.octets))
            return body
        arriving = mbox_form.MboxIntake(beside=beside)
        for block in self._rest(event, item):
            arriving.take(block)
        arriving.end()
        return arriving.body

    def _blocks(self, item: Item) -> Iterator[bytes]:
        event = self._event()
        if isinstance(event, Listing):
            self._wire.progress(len(event.octets))
            return iter((event.octets,))
        return self._rest(event, item)

    def _rest(self, event: object, item: Item) -> Iterator[bytes]:
        """Yield the pieces of a large message; *event* is the first."""
        came = 0
        while isinstance(event, Pop3Piece):
            came += len(event.octets)
            if exceeds(came, item.size):
                raise RemoteProtocolError(
                    f"message {item.number} is larger than announced: {item.size} octets, and {came} came"
                )
            self._wire.progress(len(event.octets))
            if event.octets:
                yield event.octets
            if event.is_last:
                return
            event = self._event()
        raise RemoteProtocolError("an answer in the middle of a message")

    def _pipelined(
        self, items: Iterable[Item], command: Callable[[Item], str], is_long: bool
    ) -> Iterator[tuple[Item, Answered]]:
        """Send *command* for each item ahead of the replies; yield each item with its reply."""
        window = _WINDOW if "PIPELINING" in self._engine.capabilities else 1
        waiting: deque[Item] = deque()
        left = iter(items)
        while True:
            if len(waiting) <= window // 2:
                while len(waiting) < window and (item := next(left, None)) is not None:
                    self._engine.command(command(item), is_long)
                    waiting.append(item)
            if not waiting:
                return
            yield waiting.popleft(), self._answer()

    # -- the end --------------------------------------------------------------------------------------------

    def delete(self, items: list[Item]) -> None:
        """Mark *items* as deleted; they are removed by `leave`. Raises RefusedInMailboxError, MailError."""
        self._deletes = True
        answers = self._pipelined(items, lambda item: f"DELE {item.number}", is_long=False)
        left = {item: answer.text for item, answer in answers if not answer.is_ok}
        if left:
            first, why = next(iter(left.items()))
            others = f" and {len(left) - 1} others" if len(left) > 1 else ""
            raise RefusedInMailboxError(f"message {first.number}{others} could not be deleted: {why}", left)

    def mark_seen(self, items: list[Item]) -> None:
        """POP3 has no flags."""

    def wait_for_mail(self, is_stopping: Callable[[], bool]) -> None:
        """POP3 has no way to wait. Raises ProtocolError."""
        raise ProtocolError("POP3 does not tell of new mail")

    def leave(self) -> None:
        """Send QUIT. Raises MailError if messages that were deleted may still be there."""
        try:
            answer = self._ask("QUIT")
        except (TemporaryError, RemoteProtocolError):
            if self._deletes:
                raise
            return  # nothing depends on the server's goodbye
        finally:
            self.close()
        if not self._deletes:
            return
        if not answer.is_ok:
            raise TemporaryError(f"{self._target.host} did not delete all that it should: {answer.text}")

    def close(self) -> None:
        """Close without QUIT."""
        self._wire.pump.close()

    # -- answers --------------------------------------------------------------------------------------------

    def _ask(self, line: str, is_long: bool = False) -> Answered:
        self._engine.command(line, is_long)
        return self._answer()

    def _answer(self) -> Answered:
        event = self._event()
        if not isinstance(event, Answered):
            raise RemoteProtocolError("a message where an answer should be")
        self._wire.progress(64)
        return event

    def _lines(self) -> bytes:
        event = self._event()
        if not isinstance(event, Listing):
            raise RemoteProtocolError("no listing where one should be")
        self._wire.renew()
        return event.octets

    def _event(self) -> object:
        return self._wire.pump.next_event()


def _distinct(named: dict[int, str]) -> Iterator[tuple[int, str]]:
    """Yield number and name. Of messages with one name the second gets another, so that both are fetched.

    RFC 1939 §7 lets servers give one name to identical messages; some give it to different ones.
    """
    times: dict[str, int] = {}
    for number, name in sorted(named.items()):
        count = times[name] = times.get(name, 0) + 1
        yield number, name if count == 1 else f"{name} {count}"  # a UIDL holds no space


def _size(value: str) -> int:
    """Return the size in a line of LIST, 0 if it is none: it is a hint."""
    digits = value.split(" ", maxsplit=1)[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 15 else 0
