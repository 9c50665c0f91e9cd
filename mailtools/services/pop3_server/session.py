"""A POP3 session: a snapshot of a user's INBOX, what is shown of it, and what QUIT removes.

One `MaildropSession` a connection answers the engine's questions. What takes long (opening, removing, finding
again what another program moved) is done by the worker it is given and answered later. A lock that another
program holds is waited for by trying again after a while: no worker waits. Knows no socket.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol, TypeVar

from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys, LoginFailed
from mailtools.core.errors import LockTimeoutError, MailError, TemporaryError
from mailtools.core.pop3 import events
from mailtools.core.pop3.events import Event, Refusal
from mailtools.core.pop3.server import Pop3ServerEngine
from mailtools.services.mailbox.snapshot import Maildrop, open_at_once, top
from mailtools.services.users.login import Logins
from mailtools.system import clock
from mailtools.system.mbox.mailroot import MailRoot

T = TypeVar("T")

_GONE = Refusal("the message is gone: another program took it out of the mbox", "SYS/TEMP")
_NO_SUCH = Refusal("no such message")
_LOCKED = Refusal("another program has locked the maildrop, try again later", "SYS/TEMP")
_UNREADABLE = Refusal("the maildrop cannot be read", "SYS/TEMP")
_NOTHING_REMOVED = Refusal("nothing was removed: the maildrop is busy, try again later", "SYS/TEMP")
_LOOK_AGAIN = 0.05  # seconds, while another program holds the lock
_READING = 10.0  # seconds for which a lock is waited for
_REMOVING = 30.0


class Run(Protocol):
    """Does a task elsewhere and calls back here with its outcome; None where it could not be done."""

    def __call__(self, task: Callable[[], T], done: Callable[[T | None], None]) -> None:
        """Begin."""


def _at_once(_: float, callback: Callable[[], None]) -> None:
    callback()


class Pop3Ports(NamedTuple):
    """What sessions need of the world."""

    root: MailRoot
    run: Run
    log: Callable[[str], None]
    warn: Callable[[str], None]
    login_delay: float = 0.0  # seconds between two logins of one user
    last_logins: dict[str, float] = {}  # noqa: RUF012 - given by who opens sessions, shared by all of them
    later: Callable[[float, Callable[[], None]], Any] = _at_once  # run a callback after so many seconds


class MaildropSession:
    """One session's decisions. *resume* is called when a question that had to wait was answered."""

    __slots__ = (
        "_box",
        "_ended",
        "_engine",
        "_is_searching",
        "_logins",
        "_peer",
        "_ports",
        "_resume",
        "_user",
    )

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
        self._peer = peer
        self._ports = ports
        self._resume = resume
        self._box: Maildrop | None = None
        self._ended = False
        self._is_searching = False  # a worker has the maildrop in its hands
        self._user = ""
        engine.mechanisms = self._mechanisms

    def handle(self, event: Event) -> None:
        """Act on *event*; a question is answered now or, where that takes time, later."""
        _HANDLERS[type(event)](self, event)

    def _mechanisms(self) -> tuple[str, ...]:
        engine = self._engine
        return self._logins.mechanisms(self._peer, engine.is_secure, bool(engine.bindings))

    def _answer_later(self, value: object) -> None:
        self._engine.answer(value)
        self._resume()

    def _patiently(
        self, patience: float, task: Callable[[bool], T], done: Callable[[T | Refusal | None], None]
    ) -> None:
        """Have *task* done by a worker, again and again while it raises LockTimeoutError; then call *done*.

        The task is told whether it is the last time.
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
            elif clock.monotonic() > deadline + _LOOK_AGAIN:
                self._ports.warn(str(outcome))
                done(_LOCKED)
            else:
                self._ports.later(_LOOK_AGAIN, begin)

        def begin() -> None:
            self._ports.run(attempt, came)

        begin()

    # -- logging in -----------------------------------------------------------------------------------------

    def _connected(self, _: events.BannerWanted) -> None:
        has_apop = self._logins.have_plain and bool(self._mechanisms())
        self._engine.answer(f"<{clock.identity()}@{self._engine.offer.host}>" if has_apop else "")

    def _login_question(self, question: CheckPassword | FindKeys | CheckDigest) -> None:
        self._logins.decide(question, self._peer, self._answer_later)

    def _login_failed(self, event: LoginFailed) -> None:
        who = self._peer or "a local client"
        self._ports.warn(f"login of {event.user!r} from {who} failed: {event.reason}")

    def _logged_in(self, event: events.MaildropWanted) -> None:
        self._logins.succeeded(self._peer)
        ports, now = self._ports, clock.monotonic()
        if (
            ports.login_delay
            and now < ports.last_logins.get(event.user, -ports.login_delay) + ports.login_delay
        ):
            self._engine.answer(Refusal("wait before you log in again", "LOGIN-DELAY"))
            return
        if ports.login_delay:
            ports.last_logins[event.user] = now
        self._user = event.user
        self._patiently(_READING, lambda is_last: self._open(event.user, is_last), self._opened)

    def _open(self, user: str, is_last: bool) -> Maildrop | Refusal:
        try:
            path = self._ports.root.inbox(user)
            return Maildrop(path, open_at_once(path, is_last))
        except LockTimeoutError:
            raise
        except ValueError:
            return Refusal("no mailbox can have that name", "SYS/PERM")
        except (MailError, OSError) as error:
            self._ports.warn(f"the maildrop of {user!r} cannot be opened: {error}")
            is_temporary = isinstance(error, TemporaryError)
            return Refusal("the maildrop cannot be opened", "SYS/TEMP" if is_temporary else "SYS/PERM")

    def _opened(self, found: Maildrop | Refusal | None) -> None:
        if isinstance(found, Maildrop):
            if self._ended:  # the client did not wait
                found.close()
                return
            self._box = found
            size = found.size()
            self._ports.log(
                f"login of {self._user!r} from {self._peer or 'a local client'}: {size.messages} messages"
            )
            self._answer_later(size)
        else:
            self._answer_later(found or Refusal("the server is busy, try again later", "SYS/TEMP"))

    # -- the maildrop ---------------------------------------------------------------------------------------

    def _number(self, number: int) -> int:
        """From 0. Raises NoSuchMessageError."""
        box = self._box
        if box is None or number > len(box) or number - 1 in box.marked:
            raise NoSuchMessageError
        return number - 1

    def _stat(self, _: events.Stat | events.Reset) -> None:
        assert self._box is not None
        self._engine.answer(self._box.size())

    def _list(self, event: events.List) -> None:
        box = self._box
        assert box is not None
        if not event.number:
            self._engine.answer((box.listing(event.names),))
            return
        try:
            number = self._number(event.number)
        except NoSuchMessageError:
            self._engine.answer(_NO_SUCH)
            return
        value = box.names[number] if event.names else box.octets(number)
        self._engine.answer(f"{event.number} {value}")

    def _retrieve(self, event: events.Retrieve) -> None:
        box = self._box
        assert box is not None
        try:
            number = self._number(event.number)
            blocks = box.message_at_once(number)
        except NoSuchMessageError:
            self._engine.answer(_NO_SUCH)
        except OSError as error:
            self._engine.answer(self._unreadable(error))
        else:
            if blocks is None:
                self._search(box, number, event)
            else:
                self._engine.answer(_wire(box.octets(number), blocks, event.lines))

    def _search(self, box: Maildrop, number: int, event: events.Retrieve) -> None:
        """Another program wrote in the mbox: have the message found again."""

        def find(is_last: bool) -> Iterable[bytes] | Refusal | None:
            try:
                return box.message(number, is_last) or _GONE
            except OSError as error:
                return self._unreadable(error)

        def found(outcome: Iterable[bytes] | Refusal | None) -> None:
            self._is_searching = False
            if self._ended:
                box.close()
            elif outcome is None or isinstance(outcome, Refusal):
                self._answer_later(outcome or _UNREADABLE)
            else:
                self._answer_later(_wire(box.octets(number), outcome, event.lines))

        self._is_searching = True
        self._patiently(_READING, find, found)

    def _unreadable(self, error: OSError) -> Refusal:
        self._ports.warn(f"the maildrop of {self._user!r} cannot be read: {error.strerror}")
        return _UNREADABLE

    def _delete(self, event: events.Delete) -> None:
        assert self._box is not None
        try:
            self._box.marked.add(self._number(event.number))
        except NoSuchMessageError:
            self._engine.answer(_NO_SUCH)
        else:
            self._engine.answer("")

    def _reset(self, event: events.Reset) -> None:
        assert self._box is not None
        self._box.marked.clear()
        self._stat(event)

    def _update(self, _: events.Update) -> None:
        box, self._box = self._box, None
        assert box is not None
        if not box.marked:
            box.close()
            self._engine.answer("")
            return

        def removed(outcome: Refusal | str | None) -> None:
            box.close()
            self._answer_later(_NOTHING_REMOVED if outcome is None or outcome is _LOCKED else outcome)

        self._patiently(_REMOVING, lambda _: self._remove(box), removed)

    def _remove(self, box: Maildrop) -> Refusal | str:
        try:
            box.remove(0.0)
        except LockTimeoutError:
            raise
        except (MailError, OSError) as error:
            self._ports.warn(f"{box.path}: {error}")
            return Refusal("nothing was removed: the maildrop cannot be written", "SYS/TEMP")
        self._ports.log(f"{self._user!r} removed {len(box.marked)} messages")
        return ""

    def _closed(self, event: events.MaildropClosed) -> None:
        if event.fault:
            self._ports.warn(f"the session of {self._user!r} was cut: {event.fault}")
        self._ended = True
        if self._box is not None and not self._is_searching:
            self._box.close()
        self._box = None


def _wire(octets: int, blocks: Iterable[bytes], lines: int | None) -> tuple[int | None, Iterable[bytes]]:
    """The answer to RETR, or to TOP with *lines*."""
    return (octets, blocks) if lines is None else (None, top(blocks, lines))


class NoSuchMessageError(Exception):
    """A number that no message has, or one that is marked."""


_HANDLERS: dict[type, Callable[[MaildropSession, Any], None]] = {
    events.BannerWanted: MaildropSession._connected,
    CheckPassword: MaildropSession._login_question,
    FindKeys: MaildropSession._login_question,
    CheckDigest: MaildropSession._login_question,
    events.MaildropWanted: MaildropSession._logged_in,
    LoginFailed: MaildropSession._login_failed,
    events.Stat: MaildropSession._stat,
    events.List: MaildropSession._list,
    events.Retrieve: MaildropSession._retrieve,
    events.Delete: MaildropSession._delete,
    events.Reset: MaildropSession._reset,
    events.Update: MaildropSession._update,
    events.MaildropClosed: MaildropSession._closed,
}
