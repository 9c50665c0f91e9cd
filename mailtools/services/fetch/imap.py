r"""Fetches mail from an IMAP server.

This module knows no mbox and no state. It opens a mailbox read-only (EXAMINE, RFC 9051 §6.3.3) unless it
has to change something, and reads messages with BODY.PEEK[]: \Seen is set only if asked for. One FETCH
asks for hundreds of messages, and the next one is sent before the reply to the last.

RFC 9051 leaves to clients how mailbox names are shown: here with "/" between their levels, whatever the
server uses.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from typing import Any

from mailtools import __version__
from mailtools.core.auth.client import Mechanism, printable
from mailtools.core.engine import RemoteProtocolError
from mailtools.core.errors import MailError, MissingInputError, ProtocolError, TemporaryError
from mailtools.core.imap import grammar, utf7
from mailtools.core.imap.client import Continue, Data, FetchedMessage, ImapClient, ImapPiece, Status
from mailtools.core.message import date
from mailtools.services.access import IMPLICIT, STARTTLS, no_login_fits, overheard
from mailtools.services.fetch.remote import (
    TEMPORARY_CODES,
    Fetched,
    FetchTarget,
    FetchWishes,
    Item,
    LoginAnswer,
    RefusedInMailboxError,
    RefusedMailboxError,
    Wire,
    check_login,
    is_busy,
    refused_before,
    sasl_login,
)
from mailtools.services.fetch.rounds import Rounds
from mailtools.services.transit import mbox_form
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.net.client_connection import LostConnectionError

_TOGETHER = 250  # messages in one FETCH
_AHEAD = 2  # FETCH commands without a reply yet
_MOST_MAILBOXES = 100_000
_LOOK_AGAIN = 1.0  # seconds between checks of is_stopping
_IDLE = 540.0  # seconds; servers and NATs drop clients that are silent for longer
_MOST = 10_000_000  # messages in a mailbox
_PERMANENT = ("NONEXISTENT", "NOPERM", "CANNOT", "TRYCREATE")  # why a mailbox is not opened
_LISTS = ("LIST", "SEARCH", "FETCH")  # commands that responses of the same name answer; and ESEARCH
_MOST_SEARCHED = 100  # responses to one SEARCH that count as progress
_MOST_UNWANTED = 10  # large messages that nobody asked for, beside as many as were asked for
_LARGEST = 4 << 30  # octets of a message
_DAY = 86400
_PLAIN_NAME = re.compile("[A-Za-z0-9 _-]+")  # of a mailbox: the same here and on the server


class ImapRemote:
    """One IMAP session."""

    def __init__(self, target: FetchTarget) -> None:
        """Connect and log in. Raises MailError."""
        self._engine = ImapClient()
        self._wire = Wire(target, self._engine)
        self._target = target
        self._raw: dict[str, str] = {}  # the name of a mailbox as shown -> as the server has it
        self._exists = 0
        self._seen = 0  # messages that were listed and are still there
        self._problems: list[MailError] = []
        try:
            self._open()
        except BaseException:  # Ctrl-C too: nobody else has the connection yet
            self.close()
            raise

    # -- opening ---------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._target.access.tls == IMPLICIT:
            self._wire.start_tls()
        greeting = self._event()
        if not isinstance(greeting, Status) or greeting.kind not in ("OK", "PREAUTH"):
            text = greeting.text if isinstance(greeting, Status) else "not a greeting"
            raise TemporaryError(f"{self._target.host} takes no calls now: {text}")
        if self._target.access.tls == STARTTLS:
            self._start_tls(greeting)
        if greeting.kind != "PREAUTH":
            self._learn()
            self._log_in()
        self._learn()
        self._identify()
        is_far = not self._wire.pump.is_private  # on this machine compression would only cost time
        if (
            is_far
            and "COMPRESS=DEFLATE" in self._engine.capabilities
            and self._ask("COMPRESS DEFLATE")[0].is_ok
        ):
            self._engine.start_compression()

    def _start_tls(self, greeting: Status) -> None:
        if greeting.kind == "PREAUTH":  # the session would continue without TLS
            raise ProtocolError(
                f"{self._target.host} is past the login already, before TLS, which is required"
            )
        answer = self._ask("STARTTLS")[0]
        if not answer.is_ok:
            raise ProtocolError(f"{self._target.host} does not do STARTTLS, which is required: {answer.text}")
        self._engine.start_tls()
        self._wire.start_tls()

    def _learn(self) -> None:
        if not self._engine.capabilities:
            self._ask("CAPABILITY")

    def _log_in(self) -> None:
        target, engine, access = self._target, self._engine, self._target.access
        offered = [name[5:] for name in engine.capabilities if name.startswith("AUTH=")]
        refusal = sasl_login(self._wire, offered, self._authenticate)
        if refusal is None:
            return
        is_disabled = "LOGINDISABLED" in engine.capabilities
        if access.is_token or access.auth not in ("", "login", "plain") or is_disabled:
            if refusal.how:
                check_login(target, *refusal)
            raise no_login_fits(target.host, sorted(offered), access)
        if not self._wire.is_safe:
            if refusal.how:
                check_login(target, *refusal)
            raise overheard("a password", "--tls starttls or implicit")
        engine.capabilities = engine.capabilities & {"LITERAL+", "LITERAL-"}
        engine.command("LOGIN {} {}", access.user, self._wire.password())
        with refused_before(target, refusal):
            answer = self._answer("LOGIN")
        engine.capabilities = frozenset()  # RFC 9051 §6.2.3: those of before the login do not count
        check_login(target, "LOGIN", self._login_answer(answer))

    def _authenticate(self, name: str, steps: Mechanism) -> LoginAnswer:
        self._engine.authenticate(name, steps)
        answer = self._answer("AUTHENTICATE")
        if answer.is_ok and answer.code != "CAPABILITY":
            self._engine.capabilities = frozenset()  # RFC 9051 §6.2.2: those of before do not count
        return self._login_answer(answer)

    def _login_answer(self, answer: Status) -> LoginAnswer:
        is_final = answer.code in ("AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "EXPIRED")
        is_temporary = answer.code in TEMPORARY_CODES or (not is_final and is_busy(answer.text))
        note = self._engine.login_note
        return LoginAnswer(answer.is_ok, printable(answer.text), is_temporary, note, is_final)

    def _identify(self) -> None:
        """Say who we are, where servers ask (RFC 2971): some refuse to open a mailbox to a client unknown."""
        if "ID" in self._engine.capabilities:
            self._ask(f'ID ("name" "mailtools" "version" "{__version__}")')

    # -- mailboxes -------------------------------------------------------------------------------------------

    def mailboxes(self, patterns: Collection[str]) -> list[str]:
        """Return the mailboxes that match: ``*`` and ``?`` match anything, also "/". Raises MailError."""
        names = [_fold(pattern) for pattern in patterns]
        if not all(_PLAIN_NAME.fullmatch(name) for name in names):
            self._list(is_needed=any(set("*?%") & set(name) for name in names))
        found: list[str] = []
        for name in names:
            fitting = self._fitting(name)
            if not fitting:
                self._problems.append(MissingInputError(f"{self._target.host} has no mailbox {name!r}"))
            found += fitting
        return list(dict.fromkeys(found))

    def _fitting(self, name: str) -> list[str]:
        """Return the mailbox *name*; if there is none, those that it matches as a pattern.

        A name without wildcards may exist although it is not listed.
        """
        from fnmatch import translate

        if name in self._raw:
            return [name]
        if as_raw := next((shown for shown, raw in self._raw.items() if raw == name), ""):
            return [as_raw]
        if not set("*?%") & set(name):
            return [name]
        pattern = translate(name.replace("[", "[[]").replace("%", "*"))
        matches, is_inbox = re.compile(pattern).match, re.compile(pattern, re.IGNORECASE).match("INBOX")
        return sorted(one for one in self._raw if matches(one) or (one == "INBOX" and is_inbox))

    def _list(self, is_needed: bool) -> None:
        """Ask for all mailboxes. *is_needed*: a refusal is a problem."""
        answer, data = self._ask('LIST "" "*"')
        if not answer.is_ok and is_needed:
            text = f"{self._target.host} does not list its mailboxes: {answer.text}"
            self._problems.append(TemporaryError(text))
        for entry in data:
            if entry.name != "LIST":
                continue
            if len(entry.words) < 3 or not isinstance(entry.words[0], list):
                text = f"{self._target.host} lists a mailbox in a form that cannot be read; passed over"
                self._problems.append(TemporaryError(text))
                continue
            attributes, delimiter, name = entry.words[:3]
            flags = {word.lower() for word in attributes if isinstance(word, bytes)}
            if flags & {b"\\noselect", b"\\nonexistent"} or not isinstance(name, bytes) or b"\0" in name:
                continue
            shown = utf7.decode(name)
            if isinstance(delimiter, bytes) and delimiter not in (b"", b"/"):
                shown = shown.replace("/", "\u2215").replace(delimiter.decode("latin-1"), "/")
            self._raw[_fold(shown)] = name.decode("utf-8", "surrogateescape")
            if len(self._raw) > _MOST_MAILBOXES:
                raise RemoteProtocolError(f"{self._target.host} lists more than {_MOST_MAILBOXES} mailboxes")

    def select(self, mailbox: str, to_change: bool) -> str:
        """Open *mailbox*; return its UIDVALIDITY. Raises MailError."""
        raw = self._raw.get(mailbox) or utf7.encode(mailbox)
        verb = "SELECT" if to_change else "EXAMINE"
        if raw.isascii() and raw.isprintable():
            self._engine.command(f"{verb} {grammar.quoted(raw)}")
        else:
            self._engine.command(f"{verb} {{}}", raw)  # only a literal may hold other octets
        self._exists, validity = 0, ""
        while True:
            event = self._next()
            if isinstance(event, Data) and event.name == "EXISTS":
                self._exists = event.number
            elif isinstance(event, Status) and event.code == "UIDVALIDITY":
                validity = event.argument.decode("latin-1")
            if isinstance(event, Status) and event.command:
                break
        if not event.is_ok:
            text = f"{self._target.host} does not open {mailbox!r}: {event.text}"
            is_gone = event.code in _PERMANENT
            raise RefusedMailboxError(MissingInputError(text) if is_gone else TemporaryError(text))
        if not validity.isdigit():
            text = f"{self._target.host} tells no UIDVALIDITY of {mailbox!r}: what is new cannot be told"
            raise RefusedMailboxError(ProtocolError(text))
        return validity

    def problems(self) -> list[MailError]:
        """Return what went wrong without ending the session, each problem once."""
        found, self._problems = self._problems, []
        return found

    def items(self, wishes: FetchWishes) -> list[Item]:
        """Return all messages, with sizes if a wish needs them. Raises MailError."""
        self._seen = self._exists
        if not self._exists:
            return []
        sizes = self._uids_and_sizes() if wishes.max_size else {}
        found = set(sizes) if len(sizes) >= self._exists else {*self._search("ALL"), *sizes}
        if len(found) < self._exists and not sizes:  # a server may search less than it has
            sizes = self._uids_and_sizes()
            found.update(sizes)
        if len(found) < self._exists:
            text = f"{self._target.host} lists {len(found)} of {self._exists} messages"
            self._problems.append(TemporaryError(text))
        return [Item(uid, str(uid), sizes.get(uid, 0)) for uid in sorted(found)]

    def _uids_and_sizes(self) -> dict[int, int]:
        """Return the sizes of all messages by UID, as far as the server tells them."""
        found: dict[int, int] = {}
        for entry in self._ask("UID FETCH 1:* (UID RFC822.SIZE)")[1]:
            attributes = grammar.pairs(entry.words[0]) if entry.name == "FETCH" and entry.words else {}
            if uid := _number(attributes, b"UID"):
                found[uid] = _number(attributes, b"RFC822.SIZE")
        return found

    def _search(self, what: str) -> list[int]:
        """Return the UIDs that match *what*; after a limit (RFC 9738 §3.1) the search goes on below it."""
        found: set[int] = set()
        below = ""
        while True:
            answer, data = self._ask(f"UID SEARCH {below}{what}")
            if not answer.is_ok and answer.code != "MESSAGELIMIT":
                raise RefusedInMailboxError(f"{self._target.host} does not search: {answer.text}")
            for entry in data:
                found.update(_searched(entry))
            lowest = answer.argument.rpartition(b" ")[2] if answer.code == "MESSAGELIMIT" else b""
            following = f"UID 1:{int(lowest) - 1} " if lowest.isdigit() and 1 < int(lowest) < 1 << 32 else ""
            if not following or (below and int(lowest) > int(below[6:]) + 1) or following == below:
                return sorted(found)
            below = following

    def since(self, items: list[Item], seconds: float) -> set[str]:
        """Return the names of messages that arrived on that day or later: SEARCH knows only days.

        Raises MailError.
        """
        day = grammar.search_date(*date.civil(int(seconds) // _DAY))
        return {str(uid) for uid in self._search(f"SINCE {day}")}

    # -- messages --------------------------------------------------------------------------------------------

    def fetch(self, items: Iterable[Item], beside: str) -> Iterator[Fetched]:
        """Fetch many messages with each FETCH. Raises MailError, OSError."""
        wanted = {item.number: item for item in items}
        rounds = Rounds(sorted(wanted), min(_TOGETHER, self._message_limit()))
        arriving: mbox_form.MboxIntake | None = None
        unwanted = 0  # large messages that nobody asked for
        while not rounds.is_done:
            while rounds.under_way < _AHEAD and (uids := rounds.next_set()):
                (text,) = grammar.sets(uids)
                self._engine.command(f"UID FETCH {text} (UID INTERNALDATE BODY.PEEK[])")
            event = self._next()
            if isinstance(event, Status) and event.command:
                rounds.ended("" if event.is_ok else event.text or "refused")
            elif isinstance(event, FetchedMessage):
                if event.octets is None:
                    rounds.failed(_number(event.attributes, b"UID"), "the server has no text of it (NIL)")
                elif rounds.came(uid := _number(event.attributes, b"UID")):
                    body = Buffer(beside)
                    body.append(mbox_form.stored(event.octets))
                    yield Fetched(wanted[uid], body, _moment(event.attributes.get(b"INTERNALDATE")))
                    self._wire.renew()  # storing took its time, too
            elif isinstance(event, ImapPiece):
                arriving = arriving or mbox_form.MboxIntake(beside=beside)
                arriving.take(event.octets)
                if arriving.body.size > _LARGEST or unwanted > _MOST_UNWANTED + len(wanted):
                    raise RemoteProtocolError(f"{self._target.host} sends messages without end")
                if event.attributes is not None:
                    arriving.end()
                    body, arriving = arriving.body, None
                    if rounds.came(uid := _number(event.attributes, b"UID")):
                        yield Fetched(wanted[uid], body, _moment(event.attributes.get(b"INTERNALDATE")))
                        self._wire.renew()
                    else:
                        body.close()
                        unwanted += 1
        for uid, why in rounds.missing.items():
            yield Fetched(wanted[uid], Buffer(), 0.0, why)

    def _message_limit(self) -> int:
        """Return how many messages the server gives for one command (MESSAGELIMIT=, RFC 9738)."""
        limits = [name[13:] for name in self._engine.capabilities if name.startswith("MESSAGELIMIT=")]
        return max(1, min([int(text) for text in limits if text.isdigit()] or [_TOGETHER]))

    def mark_seen(self, items: list[Item]) -> None:
        r"""Set \Seen. Raises MailError."""
        self._store(items, "\\Seen")

    def delete(self, items: list[Item]) -> None:
        """Remove *items*, and no other message that is marked as deleted.

        Raises RefusedInMailboxError, MailError.
        """
        self._store(items, "\\Deleted")
        if "UIDPLUS" in self._engine.capabilities or "IMAP4REV2" in self._engine.capabilities:
            for text in grammar.sets(sorted(item.number for item in items)):
                self._do(f"UID EXPUNGE {text}", "remove messages", items)
            return
        others = set(self._search("DELETED")) - {item.number for item in items}
        if others:
            raise RefusedInMailboxError(
                f"{self._target.host} cannot remove some marked messages and leave others (UIDPLUS), and"
                f" {len(others)} others are marked: what was fetched is marked too, and nothing is removed",
                items,
            )
        self._do("EXPUNGE", "remove messages", items)

    def _store(self, items: list[Item], flag: str) -> None:
        for text in grammar.sets(sorted(item.number for item in items)):
            self._do(f"UID STORE {text} +FLAGS.SILENT ({flag})", f"set {flag}", items)

    def _do(self, command: str, what: str, items: list[Item]) -> None:
        answer = self._ask(command)[0]
        if not answer.is_ok:
            raise RefusedInMailboxError(f"{self._target.host} does not {what}: {answer.text}", items)

    # -- waiting, and the end --------------------------------------------------------------------------------

    def wait_for_mail(self, is_stopping: Callable[[], bool]) -> None:
        """Wait with IDLE (RFC 2177) until there are more messages than before. Raises MailError."""
        if not {"IDLE", "IMAP4REV2"} & self._engine.capabilities:
            raise ProtocolError(f"{self._target.host} cannot tell of new mail (IDLE); run fetch by cron")
        while self._exists <= self._seen and not is_stopping():
            self._idle(is_stopping)

    def _idle(self, is_stopping: Callable[[], bool]) -> None:
        """Send one IDLE: until mail comes, or the server has to hear from us again."""
        self._engine.command("IDLE")
        self._wire.pump.flush()
        self._wire.renew()
        while not isinstance(event := self._next(), Continue):
            if isinstance(event, Status) and event.command:
                raise ProtocolError(f"{self._target.host} does not wait with us (IDLE): {event.text}")
        end = clock.monotonic() + _IDLE
        usual, self._wire.pump.timeout = self._wire.pump.timeout, _IDLE
        self._wire.pump.deadline = None
        while clock.monotonic() < end and not is_stopping():
            # Some events come in one segment with the continuation: the socket tells nothing of them.
            while (event := self._wire.pump.poll_event()) is not None:
                self._note(event)
            if self._exists > self._seen:
                break
            self._wire.pump.wait_at_most(_LOOK_AGAIN)
        self._wire.pump.timeout = usual
        self._wire.renew()
        self._engine.done()
        self._answer("IDLE")

    def leave(self) -> None:
        """Send LOGOUT and wait for its reply, whatever it is."""
        with suppress(TemporaryError, RemoteProtocolError):
            self._ask("LOGOUT")
        self.close()

    def close(self) -> None:
        """Close without LOGOUT."""
        self._wire.pump.close()

    # -- answers ---------------------------------------------------------------------------------------------

    def _ask(self, command: str) -> tuple[Status, list[Data]]:
        """Send a command; return its reply and the listings that came before it.

        Only what the command asks for is progress, and no more of it than there can be.
        """
        self._engine.command(command)
        wanted = next((name for name in _LISTS if name in command), "")
        most = {"LIST": _MOST_MAILBOXES, "FETCH": 2 * self._exists}.get(wanted, _MOST_SEARCHED)
        data: list[Data] = []
        while True:
            event = self._next()
            if isinstance(event, Data) and wanted and event.name.endswith(wanted):
                data.append(event)
                if len(data) <= most:
                    self._wire.progress(64)
                if len(data) > _MOST_MAILBOXES + 2 * self._exists:
                    raise RemoteProtocolError(f"{self._target.host} answers {command} without end")
            elif isinstance(event, Status) and event.command:
                return event, data

    def _answer(self, command: str) -> Status:
        while True:
            event = self._next()
            if isinstance(event, Status) and event.command == command:
                return event

    def _next(self) -> object:
        """Return the next event, after noting what it changes. Raises MailError."""
        return self._note(self._event())

    def _note(self, event: object) -> object:
        if isinstance(event, Data):
            if event.name == "EXISTS":
                self._exists = event.number
                self._seen = min(self._seen, event.number)
            elif event.name == "EXPUNGE":
                self._exists = max(0, self._exists - 1)
                if event.number <= self._seen:  # a new message may take the place of a listed one
                    self._seen = max(0, self._seen - 1)
        elif isinstance(event, ImapPiece):
            self._wire.progress(len(event.octets))
        elif isinstance(event, Status):
            if event.kind == "BYE" and "LOGOUT" not in self._engine.awaited:
                raise LostConnectionError(f"{self._target.host} closes the connection: {event.text}")
            if event.command:
                self._wire.renew()
            else:
                self._wire.keep_alive()
        return event

    def _event(self) -> object:
        return self._wire.pump.next_event()


def _fold(name: str) -> str:
    """Return *name* with INBOX in upper case: it is the same in any case (RFC 9051 §5.1)."""
    return "INBOX" + name[5:] if name[:5].upper() == "INBOX" and name[5:6] in ("", "/") else name


def _searched(entry: Data) -> list[int]:
    """Return the numbers in a response SEARCH, or ESEARCH (RFC 9051 §7.3.4)."""
    if entry.name == "SEARCH":
        return grammar.numbers(entry.words)
    if entry.name == "ESEARCH":
        for name, value in zip(entry.words, entry.words[1:], strict=False):
            if isinstance(name, bytes) and name.upper() == b"ALL" and isinstance(value, bytes):
                return grammar.expanded(value, _MOST)
    return []


def _number(attributes: dict[bytes, Any], name: bytes) -> int:
    """Return a number in a FETCH response, 0 if it has none of this name."""
    word = attributes.get(name)
    return int(word) if isinstance(word, bytes) and word.isdigit() and len(word) <= 19 else 0


def _moment(value: Any) -> float:
    """Return INTERNALDATE (``22-Aug-2002 12:00:00 +0200``) in seconds; the time now if it cannot be read."""
    moment = date.parse(value.strip().replace(b"-", b" ", 2)) if isinstance(value, bytes) else None
    return float(moment.seconds) if moment is not None else clock.now()
