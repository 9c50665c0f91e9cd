"""Messages over SMTP or LMTP to one server: the client's side of transactions, many messages over one link.

The commands of a transaction go out together where the server offers PIPELINING (RFC 2920), and those of the
next message while the answer to this one is on its way: one round trip a message. Where a recipient refused
before DATA fails the whole message (so that the caller may run it again without duplicates), DATA joins them
only for one recipient: after a 354 a message cannot be taken back.

A `session` never waits: it yields what it needs, and whoever drives it waits, for one link (`transfer`) or
for many (services/queue/runner). Knows no exit codes: each recipient's `Outcome` holds the reply or the
error.
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from enum import Enum
from typing import NamedTuple, TypeVar

from mailtools.core.errors import BadDataError, MailError, TemporaryError
from mailtools.core.message.recipient import Recipient
from mailtools.core.smtp.reply import Reply
from mailtools.services.smtp_client.connection import Link, Patience, failure
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing, to_7bit
from mailtools.system.net.client_connection import LostConnectionError

_FLUSH_AT = 128 << 10  # octets gathered before a write
_END = object()

T = TypeVar("T")
Talk = Generator[Link, None, T]  # yields the link when octets have to come or go first


class _Transaction:
    """One message over one link."""

    def __init__(self, link: Link, message: Outgoing, partial: bool) -> None:
        """Raises BadDataError where this server cannot carry *message*."""
        self.message = message
        self._link = link
        self._partial = partial
        self._is_begun = False
        self._took_dsn = "DSN" in link.offered
        self._outcomes: dict[str, Outcome] = {}
        # The message as it was handed in stays whole: another server, the queue or a copy may need it.
        self._rcpts = [_rcpt(link, recipient) for recipient in message.recipients]
        path = _on_the_wire(message.reverse_path, link)
        self._carried = _carried(link.offered, message)
        self._mail = f"FROM:<{path}>{_mail_parameters(link, self._carried)}"

    def begin(self) -> None:
        """Send what may go before the first answer; again does nothing."""
        if self._is_begun:
            return
        self._is_begun = True
        self._link.say("MAIL", self._mail)
        if self._link.pipelining:
            for rcpt in self._rcpts:
                self._link.say("RCPT", rcpt)
            if self._data_joins:
                self._link.say("DATA")
        self._link.push()

    @property
    def _data_joins(self) -> bool:
        if self._link.is_lmtp:  # it would answer an empty message with nothing (RFC 2033 §4.2)
            return False
        return self._partial or len(self._rcpts) == 1

    def run(self) -> Talk[bool]:
        """Take the answers to what `begin` sent, and send the message.

        True: the verdict is to come. False: the message failed, and the outcomes are known. Raises MailError.
        """
        try:
            return (yield from self._run())
        finally:
            self.forget()

    def forget(self) -> None:
        """Give back what was made for this server only."""
        if self._carried is not self.message:
            self._carried.body.close()

    def _run(self) -> Talk[bool]:
        self.begin()
        mail = yield from _reply(self._link)
        data = yield from self._recipients(mail)
        if not self._pending:
            yield from self._leave(mail, data)
            return False
        if data is None:
            data = yield from _ask(self._link, "DATA")
        if data.code != 354:
            self._settle(data, "DATA")
            yield from self._leave(mail, data)
            return False
        yield from self._body()
        return True

    def _recipients(self, mail: Reply) -> Talk[Reply | None]:
        """Take or fetch the answers to RCPT; the one to DATA where that was sent already."""
        link = self._link
        replies: list[Reply] = []
        data = None
        if link.pipelining:
            for _ in self._rcpts:
                replies.append((yield from _reply(link)))
            data = (yield from _reply(link)) if self._data_joins else None
        elif mail.is_completed:
            for rcpt in self._rcpts:
                replies.append((yield from _ask(link, "RCPT", rcpt)))
        if not mail.is_completed:
            self._settle(mail, "MAIL")
            return data
        for recipient, reply in zip(self.message.recipients, replies, strict=True):
            if not reply.is_completed:
                self._note(recipient.address, reply, failure("RCPT", reply))
        if self._outcomes and not self._partial:
            self._fail_companions()
        return data

    def _fail_companions(self) -> None:
        """One refused recipient fails the others too; they are to be tried again if that one is."""
        refused = [outcome.error for outcome in self._outcomes.values() if outcome.error]
        first = next((error for error in refused if isinstance(error, TemporaryError)), refused[0])
        for address in self._pending:
            self._note(address, None, type(first)("not sent, for another recipient was refused"))

    @property
    def _pending(self) -> list[str]:
        return [r.address for r in self.message.recipients if r.address not in self._outcomes]

    def _note(self, address: str, reply: Reply | None, error: MailError | None) -> None:
        self._outcomes[address] = Outcome(
            self.message, address, reply, error, self._link.remote, self._took_dsn and error is None
        )

    def _settle(self, reply: Reply, command: str) -> None:
        """*reply* is the answer for everybody who has none yet."""
        error = None if command == "." and reply.is_completed else failure(command, reply)
        for address in self._pending:
            self._note(address, reply, error)

    def _leave(self, mail: Reply, data: Reply | None) -> Talk[None]:
        """Get back to where MAIL may come; after a 354 that means an empty message (RFC 2920 §3.1).

        A server that closes instead changes nothing of its refusal; the link is broken then.
        """
        link = self._link
        link.answered += 1
        try:
            if data is not None and data.code == 354:
                link.end_message()
                yield from _reply(link)
            if mail.is_completed:
                yield from _ask(link, "RSET")
        except MailError as error:
            link.broken = error

    def _body(self) -> Talk[None]:
        size = 0
        for block in self._carried.blocks():
            self._link.message_chunk(block)
            size += len(block)
            if size > _FLUSH_AT:
                while not self._link.push():
                    yield self._link
                size = 0
        self._link.end_message(len(self._pending))

    def verdict(self) -> Talk[None]:
        """Take the answer to the message's end: one, or in LMTP one for each recipient (RFC 2033 §4.2)."""
        link = self._link
        try:
            if link.is_lmtp:
                for address in self._pending:
                    reply = yield from _reply(link)
                    self._note(address, reply, None if reply.is_completed else failure(".", reply))
            else:
                self._settle((yield from _reply(link)), ".")
        except MailError as error:
            # Delivered or not: only the server knows (RFC 1047). Trying again may double, never lose.
            link.broken = TemporaryError(str(error))
            doubt = TemporaryError(f"{error}; the message may have been delivered")
            for address in self._pending:
                self._note(address, None, doubt)
        else:
            link.answered += 1

    @property
    def outcomes(self) -> list[Outcome]:
        """In the order of the recipients."""
        return [self._outcomes[recipient.address] for recipient in self.message.recipients]


def _reply(link: Link) -> Talk[Reply]:
    while (reply := link.poll_reply()) is None:
        yield link
    return reply


def _ask(link: Link, verb: str, argument: str = "") -> Talk[Reply]:
    link.say(verb, argument)
    return (yield from _reply(link))


class Need(Enum):
    """What a session waits for, other than its link."""

    LINK = 1  # to be sent to it, or a MailError thrown in
    MESSAGE = 2  # none is there now; it is asked for again when the session goes on


Session = Generator["Link | Need | list[Outcome]", Link | None, None]


class _Step(NamedTuple):
    """One message's outcomes, and the next message where it was taken already."""

    outcomes: list[Outcome]
    following: Outgoing | _Transaction | None = None  # a transaction: its first commands are on their way


def transfer(
    messages: Iterable[Outgoing], open_link: Callable[[], Link], *, partial: bool = False
) -> Iterator[list[Outcome]]:
    """Drive a `session` over one link at a time, waiting for it."""
    talk = session(iter(messages), partial=partial)
    patience = Patience()
    step = next(talk, None)
    try:
        while step is not None:
            try:
                answer = None
                if isinstance(step, Link):
                    patience.left(step)
                    step.wait()
                elif step is Need.LINK:
                    answer = open_link()
                elif isinstance(step, list):
                    yield step
            except MailError as error:
                step = talk.throw(error)
            else:
                step = talk.send(answer)
    except StopIteration:
        pass
    finally:
        talk.close()


def session(waiting: Iterator[Outgoing | None], *, partial: bool = False, eager: bool = False) -> Session:
    """Send what *waiting* gives over as few connections as serve; yield each one's outcomes.

    A server that closes between messages is called again; one that cannot be reached, or whose connection
    ends before it answered anything, fails every message that is left. With *partial* a refused recipient
    is no reason to keep the message from the others. A None says that no message is there yet. *eager*: the
    next message never has to be waited for, so the end of one and the begin of the next go out in one write.
    """
    link: Link | None = None
    following: _Transaction | Outgoing | None = None
    dead: MailError | None = None
    try:
        while True:
            message = following or next(waiting, _END)
            following = None
            if message is None:
                yield Need.MESSAGE
                continue
            if not isinstance(message, Outgoing | _Transaction):
                break
            if dead is not None:
                yield failed_outcomes(_message(message), dead)
                continue
            answered = 0
            try:
                link = link or (yield Need.LINK)
                assert link is not None
                answered = link.answered
                step = yield from _exchange(link, message, waiting, _Manner(partial, eager))
            except MailError as error:
                if link is not None:
                    link.close()
                    link = None
                if answered and isinstance(error, LostConnectionError):
                    following = _message(message)
                    continue
                step = _Step(failed_outcomes(_message(message), error))
                dead = None if answered else error
            else:
                dead = link.broken if not link.answered else None
            following = step.following
            if link is not None and link.broken:
                link.close()
                link = None
                following = following and _message(following)
            yield step.outcomes
        if link is not None:
            with suppress(MailError):  # a goodbye: what the server makes of it changes nothing any more
                yield from _ask(link, "QUIT")
    finally:
        if link is not None:
            link.close()


class _Manner(NamedTuple):
    partial: bool
    eager: bool


def _exchange(
    link: Link, message: Outgoing | _Transaction, waiting: Iterator[Outgoing | None], manner: _Manner
) -> Talk[_Step]:
    """Send *message*, and begin the next one of *waiting* meanwhile. Raises MailError before the body."""
    try:
        transaction = _begun(link, message, manner.partial)
    except BadDataError as error:
        return _Step(failed_outcomes(_message(message), error))
    if not (yield from transaction.run()):
        return _Step(transaction.outcomes)
    if not manner.eager:
        link.push()
    following = next(waiting, None)
    ahead = following and _begin(link, following, manner.partial)
    link.push()
    yield from transaction.verdict()
    return _Step(transaction.outcomes, ahead)


def _begun(link: Link, message: Outgoing | _Transaction, partial: bool) -> _Transaction:
    return message if isinstance(message, _Transaction) else _Transaction(link, message, partial)


def _begin(link: Link, message: Outgoing, partial: bool) -> Outgoing | _Transaction:
    """The next transaction, its commands sent; the message itself where that has to wait or cannot be."""
    if not link.pipelining:
        return message
    try:
        transaction = _Transaction(link, message, partial)
        transaction.begin()
    except MailError:  # told when it is its turn
        return message
    return transaction


def _message(either: Outgoing | _Transaction) -> Outgoing:
    if isinstance(either, _Transaction):
        either.forget()
        return either.message
    return either


def failed_outcomes(message: Outgoing, error: MailError) -> list[Outcome]:
    """The same *error* for every recipient."""
    return [Outcome(message, recipient.address, None, error) for recipient in message.recipients]


# -- what a server can carry, and how it is said ------------------------------------------------------------


def _carried(offered: dict[str, str], message: Outgoing) -> Outgoing:
    """*message* as this server can carry it. Raises BadDataError."""
    if message.needs_utf8 and "SMTPUTF8" not in offered:
        raise BadDataError("the header is not ASCII, and the server offers no SMTPUTF8").coded("5.6.7")
    if message.needs_8bit and "8BITMIME" not in offered:
        if message.may_recode and not message.needs_utf8:
            return _carried(offered, to_7bit(message))
        raise BadDataError("the message is 8-bit, and the server offers no 8BITMIME").coded("5.6.3")
    limit = offered.get("SIZE", "")
    if re.fullmatch("[0-9]{1,20}", limit) and 0 < int(limit) < message.size:
        text = f"the message has {message.size} octets; the server takes at most {limit}"
        raise BadDataError(text).coded("5.3.4")
    return message


def _on_the_wire(address: str, link: Link) -> str:
    """*address* as this server understands it: a domain of letters beyond ASCII in its A-label form.

    Raises BadDataError for a local part beyond ASCII where SMTPUTF8 is not offered (RFC 6531 §3.2).
    """
    if address.isascii() or "SMTPUTF8" in link.offered:
        return address
    local, _, domain = address.rpartition("@")
    if not local.isascii():
        raise BadDataError(f"{address} is not ASCII, and the server offers no SMTPUTF8").coded("5.6.7")
    import idna

    try:
        return f"{local}@{idna.encode(domain, uts46=True).decode()}"
    except idna.IDNAError as error:
        raise BadDataError(f"{address}: no domain: {error}").coded("5.1.3") from None


def _mail_parameters(link: Link, message: Outgoing) -> str:
    offered = link.offered
    words = [f" SIZE={message.size}"] if "SIZE" in offered else []
    if message.needs_8bit and "8BITMIME" in offered:
        words.append(" BODY=8BITMIME")
    addresses = (message.reverse_path, *(recipient.address for recipient in message.recipients))
    if "SMTPUTF8" in offered and (message.needs_utf8 or not "".join(addresses).isascii()):
        words.append(" SMTPUTF8")
    if "DSN" in offered:
        words += [f" RET={message.ret}"] if message.ret else []
        words += [f" ENVID={message.envid}"] if message.envid else []
    return "".join(words)


def _rcpt(link: Link, recipient: Recipient) -> str:
    parameters = ""
    if "DSN" in link.offered:
        parameters += f" NOTIFY={recipient.notify}" if recipient.notify else ""
        parameters += f" ORCPT={recipient.orcpt}" if recipient.orcpt else ""
    return f"TO:<{_on_the_wire(recipient.address, link)}>{parameters}"
