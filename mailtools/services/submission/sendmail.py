"""Accepts a message from a program on this host: delivers it to our mailboxes, or puts it into the spool.

The service behind `mailtools sendmail`. When `Post.accept` returns, the message is on the disk for every
recipient. Knows no option and no process.

Recipients of ours get the message at once. All others share one entry of the spool: recipients on other
servers, recipients of ours who cannot get it now, and names that do not exist, if another recipient does. A
queue run tries again, sends the message on, or tells the sender.

Start-up is most of the run time here. So the usual case, a plain mbox or the spool, imports only what it
needs (no sockets, no threads, no patterns).
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property

from mailtools.core.errors import (
    BadDataError,
    CannotWriteError,
    ConfigurationError,
    LockTimeoutError,
    MailError,
    RefusedError,
    TemporaryError,
    UnknownRecipientError,
)
from mailtools.core.lean import TYPE_CHECKING, NamedTuple
from mailtools.core.mbox import quoting
from mailtools.core.mbox.record import make_postmark
from mailtools.core.message import submission, trace
from mailtools.core.message.recipient import Recipient
from mailtools.core.message.submission import SubmissionStamps
from mailtools.services.transit.intake import MAX_HEADER, Intake, IntakePolicy
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.files.home import expand
from mailtools.system.mbox import appending
from mailtools.system.mbox.mailroot import MailRoot

if TYPE_CHECKING:
    from mailtools.services.delivery.addressing import Addressing
    from mailtools.services.submission.refused import BadAddress
    from mailtools.system.spool.spool import Spool

# A bare CR, which no server accepts, becomes a line end: cron mails the output of progress bars.
POLICY = IntakePolicy(
    nul="the message holds a NUL, which mail cannot carry; encode it, or take it out",
    large_header=f"the header is larger than {MAX_HEADER} octets; not sent",
    cr_ends_line=True,
    split=submission.split,
)
_LOCK_TIMEOUT = 30.0  # seconds; after that the message is queued
_LOOK_AGAIN = 0.02  # seconds
_MOST_NAMES = 1 << 20  # octets of a users file; a larger one is read as a server reads it


class SendmailSettings(NamedTuple):
    """The options of the configuration."""

    root: str = "~/Mail"
    spool: str = ""  # "": in the root
    domains: tuple[str, ...] = ()  # none: this host's name, and localhost
    users: str = ""  # "": ROOT/users if it is there
    aliases: str = ""
    alias_commands: bool = False
    catch_all: str = ""
    plus_delimiter: str = ""
    origin: str = ""  # the domain of names without one; "": the host's name


class Message(NamedTuple):
    """A message as read: LF."""

    fields: bytes  # its header, without the empty line
    body: Buffer  # whole lines


def read_message(blocks: Iterable[bytes], beside: str = "", until_dot: bool = False) -> Message:
    """Read the message from *blocks*. With *until_dot* a line of one dot ends it, and nothing more is read.

    Raises BadDataError, OSError.
    """
    intake = Intake(POLICY._replace(until_dot=until_dot), beside)
    for block in blocks:
        intake.take(block)
        if intake.is_ended:
            break
    return whole_message(intake)


def whole_message(intake: Intake) -> Message:
    """Return the message that *intake* took, with a line end after its last line.

    Raises BadDataError, OSError.
    """
    intake.end()
    if not intake.ends_with_newline:
        intake.body.append(b"\n")
    return Message(intake.header, intake.body)


class Submission(NamedTuple):
    """The caller's options for a message: its envelope, and values for missing fields."""

    recipients: tuple[str, ...]  # local@domain, see `Post.address`
    bad: "tuple[BadAddress, ...]" = ()  # others that the sender is told of, if there are good ones
    from_header: bool = False  # also send to the addresses of To, Cc and Bcc
    sender: str | None = None  # None: the user who runs us; "": the null reverse-path
    full_name: str = ""
    notify: str = ""  # RFC 3461 §4.1
    ret: str = ""
    envid: str = ""  # in xtext


class Handed(NamedTuple):
    """A message that was accepted: it is on the disk for every recipient."""

    identity: str
    is_queued: bool  # mail waits for the queue run
    recipients: tuple[str, ...]


class Places(NamedTuple):
    """The places of one recipient's mail."""

    mboxes: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()  # addresses on other servers, from aliases
    has_program: bool = False


class _Way(NamedTuple):
    """A message in progress: completed, with its envelope and its Received field."""

    message: Message
    submission: Submission
    reverse_path: str
    identity: str
    received: str


class Post:
    """Accepts messages. *warn* gets texts for operators."""

    def __init__(self, settings: SendmailSettings, warn: Callable[[str], None] = lambda _: None) -> None:
        self.settings = settings
        self.host = clock.host_name()
        self.origin = settings.origin or self.host
        self.root = os.path.abspath(expand(settings.root))
        self._warn = warn
        self._queued_by_alias = False  # beside a program that an alias names
        domains = settings.domains or (self.host, "localhost")
        self.domains = frozenset([domain.lower().removesuffix(".") for domain in domains])

    @cached_property
    def addressing(self) -> "Addressing":
        """The addressing, opened at first use. Raises ConfigurationError."""
        from mailtools.services.delivery.addressing import AddressingSettings, open_addressing

        its = self.settings
        return open_addressing(
            AddressingSettings(
                self.root,
                its.users,
                tuple(self.domains),
                its.aliases,
                its.alias_commands,
                its.catch_all,
                its.plus_delimiter,
            ),
            self.host,
            self._warn,
        )

    @cached_property
    def spool(self) -> "Spool":
        """The spool, opened at first use."""
        from mailtools.system.spool.spool import Spool

        return Spool(self.settings.spool or os.path.join(self.root, ".spool"), self._warn)

    # -- addresses -----------------------------------------------------------------------------------------

    def address(self, text: str) -> str:
        """Return *text* as local@domain: a name alone gets our domain. Raises BadDataError."""
        address = text if "@" in text else f"{text}@{self.origin}"
        if not is_mailbox(address):
            raise _no_address(text)
        return address

    def addresses(self, text: str) -> list[str]:
        """Return the addresses in an argument, separated by commas or spaces. Raises BadDataError."""
        if not text.isprintable():
            raise _no_address(text)
        if not any(char in text for char in '"():;<>'):
            return [self.address(word) for word in text.replace(",", " ").split()]
        if is_mailbox(text):
            return [text]
        from mailtools.core.message.address import addresses

        # `address.addresses` guesses what a broken header means; a guess could reach a stranger.
        is_whole = not text.replace('\\"', "").count('"') % 2 and text.count("<") == text.count(">")
        found = addresses(text) if is_whole else []
        if not is_whole or any(not one.spec for one in found):
            raise _no_address(text)
        return [self.address(one.spec) for one in found]

    def sorted_addresses(self, texts: Sequence[str]) -> "tuple[tuple[str, ...], tuple[BadAddress, ...]]":
        """Return the addresses in some arguments, and the arguments that are none."""
        good: list[str] = []
        bad: list[str] = []
        for text in texts:
            try:
                good += self.addresses(text)
            except BadDataError:
                bad.append(text)
        if not bad:
            return tuple(good), ()
        from mailtools.services.submission.refused import as_bad

        return tuple(good), tuple(map(as_bad, bad))

    def is_local(self, address: str) -> bool:
        """Return True if the domain of *address* is ours."""
        domain = address.rpartition("@")[2].lower().removesuffix(".")
        return domain in self.domains

    def places(self, address: str) -> "Places":
        """Return the places of mail for an address of ours. Raises as `Addressing.places`."""
        local, _, domain = address.lower().rpartition("@")
        if not self.settings.aliases and _is_word(local) and self._is_user(local, domain):
            return Places((MailRoot(self.root).inbox(local),))
        from mailtools.services.delivery.addressing import MboxPlace, RelayPlace

        found = self.addressing.places(address)
        mboxes = tuple([place.path for place in found if isinstance(place, MboxPlace)])
        elsewhere = tuple([place.address for place in found if isinstance(place, RelayPlace)])
        return Places(mboxes, elsewhere, len(found) > len(mboxes) + len(elsewhere))

    def _is_user(self, local: str, domain: str) -> bool:
        """Return True if *local* is certainly a user; otherwise `addressing` decides."""
        path = expand(self.settings.users) or os.path.join(self.root, "users")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return not (self.settings.users or self.settings.plus_delimiter)
        except OSError:
            return False
        with open(descriptor, "rb") as file:
            names = b"\n" + file.read(_MOST_NAMES).lower()
        return f"\n{local}:".encode() in names and f"\n{local}@{domain}:".encode() not in names

    # -- one message ---------------------------------------------------------------------------------------

    def accept(self, message: Message, given: Submission, user: "User") -> Handed:
        """Accept *message*: it is durable when this returns.

        Raises BadDataError, RefusedError (a mail loop), UnknownRecipientError (no recipient exists),
        CannotWriteError.
        """
        if submission.hops(message.fields) > submission.MAX_HOPS:
            raise RefusedError(f"a mail loop: more than {submission.MAX_HOPS} Received fields; not taken")
        sender = f"{user.name}@{self.origin}"
        reverse_path = sender if given.sender is None else given.sender
        recipients, bad = self._recipients(message.fields, given)
        identity, now = clock.identity(), int(clock.now())
        stamps = SubmissionStamps(
            sender=reverse_path or sender,
            full_name=given.full_name or user.full_name,
            origin=self.origin,
            date=clock.date_field(now),
            message_id=f"<{identity}@{self.host}>",
        )
        message = message._replace(fields=submission.complete(message.fields, stamps))
        received = trace.submitted(user.number, self.host, identity, stamps.date)
        way = _Way(message, given, reverse_path, identity, received)
        self._queued_by_alias = False
        left = self._deliver(way, recipients)
        if left:
            self._queue(way, left, user)
        is_told = bool(bad) and self._tell_of(bad, way)
        return Handed(identity, bool(left) or is_told or self._queued_by_alias, recipients)

    def _recipients(self, fields: bytes, given: Submission) -> "tuple[tuple[str, ...], Sequence[BadAddress]]":
        """Return the recipients, and entries that are none. Raises BadDataError if there is no recipient."""
        found, bad = list(given.recipients), list(given.bad)
        if given.from_header:
            from mailtools.services.submission import refused

            good, more = refused.in_header(fields, self.address)
            found += good
            bad += more
        if not found and bad:
            raise BadDataError(f"not an address: {bad[0]}")
        if not found:
            raise BadDataError("no recipients in To, Cc or Bcc; name them there, or as arguments")
        return tuple(dict.fromkeys(found)), bad

    def _tell_of(self, bad: "Sequence[BadAddress]", way: _Way) -> bool:
        """Queue a DSN about recipients that are no addresses; return True if it is queued."""
        from mailtools.services.submission import refused

        notices = refused.make_notices(self.spool.add, self.host)
        about = refused.About(way.reverse_path, way.identity, way.submission.envid, way.message.fields)
        return refused.tell(bad, about, notices, self._warn)

    # -- our mailboxes -------------------------------------------------------------------------------------

    def _deliver(self, way: _Way, recipients: Sequence[str]) -> tuple[str, ...]:
        """Deliver to recipients of ours; return those left for the spool. Raises as `accept`."""
        local = [address for address in recipients if self.is_local(address)]
        if not local or "SUCCESS" in way.submission.notify:  # a queue run sends that report
            return tuple(recipients)
        places: dict[str, Places] = {}
        failed: dict[str, MailError] = {}
        for address in local:
            found = self._found(address)
            if isinstance(found, Places):
                places[address] = found
            else:
                failed[address] = found
        elsewhere: list[str] = []
        if any(its.has_program for its in places.values()):
            failed |= self._by_program(way, list(places))
            self._queued_by_alias = any(its.elsewhere for its in places.values())
        else:
            elsewhere = [address for its in places.values() for address in its.elsewhere]
            failed |= self._into_mboxes(way, places)
        left = [a for a in recipients if a in failed or a not in local] + elsewhere
        if failed.keys() == set(recipients):
            raise_worst(failed)
        return tuple(dict.fromkeys(left))

    def _found(self, address: str) -> Places | MailError:
        try:
            return self.places(address)
        except ConfigurationError:
            raise
        except MailError as error:
            return _refusal(address, error) if error.status else error
        except OSError as error:
            return CannotWriteError(f"{address}: {error.filename}: {error.strerror}")

    def _into_mboxes(self, way: _Way, places: dict[str, Places]) -> dict[str, MailError]:
        """Append to each mbox once, even if recipients share it; return the errors by recipient."""
        shared: dict[str, list[str]] = {}
        for address, its in places.items():
            for path in its.mboxes:
                shared.setdefault(path, []).append(address)
        failed: dict[str, MailError] = {}
        for path, addresses in shared.items():
            body = quoted(way.message.body, path)
            try:
                _append(path, appending.NewRecord(self._head(way, addresses), body))
            except MailError as error:
                failed |= dict.fromkeys(addresses, error)
        return failed

    def _head(self, way: _Way, addresses: Sequence[str]) -> bytes:
        """Return the head of the record for *addresses*: postmark, trace fields, header, empty line."""
        postmark = make_postmark(way.reverse_path, clock.asctime(int(clock.now())))
        ours = (trace.delivery_fields(way.reverse_path, addresses) + way.received).encode()
        return postmark + ours + quoting.quote_message(way.message.fields, len(way.message.fields)) + b"\n"

    def _by_program(self, way: _Way, addresses: Sequence[str]) -> dict[str, MailError]:
        """Deliver as `_into_mboxes`, but also to programs; queue what aliases send to other servers."""
        from mailtools.services.delivery.blocking import LocalMail
        from mailtools.services.transit.outgoing import Outgoing

        head = (way.received.encode() + way.message.fields + b"\n").replace(b"\n", b"\r\n")
        outgoing = Outgoing(
            name=way.identity,
            reverse_path=way.reverse_path,
            recipients=tuple([Recipient(address, way.submission.notify) for address in addresses]),
            head=head,
            body=way.message.body,
            size=len(head) + way.message.body.size,
            needs_8bit=True,
            needs_utf8=not head.isascii(),
            has_long_line=False,
        )
        outcomes = LocalMail(self.addressing, self.spool.add, self._warn).deliver(outgoing)
        return {outcome.recipient: outcome.error for outcome in outcomes if outcome.error is not None}

    # -- the spool -----------------------------------------------------------------------------------------

    def _queue(self, way: _Way, addresses: Sequence[str], user: "User") -> None:
        from mailtools.core.queue import envelope as queue

        given = way.submission
        waiting = tuple([Recipient(address, given.notify) for address in addresses])
        is_ascii = way.message.fields.isascii()
        envelope = queue.QueueEnvelope(
            way.identity,
            clock.now(),
            way.reverse_path,
            waiting,
            needs_utf8=not is_ascii and _is_utf8(way.message.fields),
            ret=given.ret,
            envid=given.envid,
            origin=f"{user.name} (userid {user.number})",
        )
        head = way.received.encode() + way.message.fields + b"\n"
        self.spool.add(envelope, _after(head, way.message.body))


class User(NamedTuple):
    """The user who runs the program."""

    number: int
    name: str
    full_name: str = ""


def _no_address(text: str) -> BadDataError:
    return BadDataError(f"not an address: {submission.readable(text)[:200]!r}; write local@domain")


def is_mailbox(address: str) -> bool:
    """Return True if *address* is local@domain. Plain addresses need no import of `re`."""
    local, _, domain = address.rpartition("@")
    if address.isascii() and all(map(_is_label, domain.split("."))) and all(map(_is_word, local.split("."))):
        return True
    from mailtools.core.queue import envelope as queue
    from mailtools.core.smtp import grammar

    return grammar.is_mailbox(address) and queue.is_safe(address)


def _is_word(text: str) -> bool:
    return text.replace("-", "").replace("_", "").replace("+", "").isalnum()


def _is_label(text: str) -> bool:
    return text.replace("-", "").isalnum() and text[0] != "-" != text[-1]


def _refusal(address: str, error: MailError) -> MailError:
    from mailtools.services.delivery.failures import explained

    kind = TemporaryError if isinstance(error, TemporaryError) else UnknownRecipientError
    return kind(f"{address}: {explained(error)}")


def raise_worst(failed: dict[str, MailError]) -> None:
    """Raise the error of a message that no recipient got, unless the queue may deliver it later.

    Raises CannotWriteError, UnknownRecipientError.
    """
    errors = list(failed.values())
    for error in errors:
        if isinstance(error, CannotWriteError):
            raise error
    if all(isinstance(error, UnknownRecipientError) for error in errors):
        raise UnknownRecipientError("; ".join(map(str, dict.fromkeys(map(str, errors)))))


def _append(path: str, record: appending.NewRecord) -> None:
    """Append, waiting for the lock for 30 s. Raises CannotWriteError, LockTimeoutError."""
    deadline = clock.monotonic() + _LOCK_TIMEOUT
    while not appending.append(path, [record]):
        if clock.monotonic() > deadline:
            raise LockTimeoutError(f"{path}: locked by another program")
        time.sleep(_LOOK_AGAIN)


def quoted(body: Buffer, beside: str) -> Buffer:
    """Return *body* with its From lines quoted: the same buffer if it has none. Raises CannotWriteError."""
    if body.is_in_memory:
        octets = b"".join(body.blocks())
        lines = quoting.quote(octets)
        if lines is octets:
            return body
        found = Buffer(beside)
        found.append(lines)
        return found
    from mailtools.services.transit.mbox_form import MboxIntake

    intake = MboxIntake(beside=beside, in_header=False)
    try:
        for block in body.blocks():
            intake.take(block)
        intake.end()
    except OSError as error:
        raise CannotWriteError(f"{beside}: {error.strerror}") from error
    return intake.body


def _after(head: bytes, body: Buffer) -> Iterator[bytes]:
    yield head
    yield from body.blocks()


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True
