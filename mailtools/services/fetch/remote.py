"""What fetching needs of a server, whichever protocol it speaks: how it is called, what it has, what comes.

Opening a connection and its time-outs are here; the words are services/fetch/pop3's and imap_remote's.

Invariants: TLS is verified and never falls back. No password goes where somebody else could hear it, or
answer in the server's place. Every wait has an end, however slowly a server dribbles.
"""

import functools
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import NamedTuple, Protocol

from mailtools.core.auth import client
from mailtools.core.auth.client import Mechanism
from mailtools.core.engine import Engine, RemoteProtocolError
from mailtools.core.errors import PolicyError, ProtocolError
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.net import client_connection
from mailtools.system.net.client_connection import Pump

POP3, IMAP = "pop3", "imap"
OFF, STARTTLS, IMPLICIT = "off", "starttls", "implicit"
PORTS = {(POP3, False): 110, (POP3, True): 995, (IMAP, False): 143, (IMAP, True): 993}

_LEAST_PATIENCE = 60.0  # seconds
_PROGRESS = 4096  # octets that a server has to bring in twice the time-out
_MOST_OVER = 1 << 20  # octets that a message may have beyond twice its announced size


class FetchTarget(NamedTuple):
    """Which mail, where."""

    protocol: str
    host: str
    port: int
    tls: str
    user: str
    secret: Callable[[], str]  # the password or token
    auth: str = ""  # this mechanism or none
    is_token: bool = False
    cafile: str = ""
    fingerprint: str = ""
    timeout: float = 60.0

    @property
    def name(self) -> str:
        """What tells it from other sources, in messages and in the state."""
        return f"{self.protocol}://{self.user}@{self.host}:{self.port}"


class Item(NamedTuple):
    """A message on the server. *name*: UIDL or UID; *size*: octets, 0 where it is not known."""

    number: int
    name: str
    size: int = 0


class Fetched(NamedTuple):
    """A message that came, quoted for an mbox; or why it did not."""

    item: Item
    body: Buffer
    arrived: float  # seconds since the epoch
    problem: str = ""


class Remote(Protocol):
    """A server, logged in."""

    def mailboxes(self, patterns: Collection[str]) -> list[str]:
        """Those that fit; [""] in POP3, which has one. Raises MailError."""

    def select(self, mailbox: str, to_change: bool) -> str:
        """Turn to a mailbox, *to_change* it or only to read; its validity. Raises MailError."""

    def items(self, wishes: "FetchWishes") -> list[Item]:
        """What is there. Raises MailError."""

    def since(self, items: list[Item], seconds: float) -> set[str]:
        """The names of those that are not older, as far as it can be told. Raises MailError."""

    def fetch(self, items: Iterable[Item], beside: str) -> Iterator[Fetched]:
        """The messages as they come. *beside*: where large ones may lie. Raises MailError, OSError."""

    def delete(self, items: list[Item]) -> None:
        """Have them removed; where it says so at `leave`, at the latest. Raises MailError."""

    def mark_seen(self, items: list[Item]) -> None:
        """Have them marked as read. Raises MailError."""

    def wait_for_mail(self, is_stopping: Callable[[], bool]) -> None:
        """Return when new mail came, or soon after *is_stopping* says so. Raises MailError."""

    def leave(self) -> None:
        """Say goodbye; what was deleted is gone then. Raises MailError."""

    def close(self) -> None:
        """Go without a word."""


class FetchWishes(NamedTuple):
    """What of a mailbox is wanted."""

    since: float = 0.0  # seconds since the epoch
    max_size: int = 0  # octets; 0: any
    limit: int = 0  # messages; 0: all
    delete: bool = False
    delete_after: float | None = None  # seconds since it was fetched
    mark_seen: bool = False

    @property
    def change(self) -> bool:
        """Tell whether something is to be changed on the server."""
        return self.delete or self.delete_after is not None or self.mark_seen


class Wire:
    """A connection to *target*, and how long it may take."""

    def __init__(self, target: FetchTarget, engine: Engine) -> None:
        """Raises UnknownHostError, TemporaryError."""
        self.target = target
        sock = client_connection.connect(target.host, target.port, target.timeout)
        self.pump = Pump(engine, sock, target.timeout)
        self._since = 0
        self.renew()

    def renew(self) -> None:
        """The server got on: it has its time anew."""
        self.pump.deadline = clock.monotonic() + max(2 * self.pump.timeout, _LEAST_PATIENCE)
        self._since = 0

    def progress(self, octets: int) -> None:
        """The server brought something."""
        self._since += octets
        if self._since >= _PROGRESS:
            self.renew()

    def start_tls(self) -> None:
        """Raises RemoteProtocolError where the server is not who it should be, and as `Pump.start_tls`."""
        from mailtools.system.tls.client import ClientTls, Policy

        target = self.target
        try:
            self.pump.start_tls(ClientTls(target.host, Policy(True, target.cafile, target.fingerprint)))
        except RemoteProtocolError as error:
            hint = (
                "; it does not speak TLS there: check --port and --tls"
                if "WRONG_VERSION" in str(error)
                else ""
            )
            raise ProtocolError(f"{target.host}: {error}{hint}") from None

    @property
    def is_safe(self) -> bool:
        """Tell whether nobody else can hear what is said."""
        return self.target.tls != OFF or self.pump.is_private

    def password(self) -> str:
        """The secret; a person who types it may take their time."""
        secret = self.target.secret()
        self.renew()
        return secret


def attempts(
    offered: Collection[str], target: FetchTarget, is_safe: bool
) -> list[tuple[str, Callable[[], Mechanism]]]:
    """Mechanisms to try, best first, and what each says; the next one only where SCRAM fails.

    For servers offer it also where a user has no keys for it: then PLAIN does, if nobody can listen.
    """
    found = [
        name
        for name in client.choices(offered, target.auth, target.is_token)
        if is_safe or not client.sends_secret(name)
    ]

    def say(name: str) -> Mechanism:
        nonce = os.urandom(18).hex()
        return client.MECHANISMS[name](
            client.Credentials(target.user, target.secret(), nonce, target.host, target.port)
        )

    return [(name, functools.partial(say, name)) for name in found[: 1 + (found[:1] == ["SCRAM-SHA-256"])]]


def refuse_to_tell(how: str) -> PolicyError:
    """A login that was not tried."""
    return PolicyError(
        f"a login with {how} can be overheard, so it was not tried; use --tls starttls or implicit"
    )


def exceeds(came: int, announced: int) -> bool:
    """Tell whether a message has become larger than any honest server's would."""
    return came > 2 * announced + _MOST_OVER
