"""Accepts a message from a program on this host: delivers it to our mailboxes, or puts it into the spool.

The service behind `mailtools sendmail`. When `Post.accept` returns, the message is on the disk for every
recipient. Knows no option and no process.

Recipients of ours get the message at once; if it cannot be now, it waits in the spool, as for recipients on
other servers. A queue run tries again, or sends the message on. The sender gets a DSN about recipients that
do not exist, if another one does. With `SendmailSettings.submit` a server of this host takes the message for
all recipients instead; what it cannot take now waits in the spool.

Start-up is most of the run time here. So the usual case, a plain mbox or the spool, imports only what it
needs (no sockets, no threads, no patterns).
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from mailtools.services.submission.names import Names, Places, SendmailSettings, User
from mailtools.services.transit.intake import MAX_HEADER, Intake, IntakePolicy
from mailtools.system import clock
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox import appending

if TYPE_CHECKING:
    from mailtools.services.submission.refused import BadAddress
    from mailtools.services.transit.outgoing import Outgoing
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

    recipients: tuple[str, ...]  # local@domain, see `Names.address`
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


class _Way(NamedTuple):
    """A message in progress: completed, with its envelope and its Received field."""

    message: Message
    submission: Submission
    reverse_path: str
    identity: str
    received: str


class QueuedHop(NamedTuple):
    """The next hop of mail for other servers, as the queue keeps it. *sender*: its address, or ""."""

    route: str = ""
    tls: str = ""
    account: str = ""
    sender: str = ""


Choose = Callable[[str], QueuedHop]


def no_choice(author: str) -> QueuedHop:
    """Leave the choice to the queue run."""
    return QueuedHop()


class Post:
    """Accepts messages from *user*. *warn* gets texts for operators.

    *choose*: returns the next hop of mail for other servers, for the address in From.
    """

    def __init__(
        self,
        settings: SendmailSettings,
        user: User,
        warn: Callable[[str], None] = lambda _: None,
        choose: Choose = no_choice,
    ) -> None:
        self.settings = settings
        self.names = Names(settings, user.name, warn)
        self._user = user
        self._warn = warn
        self._choose = choose
        self._queued_by_alias = False  # beside a program that an alias names

    @cached_property
    def spool(self) -> "Spool":
        """The spool, opened at first use."""
        from mailtools.system.spool.spool import Spool

        return Spool(self.settings.spool or os.path.join(self.names.root, ".spool"), self._warn)

    # -- one message ---------------------------------------------------------------------------------------

    def accept(self, message: Message, given: Submission) -> Handed:
        """Accept *message*: it is durable when this returns.

        Raises BadDataError, RefusedError (a mail loop), UnknownRecipientError (no recipient exists),
        CannotWriteError; with `SendmailSettings.submit` any MailError.
        """
        if submission.hops(message.fields) > submission.MAX_HOPS:
            raise RefusedError(f"a mail loop: more than {submission.MAX_HOPS} Received fields; not taken")
        recipients, bad = self._recipients(message.fields, given)
        hop = self._hop(message.fields, recipients)
        way = self._way(message, given, hop)
        self._queued_by_alias = False
        transfer = self._submit if self.settings.submit else self._deliver
        left, unknown = transfer(way, recipients)
        ours = [address for address in left if not self._is_elsewhere(address)]
        others = [address for address in left if self._is_elsewhere(address)]
        if hop != QueuedHop() and ours and others:
            self._queue(way._replace(identity=clock.identity()), ours, QueuedHop())
            self._queue(way, others, hop)
        elif left:
            self._queue(way, left, hop if others else QueuedHop())
        is_told = bool(bad or unknown) and self._tell_of([*bad, *unknown], way)
        return Handed(way.identity, bool(left) or is_told or self._queued_by_alias, recipients)

    def _way(self, message: Message, given: Submission, hop: QueuedHop) -> _Way:
        """Complete the message. Without a sender it comes from *hop*'s address, or from the user."""
        user, names = self._user, self.names
        sender = f"{user.name}@{names.origin}"
        reverse_path = hop.sender or sender if given.sender is None else given.sender
        identity, now = clock.identity(), int(clock.now())
        stamps = SubmissionStamps(
            sender=reverse_path or sender,
            full_name=given.full_name or user.full_name,
            origin=names.origin,
            date=clock.date_field(now),
            message_id=f"<{identity}@{names.host}>",
        )
        message = message._replace(fields=submission.complete(message.fields, stamps))
        received = trace.submitted(user.number, names.host, identity, stamps.date)
        return _Way(message, given, reverse_path, identity, received)

    def _recipients(self, fields: bytes, given: Submission) -> "tuple[tuple[str, ...], Sequence[BadAddress]]":
        """Return the recipients, and entries that are none. Raises BadDataError if there is no recipient."""
        found, bad = list(given.recipients), list(given.bad)
        if given.from_header:
            from mailtools.services.submission import refused

            good, more = refused.in_header(fields, self.names.address)
            found += good
            bad += more
        if not found and bad:
            raise BadDataError(f"not an address: {bad[0]}")
        if not found:
            raise BadDataError("no recipients in To, Cc or Bcc; name them there, or as arguments")
        return tuple(dict.fromkeys(found)), bad

    def _is_elsewhere(self, address: str) -> bool:
        return bool(self.settings.submit) or not self.names.is_local(address)

    def _hop(self, fields: bytes, recipients: Sequence[str]) -> QueuedHop:
        """Return the next hop of recipients on other servers. Raises ConfigurationError."""
        if self.settings.submit:
            return QueuedHop(self.settings.submit)
        if self._choose is no_choice or all(map(self.names.is_local, recipients)):
            return QueuedHop()
        from mailtools.services.transit.outgoing import author

        return self._choose(author(fields))

    def _tell_of(self, bad: "Sequence[BadAddress]", way: _Way) -> bool:
        """Queue a DSN about recipients that get nothing; return True if it is queued."""
        from mailtools.services.submission import refused

        if way.submission.notify and "FAILURE" not in way.submission.notify:  # RFC 3461 §4.1
            return False
        notices = refused.make_notices(self.spool.add, self.names.host)
        about = refused.About(way.reverse_path, way.identity, way.submission.envid, way.message.fields)
        return refused.tell(bad, about, notices, self._warn)

    # -- a server of this host -----------------------------------------------------------------------------

    def _submit(self, way: _Way, recipients: Sequence[str]) -> "tuple[list[str], Sequence[BadAddress]]":
        """Give the message to the server; return recipients left for the spool, and those it refused."""
        from mailtools.services.submission import submit

        answer = submit.submit(self.settings.submit, self._outgoing(way, recipients), self.names.host)
        if answer.later:
            self._can_queue(answer.later)
        return list(answer.later), answer.refused

    def _can_queue(self, later: "Mapping[str, MailError]") -> None:
        """Raise the server's error if nothing can wait here: a system user may have no home directory."""
        why = next(iter(later.values()))
        try:
            self.spool.make()
        except MailError as error:
            raise TemporaryError(f"{why}; not queued: {error}") from error

    # -- our mailboxes -------------------------------------------------------------------------------------

    def _deliver(self, way: _Way, recipients: Sequence[str]) -> "tuple[Sequence[str], Sequence[BadAddress]]":
        """Deliver to recipients of ours; return those left for the spool, and those who do not exist.

        Raises as `accept`.
        """
        places: dict[str, Places] = {}
        failed: dict[str, MailError] = {}
        for address in filter(self.names.is_local, recipients):
            found = self._found(address)
            if isinstance(found, Places):
                places[address] = found
            else:
                failed[address] = found
        elsewhere: list[str] = []
        if "SUCCESS" in way.submission.notify:  # a queue run sends that report
            elsewhere, places = list(places), {}
        elif any(its.has_program for its in places.values()):
            failed |= self._by_program(way, list(places))
            self._queued_by_alias = any(its.elsewhere for its in places.values())
        elif places:
            elsewhere = [address for its in places.values() for address in its.elsewhere]
            failed |= self._into_mboxes(way, places)
        if failed.keys() == set(recipients):
            raise_worst(failed)
        unknown = {a: e for a, e in failed.items() if isinstance(e, UnknownRecipientError)}
        left = [a for a in recipients if a not in unknown and (a in failed or not self.names.is_local(a))]
        return list(dict.fromkeys(left + elsewhere)), _as_unknown(unknown) if unknown else ()

    def _found(self, address: str) -> Places | MailError:
        try:
            return self.names.places(address)
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

        mailboxes = LocalMail(self.names.addressing, self.spool.add, self._warn)
        outcomes = mailboxes.deliver(self._outgoing(way, addresses))
        return {outcome.recipient: outcome.error for outcome in outcomes if outcome.error is not None}

    def _outgoing(self, way: _Way, addresses: Sequence[str]) -> "Outgoing":
        from mailtools.services.transit.outgoing import Outgoing

        given = way.submission
        head = (way.received.encode() + way.message.fields + b"\n").replace(b"\n", b"\r\n")
        return Outgoing(
            name=way.identity,
            reverse_path=way.reverse_path,
            recipients=tuple([Recipient(address, given.notify) for address in addresses]),
            head=head,
            body=way.message.body,
            size=len(head) + way.message.body.size,
            needs_8bit=True,
            needs_utf8=not head.isascii() and _is_utf8(way.message.fields),
            has_long_line=False,
            ret=given.ret,
            envid=given.envid,
        )

    # -- the spool -----------------------------------------------------------------------------------------

    def _queue(self, way: _Way, addresses: Sequence[str], hop: QueuedHop) -> None:
        from mailtools.core.queue import envelope as queue

        given, user = way.submission, self._user
        is_ascii = way.message.fields.isascii()
        envelope = queue.QueueEnvelope(
            way.identity,
            clock.now(),
            way.reverse_path,
            tuple([Recipient(address, given.notify) for address in addresses]),
            needs_utf8=not is_ascii and _is_utf8(way.message.fields),
            ret=given.ret,
            envid=given.envid,
            origin=f"{user.name} (userid {user.number})",
            route=hop.route,
            tls=hop.tls,
            account=hop.account,
        )
        head = way.received.encode() + way.message.fields + b"\n"
        self.spool.add(envelope, _after(head, way.message.body))


def _as_unknown(failed: Mapping[str, MailError]) -> "Sequence[BadAddress]":
    from mailtools.services.submission.refused import BadAddress

    return [BadAddress(address, str(error), "5.1.1") for address, error in failed.items()]


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
