"""A POP3 session: a snapshot of a user's INBOX, the messages that are sent from it, and what QUIT removes.

Each connection has one `MaildropSession`, which answers the engine's questions. Opening, removing, and
looking for messages that another program moved take long: a worker does them, and the question is answered
later. If another program holds the lock the worker tries again after a pause; no worker waits. This module
knows no socket.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys, LoginFailed
from mailtools.core.engine import Question
from mailtools.core.errors import LockTimeoutError, MailError, TemporaryError
from mailtools.core.pop3 import events
from mailtools.core.pop3.events import Event, MaildropSize, Refusal, Retrieved
from mailtools.core.pop3.server import Pop3ServerEngine
from mailtools.core.wire.conversation import Block, NextBlock, Unreadable
from mailtools.services.mailbox.snapshot import Snapshot, open_at_once
from mailtools.services.pop3_server.wire import listing
from mailtools.services.users.login import Logins
from mailtools.system import clock
from mailtools.system.mbox.mailroot import MailRoot
from mailtools.system.process.pool import Run

A = TypeVar("A")
T = TypeVar("T")

_GONE = Refusal("the message is gone: another program took it out of the mbox", "SYS/TEMP")
_NO_SUCH = Refusal("no such message")
_LOCKED = Refusal("another program has locked the maildrop, try again later", "SYS/TEMP")
_UNREADABLE = Refusal("the maildrop cannot be read", "SYS/TEMP")
_NOTHING_REMOVED = Refusal("nothing was removed: the maildrop is busy, try again later", "SYS/TEMP")
_LOOK_AGAIN = 0.05  # seconds between two attempts to lock the mbox
_READING = 10.0  # seconds after which an attempt to read gives up the lock
_REMOVING = 30.0
_END = Block(b"", True)


def _at_once(_: float, callback: Callable[[], None]) -> None:
    callback()


class Pop3Ports(NamedTuple):
    """What the sessions of a server share."""

    root: MailRoot
    run: Run
    log: Callable[[str], None]
    warn: Callable[[str], None]
    login_delay: float = 0.0  # seconds between two logins of one user
    last_logins: dict[str, float] = {}  # noqa: RUF012 - the service gives one to all sessions
    later: Callable[[float, Callable[[], None]], Any] = _at_once  # run a callback after so many seconds


class MaildropSession:
    """The decisions of one session. *resume* is called after a question was answered later."""

    __slots__ = (
        "_blocks", "_box", "_ended", "_engine", "_is_lost", "_is_searching", "_login", "_logins",
        "_marked", "_peer", "_ports", "_resume", "_user",
    )  # fmt: skip

    def __init__(
        self,
        engine: Pop3ServerEngine,
        logins: Logins,
        peer: str,
        ports: Pop3Ports,
        resume: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._logins = logins
        self._login = logins.client(peer)
        self._peer = peer
        self._ports = ports
        self._resume = resume
        self._box: Snapshot | None = None
        self._marked: set[int] = set()  # the messages marked as deleted, from 0
        self._blocks: Iterator[bytes] = iter(())  # the rest of the message that is being sent
        self._ended = False
        self._is_searching = False  # a worker uses the snapshot
        self._is_lost = False
        self._user = ""
        engine.mechanisms = self._mechanisms

    def handle(self, event: Event) -> None:
        """Handle *event*. A question is answered now, or later if that takes time."""
        _HANDLERS[type(event)](self, event)

    def lost(self) -> None:
        """Give up what waits for the client alone: its login, a maildrop that is locked."""
        self._is_lost = True
        self._login.leave()

    def _mechanisms(self) -> tuple[str, ...]:
        engine = self._engine
        return self._logins.mechanisms(self._peer, engine.is_secure, bool(engine.bindings))

    def _answer_later(self, question: Question[A], value: A) -> None:
        self._engine.answer(question, value)
        self._resume()

    def _patiently(
        self, patience: float, task: Callable[[bool], T], done: Callable[[T | Refusal | None], None]
    ) -> None:
        """Let a worker do *task*, and again while it raises LockTimeoutError.

        Then call *done* with the result.

        The argument of the task is True at its last attempt. *patience*: seconds until then.
        """
        deadline = clock.monotonic() + patience

        def attempt() -> T | LockTimeoutError:
            try:
                return task(clock.monotonic() > deadline)
            except LockTimeoutError as error:
                return error

        def came(outcome: T | LockTimeoutError | None) -> None:
            if not isinstance(outcome, LockTimeoutError):
                done(outcome)
            elif self._is_lost and patience == _READING:  # QUIT is carried out for a client that is gone, too
                done(_LOCKED)
            elif clock.monotonic() > deadline + _LOOK_AGAIN:
                self._ports.warn(str(outcome))
                done(_LOCKED)
            else:
                self._ports.later(_LOOK_AGAIN, begin)

        def begin() -> None:
            self._ports.run(attempt, came, self._user)

        begin()

    # -- logging in -----------------------------------------------------------------------------------------

    def _connected(self, question: events.BannerWanted) -> None:
        has_apop = self._logins.have_plain and bool(self._mechanisms())
        banner = f"<{clock.identity()}@{self._engine.offer.host}>" if has_apop else ""
        self._engine.answer(question, banner)

    def _check_password(self, question: CheckPassword | CheckDigest) -> None:
        def answer(is_right: bool | None) -> None:
            self._answer_later(question, is_right)

        self._login.check(question, answer)

    def _find_keys(self, question: FindKeys) -> None:
        self._login.find_keys(question, lambda found: self._answer_later(question, found))

    def _login_failed(self, event: LoginFailed) -> None:
        self._login.failed()
        who = self._peer or "a local client"
        self._ports.warn(f"login of {event.user!r} from {who} failed: {event.reason}")

    def _logged_in(self, question: events.MaildropWanted) -> None:
        self._login.succeeded()
        user, ports, now = self._logins.user_of(question.user), self._ports, clock.monotonic()
        if ports.login_delay:
            if now < ports.last_logins.get(user, -ports.login_delay) + ports.login_delay:
                self._engine.answer(question, Refusal("wait before you log in again", "LOGIN-DELAY"))
                return
            ports.last_logins[user] = now
        self._user = user

        def opened(found: Snapshot | Refusal | None) -> None:
            if isinstance(found, Snapshot):
                self._opened(question, found)
            else:
                refusal = found or Refusal("the server is busy, try again later", "SYS/TEMP")
                self._answer_later(question, refusal)

        self._patiently(_READING, lambda is_last: self._open(user, is_last), opened)

    def _open(self, user: str, is_last: bool) -> Snapshot | Refusal:
        try:
            path = self._ports.root.inbox(user)
            return Snapshot(path, open_at_once(path, is_last))
        except LockTimeoutError:
            raise
        except ValueError:
            return Refusal("no mailbox can have that name", "SYS/PERM")
        except (MailError, OSError) as error:
            self._ports.warn(f"the maildrop of {user!r} cannot be opened: {error}")
            is_temporary = isinstance(error, TemporaryError)
            return Refusal("the maildrop cannot be opened", "SYS/TEMP" if is_temporary else "SYS/PERM")

    def _opened(self, question: events.MaildropWanted, box: Snapshot) -> None:
        if self._ended:  # the client closed the connection meanwhile
            box.close()
            return
        self._box = box
        size = self._size()
        who = self._peer or "a local client"
        self._ports.log(f"login of {self._user!r} from {who}: {size.messages} messages")
        self._answer_later(question, size)

    # -- the maildrop ---------------------------------------------------------------------------------------

    @property
    def _opened_box(self) -> Snapshot:
        assert self._box is not None  # the engine asks about messages only after the login
        return self._box

    def _size(self) -> MaildropSize:
        return MaildropSize(*self._opened_box.size(self._marked))

    def _index(self, number: int) -> int:
        """Return the index from 0 of message *number* from 1. Raises NoSuchMessageError."""
        if number > len(self._opened_box) or number - 1 in self._marked:
            raise NoSuchMessageError
        return number - 1

    def _stat(self, question: events.Stat) -> None:
        self._engine.answer(question, self._size())

    def _list_all(self, question: events.ListAll) -> None:
        box = self._opened_box
        self._engine.answer(question, listing(box.names if question.names else box.sizes, self._marked))

    def _list_one(self, question: events.ListOne) -> None:
        box = self._opened_box
        try:
            index = self._index(question.number)
        except NoSuchMessageError:
            self._engine.answer(question, _NO_SUCH)
            return
        value = box.names[index] if question.names else box.octets(index)
        self._engine.answer(question, f"{question.number} {value}")

    def _retrieve(self, question: events.Retrieve) -> None:
        box = self._opened_box
        try:
            index = self._index(question.number)
            blocks = box.message_at_once(index)
        except NoSuchMessageError:
            self._engine.answer(question, _NO_SUCH)
        except OSError as error:
            self._engine.answer(question, self._unreadable(error.strerror or str(error)))
        else:
            if blocks is None:
                self._search(box, index, question)
            else:
                self._engine.answer(question, self._begin(box, index, blocks))

    def _search(self, box: Snapshot, index: int, question: events.Retrieve) -> None:
        """Another program rewrote the mbox: let a worker look for the message."""

        def find(is_last: bool) -> bytes | Iterator[bytes] | Refusal:
            try:
                found = box.message(index, is_last)
            except OSError as error:
                return self._unreadable(error.strerror or str(error))
            return _GONE if found is None else found

        def found(outcome: bytes | Iterator[bytes] | Refusal | None) -> None:
            self._is_searching = False
            if self._ended:
                box.close()
            elif outcome is None or isinstance(outcome, Refusal):
                self._answer_later(question, outcome or _UNREADABLE)
            else:
                self._answer_later(question, self._begin(box, index, outcome))

        self._is_searching = True
        self._patiently(_READING, find, found)

    def _begin(self, box: Snapshot, index: int, message: bytes | Iterator[bytes]) -> Retrieved | Refusal:
        """Begin to send *message*: return its first block."""
        size = box.octets(index)
        if isinstance(message, bytes):
            return Retrieved(size, Block(message, True), box.is_dotless(index))
        self._blocks = message
        block = self._read_block()
        return self._unreadable(block.reason) if isinstance(block, Unreadable) else Retrieved(size, block)

    def _next_block(self, question: NextBlock) -> None:
        self._engine.answer(question, self._read_block())

    def _read_block(self) -> Block | Unreadable:
        try:
            octets = next(self._blocks, None)
        except (OSError, MailError) as error:
            return Unreadable(str(error))
        return _END if octets is None else Block(octets, False)

    def _unreadable(self, reason: str) -> Refusal:
        self._ports.warn(f"the maildrop of {self._user!r} cannot be read: {reason}")
        return _UNREADABLE

    def _delete(self, question: events.Delete) -> None:
        try:
            self._marked.add(self._index(question.number))
        except NoSuchMessageError:
            self._engine.answer(question, _NO_SUCH)
        else:
            self._engine.answer(question, None)

    def _reset(self, question: events.Reset) -> None:
        self._marked.clear()
        self._engine.answer(question, self._size())

    def _update(self, question: events.Update) -> None:
        box, self._box = self._opened_box, None
        if not self._marked:
            box.close()
            self._engine.answer(question, None)
            return

        def removed(outcome: bool | Refusal | None) -> None:
            box.close()
            if outcome is True:
                self._answer_later(question, None)
            elif isinstance(outcome, Refusal) and outcome is not _LOCKED:
                self._answer_later(question, outcome)
            else:
                self._answer_later(question, _NOTHING_REMOVED)

        self._patiently(_REMOVING, lambda _: self._remove(box), removed)

    def _remove(self, box: Snapshot) -> bool | Refusal:
        """Remove the marked messages; return True, or why none was removed. Raises LockTimeoutError."""
        try:
            box.remove(self._marked, 0.0)
        except LockTimeoutError:
            raise
        except (MailError, OSError) as error:
            self._ports.warn(f"{box.path}: {error}")
            return Refusal("nothing was removed: the maildrop cannot be written", "SYS/TEMP")
        self._ports.log(f"{self._user!r} removed {len(self._marked)} messages")
        return True

    def _closed(self, event: events.MaildropClosed) -> None:
        if event.fault:
            self._ports.warn(f"the session of {self._user!r} was cut: {event.fault}")
        self._ended = True
        if self._box is not None and not self._is_searching:
            self._box.close()
        self._box = None


class NoSuchMessageError(Exception):
    """No message has this number, or the message is marked as deleted."""


_HANDLERS: dict[type, Callable[[MaildropSession, Any], None]] = {
    events.BannerWanted: MaildropSession._connected,
    CheckPassword: MaildropSession._check_password,
    CheckDigest: MaildropSession._check_password,
    FindKeys: MaildropSession._find_keys,
    events.MaildropWanted: MaildropSession._logged_in,
    LoginFailed: MaildropSession._login_failed,
    events.Stat: MaildropSession._stat,
    events.ListAll: MaildropSession._list_all,
    events.ListOne: MaildropSession._list_one,
    events.Retrieve: MaildropSession._retrieve,
    NextBlock: MaildropSession._next_block,
    events.Delete: MaildropSession._delete,
    events.Reset: MaildropSession._reset,
    events.Update: MaildropSession._update,
    events.MaildropClosed: MaildropSession._closed,
}
