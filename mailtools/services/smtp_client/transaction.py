"""One transaction: one message over one SMTP or LMTP connection, from the client's side.

If the server offers PIPELINING (RFC 2920) MAIL, all RCPTs and, where possible, DATA are sent together. DATA
waits for the replies if a refused recipient fails the whole message (so that the caller may repeat it
without duplicates), except for a single recipient: after a 354 a message cannot be taken back.

A transaction never waits: its generators yield while octets have to come or go. services/smtp_client/sender
drives them. Each recipient's `Outcome` holds the reply or the error.
"""

import re
from collections.abc import Generator
from enum import Enum
from typing import TypeVar

from mailtools.core.errors import BadDataError, MailError, TemporaryError
from mailtools.core.message.recipient import Recipient
from mailtools.core.smtp.reply import Reply
from mailtools.services.smtp_client.connection import Link, failure
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing, to_7bit, to_ascii_header

_FLUSH_AT = 128 << 10  # octets gathered before a write


class Need(Enum):
    """What the sender of messages needs before it can go on."""

    MESSAGE = 1  # the next message; if one is under way, the sender can go on without
    LINK = 2
    TIME = 3  # the link must become readable or writable
    NOTHING = 4  # it has ended


T = TypeVar("T")
Talk = Generator[Need, None, T]  # yields while octets have to come or go first


class Transaction:
    """One message over one link."""

    def __init__(self, link: Link, message: Outgoing, partial: bool) -> None:
        """Raises BadDataError if this server cannot take *message*."""
        self.message = message
        self._link = link
        self._partial = partial
        self._is_begun = False
        self._took_dsn = "DSN" in link.offered
        self._outcomes: dict[str, Outcome] = {}
        # The given message stays unchanged: another server, the queue or a copy may need it.
        self._rcpts = [_rcpt(link, recipient) for recipient in message.recipients]
        path = _on_the_wire(message.reverse_path, link)
        self._carried = _carried(link.offered, message)
        self._mail = f"FROM:<{path}>{_mail_parameters(link, self._carried)}"

    def begin(self) -> None:
        """Send the commands that may go before the first reply. A second call does nothing.

        Raises MailError.
        """
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
        if self._link.is_lmtp:  # an empty message, sent after a refusal, gets no reply (RFC 2033 §4.2)
            return False
        return self._partial or len(self._rcpts) == 1

    def run(self) -> Talk[bool]:
        """Read the replies to what `begin` sent, and write the message into the buffer. Raises MailError.

        Returns True if the verdict is still to come, False if the message failed and the outcomes are known.
        """
        try:
            return (yield from self._run())
        finally:
            self.forget()

    def forget(self) -> None:
        """Close the copy of the message that was made for this server, if there is one."""
        if self._carried is not self.message:
            self._carried.body.close()

    def _run(self) -> Talk[bool]:
        self.begin()
        mail = yield from next_reply(self._link)
        data = yield from self._recipients(mail)
        if not self._pending:
            yield from self._leave(mail, data)
            return False
        if data is None:
            data = yield from ask(self._link, "DATA")
        if data.code != 354:
            self._settle(data, "DATA")
            yield from self._leave(mail, data)
            return False
        yield from self._body()
        return True

    def _recipients(self, mail: Reply) -> Talk[Reply | None]:
        """Read the replies to RCPT; return the reply to DATA if DATA was sent with them."""
        link = self._link
        replies: list[Reply] = []
        data = None
        if link.pipelining:
            for _ in self._rcpts:
                replies.append((yield from next_reply(link)))
            data = (yield from next_reply(link)) if self._data_joins else None
        elif mail.is_completed:
            for rcpt in self._rcpts:
                replies.append((yield from ask(link, "RCPT", rcpt)))
        if not mail.is_completed:
            self._settle(mail, "MAIL")
            return data
        is_some_accepted = False
        for recipient, reply in zip(self.message.recipients, replies, strict=True):
            if reply.is_completed:
                is_some_accepted = True
            elif reply.code == 552 and is_some_accepted:
                # "Too many recipients" of servers before 452 was used for it (RFC 5321 §4.5.3.1.10).
                self._note(recipient.address, reply, TemporaryError(str(reply)))
            else:
                self._note(recipient.address, reply, failure("RCPT", reply))
        if self._outcomes and not self._partial:
            self._fail_companions()
        return data

    def _fail_companions(self) -> None:
        """A refused recipient fails the others too. They can be tried again if this recipient can."""
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
        """Note *reply* for each recipient that has no outcome yet."""
        error = None if command == "." and reply.is_completed else failure(command, reply)
        for address in self._pending:
            self._note(address, reply, error)

    def _leave(self, mail: Reply, data: Reply | None) -> Talk[None]:
        """Reset the session so that MAIL may follow; after a 354 an empty message does (RFC 2920 §3.1).

        If the server closes the connection instead, its refusal stands and the link is broken.
        """
        link = self._link
        link.answered += 1
        try:
            if data is not None and data.code == 354:
                link.end_message()
                yield from next_reply(link)
            if mail.is_completed:
                yield from ask(link, "RSET")
        except MailError as error:
            link.broken = error

    def _body(self) -> Talk[None]:
        size = 0
        for block in self._carried.blocks():
            self._link.message_chunk(block)
            size += len(block)
            if size > _FLUSH_AT:
                while not self._link.push():
                    yield Need.TIME
                size = 0
        self._link.end_message(len(self._pending))

    def verdict(self) -> Talk[None]:
        """Read the reply to the end of the message; in LMTP one for each recipient (RFC 2033 §4.2)."""
        link = self._link
        try:
            link.push()
            if link.is_lmtp:
                for address in self._pending:
                    reply = yield from next_reply(link)
                    self._note(address, reply, None if reply.is_completed else failure(".", reply))
            else:
                self._settle((yield from next_reply(link)), ".")
        except MailError as error:
            # Only the server knows if it has the message (RFC 1047). To repeat it may double it, but never
            # lose it.
            link.broken = TemporaryError(str(error))
            doubt = TemporaryError(f"{error}; the message may have been delivered")
            for address in self._pending:
                self._note(address, None, doubt)
        else:
            link.answered += 1

    @property
    def outcomes(self) -> list[Outcome]:
        """The outcomes, in the order of the recipients."""
        return [self._outcomes[recipient.address] for recipient in self.message.recipients]


def next_reply(link: Link) -> Talk[Reply]:
    """Return the next reply. Raises MailError."""
    while (reply := link.poll_reply()) is None:
        yield Need.TIME
    return reply


def ask(link: Link, verb: str, argument: str = "") -> Talk[Reply]:
    """Send a command and return its reply. Raises MailError."""
    link.say(verb, argument)
    return (yield from next_reply(link))


def failed_outcomes(message: Outgoing, error: MailError) -> list[Outcome]:
    """Return the same *error* for every recipient."""
    return [Outcome(message, recipient.address, None, error) for recipient in message.recipients]


# -- what a server can take, and the parameters of its commands
# ------------------------------------------------------------


def _carried(offered: dict[str, str], message: Outgoing) -> Outgoing:
    """Return *message* in the form that this server can take. Raises BadDataError."""
    if message.needs_utf8 and "SMTPUTF8" not in offered:
        return _carried(offered, to_ascii_header(message))
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
    """Return *address* with its domain as A-labels, unless the server offers SMTPUTF8.

    Raises BadDataError for a non-ASCII local part if SMTPUTF8 is not offered (RFC 6531 §3.2).
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
        parameters += f" ORCPT={_orcpt(recipient.orcpt, link)}" if recipient.orcpt else ""
    return f"TO:<{_on_the_wire(recipient.address, link)}>{parameters}"


def _orcpt(orcpt: str, link: Link) -> str:
    """Return *orcpt* as this server understands it: without SMTPUTF8 in ASCII (RFC 6533 §3)."""
    if orcpt.isascii() or "SMTPUTF8" in link.offered:
        return orcpt
    return "".join(char if char.isascii() else f"\\x{{{ord(char):X}}}" for char in orcpt)
