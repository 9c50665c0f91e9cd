"""A POP3 session: a snapshot of a user's INBOX, what is shown of it, and what QUIT removes.

One `MaildropSession` a connection answers the engine's questions. What takes long (opening, removing) is done
by the worker it is given and answered later. Knows no socket.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys
from mailtools.core.errors import MailError, TemporaryError
from mailtools.core.pop3 import events
from mailtools.core.pop3.events import Event, Refusal
from mailtools.core.pop3.server import Pop3Server
from mailtools.services.logins import Logins
from mailtools.services.snapshot import Maildrop, top
from mailtools.system import clock, index
from mailtools.system.mailroot import MailRoot

T = TypeVar("T")

_GONE = Refusal("the message is gone: another program took it out of the mbox", "SYS/TEMP")
_NO_SUCH = Refusal("no such message")


class Run(Protocol):
    """Does a task elsewhere and calls back here with its outcome; None where it could not be done."""

    def __call__(self, task: Callable[[], T], done: Callable[[T | None], None]) -> None:
        """Begin."""


class Ports(NamedTuple):
    """What sessions need of the world."""

    root: MailRoot
    run: Run
    log: Callable[[str], None]
    warn: Callable[[str], None]
    login_delay: float = 0.0  # seconds between two logins of one user
    last_logins: dict[str, float] = {}  # noqa: RUF012 - given by who opens sessions, shared by all of them


class MaildropSession:
    """One session's decisions. *resume* is called when a question that had to wait was answered."""

    __slots__ = ("_box", "_ended", "_engine", "_logins", "_peer", "_ports", "_resume", "_user")

    def __init__(
        self, engine: Pop3Server, logins: Logins, peer: str, ports: Ports, resume: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._logins = logins
        self._peer = peer
        self._ports = ports
        self._resume = resume
        self._box: Maildrop | None = None
        self._ended = False
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

    # -- logging in -----------------------------------------------------------------------------------------

    def _connected(self, _: events.Connected) -> None:
        has_apop = self._logins.have_plain and bool(self._mechanisms())
        self._engine.answer(f"<{clock.identity()}@{self._engine.offer.host}>" if has_apop else "")

    def _login_question(self, question: CheckPassword | FindKeys | CheckDigest) -> None:
        self._logins.decide(question, self._peer, self._answer_later)

    def _login_failed(self, event: events.LoginFailed) -> None:
        who = self._peer or "a local client"
        self._ports.warn(f"login of {event.user!r} from {who} failed: {event.reason}")

    def _logged_in(self, event: events.LoggedIn) -> None:
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
        ports.run(lambda: self._open(event.user), self._opened)

    def _open(self, user: str) -> Maildrop | Refusal:
        try:
            path = self._ports.root.inbox(user)
            return Maildrop(path, index.open_box(path))
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
                f"login of {self._user} from {self._peer or 'a local client'}: {size.messages} messages"
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
        answer: object
        try:
            number = self._number(event.number)
            blocks = box.message(number)
            if blocks is None:
                answer = _GONE
            elif event.lines is None:
                answer = box.octets(number), blocks
            else:
                answer = None, top(blocks, event.lines)
        except NoSuchMessageError:
            answer = _NO_SUCH
        except OSError as error:
            self._ports.warn(f"{box.path}: {error.strerror}")
            answer = Refusal("the maildrop cannot be read", "SYS/TEMP")
        self._engine.answer(answer)

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
        self._ports.run(lambda: self._remove(box), self._removed)

    def _remove(self, box: Maildrop) -> Refusal | str:
        try:
            box.remove()
        except (MailError, OSError) as error:
            self._ports.warn(f"{box.path}: {error}")
            return Refusal("nothing was removed: the maildrop cannot be written", "SYS/TEMP")
        else:
            self._ports.log(f"{self._user} removed {len(box.marked)} messages")
            return ""
        finally:
            box.close()

    def _removed(self, outcome: Refusal | str | None) -> None:
        busy = Refusal("nothing was removed: the server is busy", "SYS/TEMP")
        self._answer_later(busy if outcome is None else outcome)

    def _closed(self, _: events.Closed) -> None:
        self._ended = True
        if self._box is not None:
            self._box.close()
            self._box = None


class NoSuchMessageError(Exception):
    """A number that no message has, or one that is marked."""


_HANDLERS: dict[type, Callable[[MaildropSession, Any], None]] = {
    events.Connected: MaildropSession._connected,
    CheckPassword: MaildropSession._login_question,
    FindKeys: MaildropSession._login_question,
    CheckDigest: MaildropSession._login_question,
    events.LoggedIn: MaildropSession._logged_in,
    events.LoginFailed: MaildropSession._login_failed,
    events.Stat: MaildropSession._stat,
    events.List: MaildropSession._list,
    events.Retrieve: MaildropSession._retrieve,
    events.Delete: MaildropSession._delete,
    events.Reset: MaildropSession._reset,
    events.Update: MaildropSession._update,
    events.Closed: MaildropSession._closed,
}
