"""What `fetch` needs of a server, whatever its protocol: connection, time-outs, login, and `Remote`.

The commands of the protocols are in services/fetch/pop3 and services/fetch/imap.

Invariants: TLS is verified, and there is no fallback without it. No password is sent where somebody else
could read it, or answer in place of the server. Every wait ends, however slowly a server sends its octets.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from mailtools.core.engine import Engine, RemoteProtocolError
from mailtools.core.errors import MailError, PolicyError, ProtocolError, TemporaryError
from mailtools.services import access as accesses
from mailtools.services.access import OFF, Access
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.net import client_connection
from mailtools.system.net.client_connection import LostConnectionError, Pump

if TYPE_CHECKING:
    from mailtools.core.auth.client import Mechanism
    from mailtools.system.net.transcript import Transcript

POP3, IMAP = "pop3", "imap"
PORTS = {(POP3, False): 110, (POP3, True): 995, (IMAP, False): 143, (IMAP, True): 993}

_LEAST_PATIENCE = 5.0  # seconds
_LONGEST = 1800.0  # seconds that a server may only say that it is at work
_PROGRESS = 4096  # octets that renew the deadline
_MOST_OVER = 256 << 20  # octets that a message may be larger than twice its announced size


class FetchTarget(NamedTuple):
    """The mail of one user on one server."""

    protocol: str
    host: str
    port: int
    access: Access
    transcript: str = ""  # a folder or file, or "-" for stdout; "" for none

    @property
    def name(self) -> str:
        """The name of this source, in messages and in the fetch state."""
        return f"{self.protocol}://{self.access.user}@{self.host}:{self.port}"


class Item(NamedTuple):
    """A message on the server. *name*: UIDL or UID; *size*: octets, 0 if it is not known."""

    number: int
    name: str
    size: int = 0


class Fetched(NamedTuple):
    """A message in the form of an mbox, or why it could not be fetched."""

    item: Item
    body: Buffer
    arrived: float  # seconds since the epoch
    problem: str = ""


class RefusedMailboxError(Exception):
    """A mailbox cannot be opened; the session goes on. *problem* says why."""

    def __init__(self, problem: MailError) -> None:
        super().__init__(str(problem))
        self.problem = problem


class RefusedInMailboxError(TemporaryError):
    """The server refused something in one mailbox; the session goes on.

    *left*: the messages that were not deleted.
    """

    def __init__(self, text: str, left: Collection[Item] = ()) -> None:
        super().__init__(text)
        self.left = left


class Remote(Protocol):
    """A session with a server, after the login."""

    def mailboxes(self, patterns: Collection[str]) -> list[str]:
        """Return the mailboxes that match *patterns*; [""] in POP3, which has one. Raises MailError."""

    def problems(self) -> list[MailError]:
        """Return what went wrong without ending the session, each problem once."""

    def select(self, mailbox: str, to_change: bool) -> str:
        """Open a mailbox, read-only unless *to_change*; return its UIDVALIDITY.

        Raises RefusedMailboxError, MailError.
        """

    def items(self, wishes: "FetchWishes") -> list[Item]:
        """Return the messages of the mailbox. Raises RefusedInMailboxError, MailError."""

    def since(self, items: list[Item], seconds: float) -> set[str]:
        """Return the names of messages that are not older, as far as the server tells. Raises MailError."""

    def fetch(self, items: Iterable[Item], beside: str) -> Iterator[Fetched]:
        """Yield the messages as they come. *beside*: a path for large ones. Raises MailError, OSError."""

    def delete(self, items: list[Item]) -> None:
        """Remove messages, at once or at `leave`, as many as the server lets.

        Raises RefusedInMailboxError, MailError.
        """

    def mark_seen(self, items: list[Item]) -> None:
        """Mark messages as read. Raises RefusedInMailboxError, MailError."""

    def wait_for_mail(self, is_stopping: Callable[[], bool]) -> None:
        """Return when new mail came, or soon after *is_stopping* is True. Raises MailError."""

    def leave(self) -> None:
        """End the session; what was deleted is then removed. Raises MailError."""

    def close(self) -> None:
        """Close without a goodbye."""


class FetchWishes(NamedTuple):
    """Which messages of a mailbox are wanted, and what happens to them on the server."""

    since: float = 0.0  # seconds since the epoch
    max_size: int = 0  # octets; 0: any
    limit: int = 0  # messages; 0: all
    delete: bool = False
    delete_after: float | None = None  # seconds since it was fetched
    mark_seen: bool = False

    @property
    def change(self) -> bool:
        """True if something on the server is to be changed."""
        return self.delete or self.delete_after is not None or self.mark_seen


class Wire:
    """A connection to *target*, and how long it may take."""

    def __init__(self, target: FetchTarget, engine: Engine) -> None:
        """Raises UnknownHostError, TemporaryError, CannotWriteError."""
        self.target = target
        timeout = target.access.timeout
        transcript = _transcript(target.transcript)
        sock = client_connection.connect(target.host, target.port, timeout)
        self.pump = Pump(engine, sock, timeout, transcript)
        self._since = 0
        self.renew()

    def renew(self) -> None:
        """Set a new deadline, because the server made progress."""
        self._renewed = clock.monotonic()
        self.pump.deadline = self._renewed + max(2 * self.pump.timeout, _LEAST_PATIENCE)
        self._since = 0

    def keep_alive(self) -> None:
        """Note that the server says it is still at work: the deadline moves, but not for ever."""
        patience = max(2 * self.pump.timeout, _LEAST_PATIENCE)
        self.pump.deadline = min(clock.monotonic() + patience, self._renewed + max(_LONGEST, patience))

    def progress(self, octets: int) -> None:
        """Count *octets* of what we asked for; enough of them renew the deadline."""
        self._since += octets
        if self._since >= _PROGRESS:
            self.renew()

    def start_tls(self) -> None:
        """Begin TLS.

        Raises ProtocolError if the server's certificate is wrong, and what `Pump.start_tls` raises.
        """
        target = self.target
        try:
            self.pump.start_tls(accesses.tls_layer(target.host, target.access, True))
        except RemoteProtocolError as error:
            hint = (
                "; it does not speak TLS there: check --port and --tls"
                if "WRONG_VERSION" in str(error)
                else ""
            )
            raise ProtocolError(f"{target.host}: {error}{hint}") from None

    @property
    def is_safe(self) -> bool:
        """True if nobody else can read what is sent."""
        return self.target.access.tls != OFF or self.pump.is_private

    def password(self) -> str:
        """Return the password or token; the time that a person takes to type it does not count."""
        assert self.target.access.secret is not None  # every source has one
        secret = self.target.access.secret()
        self.renew()
        return secret


_begun: set[str] = set()  # transcripts of this process: later sessions are appended to them


def _transcript(target: str) -> "Transcript | None":
    if not target:
        return None
    from mailtools.system.net.transcript import open_transcript

    again = target in _begun
    _begun.add(target)
    return open_transcript(target, "fetch", again=again)


class LoginAnswer(NamedTuple):
    """The server's final answer to a login."""

    is_ok: bool
    text: str
    is_temporary: bool  # the same login may succeed later
    note: str = ""  # what the server said about the token it refused
    is_final: bool = False  # the name or the password is wrong: another mechanism will not do better


# Response codes of POP3 (RFC 2449 §8.1, RFC 3206) and IMAP (RFC 5530, RFC 9051 §7.1). Servers mix them up.
TEMPORARY_CODES = frozenset({
    "IN-USE", "LOGIN-DELAY", "SYS/TEMP",
    "INUSE", "UNAVAILABLE", "LIMIT", "THROTTLED", "OVERQUOTA", "SERVERBUG",
})  # fmt: skip
_BUSY = re.compile(
    r"too many|maximum number|connection (?:limit|exceeded)|in use|busy|unable to lock|(?:try|again) later"
    r"|temporar(?:y|ily)|^(?!.*\b(?:account|user|login|password)\b).*\block",
    re.I | re.S,
)


def is_busy(text: str) -> bool:
    """Return True if a refusal without a response code says that server or mailbox are in use."""
    return _BUSY.search(text) is not None


class RefusedLogin(NamedTuple):
    """A login that the server refused, and how it was tried."""

    how: str
    answer: LoginAnswer


NOTHING_FITS = RefusedLogin("", LoginAnswer(False, "no mechanism fits", False))


def sasl_login(
    wire: Wire, offered: Collection[str], attempt: Callable[[str, "Mechanism"], LoginAnswer]
) -> RefusedLogin | None:
    """Log in with SASL; return None if that succeeded, else the last refusal. *attempt* runs one mechanism.

    After a refusal the next mechanism is tried: servers offer some that they do not have for every user.
    A refusal that names the password ends the login, for guesses lock accounts. Raises TemporaryError.
    """
    target = wire.target
    names = accesses.mechanisms(offered, target.access, wire.is_safe)
    if not names:
        return NOTHING_FITS
    secret = wire.password()
    refusal = NOTHING_FITS
    for name in names:
        with refused_before(target, refusal):
            answer = attempt(name, accesses.begin(name, target.access, secret, target.host, target.port))
        if answer.is_ok:
            return None
        if answer.is_temporary or (answer.is_final and name != "SCRAM-SHA-256"):
            check_login(target, name, answer)
        refusal = RefusedLogin(name, answer)
    return refusal


@contextmanager
def refused_before(target: FetchTarget, refusal: RefusedLogin) -> Iterator[None]:
    """Tell of *refusal* if the server closes the connection at the next attempt to log in.

    Raises PolicyError.
    """
    try:
        yield
    except LostConnectionError as error:
        if refusal.how and not is_busy(str(error)):
            check_login(target, *refusal)
        raise


def check_login(target: FetchTarget, how: str, answer: LoginAnswer) -> None:
    """Raises PolicyError or TemporaryError if the server refused the login."""
    if answer.is_ok:
        return
    note = f" ({answer.note})" if answer.note else ""
    text = f"{target.host} refused {accesses.login_of(target.access, how)}: {answer.text}{note}"
    raise TemporaryError(text) if answer.is_temporary else PolicyError(text)


def exceeds(came: int, announced: int) -> bool:
    """Return True if a message is much larger than the server announced."""
    return came > 2 * announced + _MOST_OVER
