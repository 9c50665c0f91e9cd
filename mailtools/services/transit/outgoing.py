"""Makes a message ready to be sent: checks its octets, completes its header, finds its envelope.

Takes octets (LF or CRLF, in blocks of any size); returns an `Outgoing`. The body is never changed. In the
header Bcc is removed, and Date and Message-ID are added if they are missing (RFC 6409 §8). Knows no
connection.

The whole message is read before its first octet is sent: so a bare CR or NUL anywhere refuses it, and the
parameters SIZE and BODY of MAIL are right.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from mailtools.core.errors import BadDataError
from mailtools.core.message import address, header
from mailtools.core.message.recipient import Recipient
from mailtools.core.smtp import grammar
from mailtools.core.wire import eol
from mailtools.services.transit.intake import LONG_LINE, MAX_HEADER, Intake, IntakePolicy
from mailtools.system.files.buffer import Buffer

_MAX_RECODED = 64 << 20  # octets; re-encoding holds a message in memory


class MessageBody(Protocol):
    """Octets that can be read more than once, such as a Buffer, whose class says who closes it."""

    size: int

    def blocks(self) -> Iterator[bytes]:
        """Yield all octets in blocks."""

    def close(self) -> None:
        """Free memory and file. A second call does nothing."""


class Outgoing(NamedTuple):
    """One message and its envelope."""

    name: str  # the name of the message in texts for people
    reverse_path: str
    recipients: tuple[Recipient, ...]
    head: bytes  # the header and its empty line, CRLF
    body: MessageBody  # LF
    size: int  # octets as sent, dots not stuffed
    needs_8bit: bool
    needs_utf8: bool  # because of the header; the addresses may need it too (RFC 6531)
    has_long_line: bool
    ret: str = ""  # RFC 3461 §4.3: "", FULL or HDRS
    envid: str = ""  # RFC 3461 §4.4, in xtext
    author: str = ""  # the first address of From
    bcc: bytes = b""  # the Bcc fields that were removed, CRLF: for the sender's own copy
    may_recode: bool = True  # for a server without 8BITMIME (RFC 6152)

    def blocks(self) -> Iterator[bytes]:
        """Yield the message as sent: CRLF, with a line end after the last line.

        A block is whole lines, or a piece of a long line.
        """
        yield self.head
        block = b"\n"
        for block in whole_lines(self.body.blocks()):
            yield eol.to_crlf(block)
        if not block.endswith(b"\n"):
            yield b"\r\n"


class Wishes(NamedTuple):
    """The caller's options for a message."""

    recipients: tuple[str, ...] = ()
    from_header: bool = False  # also send to the recipients that the header names
    sender: str | None = None  # None: the From field; "": the null reverse-path
    fallback_sender: str = ""
    notify: str = ""  # RFC 3461 §4.1: "", NEVER, or some of SUCCESS,FAILURE,DELAY
    ret: str = ""
    envid: str = ""  # in xtext
    body: str = "auto"  # "7bit": always re-encode 8-bit parts; "8bit": never; "auto": if the server needs it


class Stamps(NamedTuple):
    """Values for fields that are missing."""

    date: str
    message_id: str


def prepare(
    name: str, blocks: Iterable[bytes], wishes: Wishes, stamps: Stamps, drops_postmark: bool = False
) -> Outgoing:
    """Read a whole message and make it ready to be sent.

    Raises BadDataError if SMTP cannot carry the message, or it has no recipient.
    """
    intake = Intake(_policy(name, drops_postmark))
    for block in blocks:
        intake.take(block)
    intake.end()
    head = _complete(intake.header, stamps)
    recipients = _recipients(name, intake.header, wishes)
    writer = author(intake.header)
    reverse_path = _reverse_path(name, writer, wishes)
    head = eol.to_crlf(head + b"\n")
    message = Outgoing(
        name=name,
        reverse_path=reverse_path,
        recipients=tuple(Recipient(recipient, wishes.notify) for recipient in recipients),
        head=head,
        body=intake.body,
        size=len(head) + intake.body.size + intake.lines + (not intake.ends_with_newline) * 2,
        needs_8bit=not (head.isascii() and intake.is_ascii),
        needs_utf8=_is_utf8(head),
        has_long_line=intake.has_long_line,
        ret=wishes.ret,
        envid=wishes.envid,
        author=writer,
        bcc=eol.to_crlf(b"".join(b"Bcc: %s\n" % value for value in header.values(intake.header, "Bcc"))),
        may_recode=wishes.body != "8bit",
    )
    return to_7bit(message) if wishes.body == "7bit" and message.needs_8bit else message


def to_7bit(message: Outgoing) -> Outgoing:
    """Return *message* with its 8-bit parts re-encoded (RFC 6152 §3), in a new body. Raises BadDataError."""
    from mailtools.core.message import recode

    if message.body.size > _MAX_RECODED:
        text = f"{message.name}: 8-bit, and larger than {_MAX_RECODED} octets: too large to be re-encoded"
        raise BadDataError(text).coded("5.6.3")
    octets = recode.to_7bit(message.head.replace(b"\r\n", b"\n") + b"".join(message.body.blocks()))
    start = header.body_offset(octets)
    body = Buffer()
    body.append(octets[start:])
    head = eol.to_crlf(octets[:start])
    ends = octets.endswith(b"\n")
    size = len(head) + body.size + octets.count(b"\n", start) + (not ends) * 2
    return message._replace(head=head, body=body, size=size, needs_8bit=False, has_long_line=False)


class _Reheaded:
    """A body whose header is replaced. The original body stays open."""

    def __init__(self, header_fields: bytes, skip: int, body: MessageBody) -> None:
        self._fields = header_fields
        self._skip = skip
        self._body = body
        self.size = body.size - skip + len(header_fields)

    def blocks(self) -> Iterator[bytes]:
        """Yield the header, then what follows the first one."""
        yield self._fields
        skip = self._skip
        for block in self._body.blocks():
            if skip < len(block):
                yield block[skip:]
            skip = max(0, skip - len(block))

    def close(self) -> None:
        """The body belongs to the message it was made of."""


def to_ascii_header(message: Outgoing) -> Outgoing:
    """Return *message* with its header in ASCII, for a server without SMTPUTF8. Raises BadDataError.

    The header is in `head`, or at the beginning of the body (as the queue keeps it).
    """
    from mailtools.core.message import ascii_header

    if message.head:
        fields = eol.to_crlf(ascii_header.encoded(message.head.replace(b"\r\n", b"\n")))
        size = message.size - len(message.head) + len(fields)
        body: MessageBody = _Reheaded(b"", 0, message.body)
        return message._replace(head=fields, body=body, size=size, needs_utf8=False)
    begin = b""
    for block in message.body.blocks():
        begin += block
        if header.body_offset(begin) < len(begin) or len(begin) > 2 * MAX_HEADER:
            break
    old = begin[: header.body_offset(begin)]
    new = ascii_header.encoded(old)
    grown = len(new) + new.count(b"\n") - len(old) - old.count(b"\n")
    body = _Reheaded(new, len(old), message.body)
    return message._replace(body=body, size=message.size + grown, needs_utf8=False)


def _policy(name: str, drops_postmark: bool) -> IntakePolicy:
    return IntakePolicy(
        nul=f"{name}: holds a NUL, which SMTP cannot carry; not sent",
        bare_cr=f"{name}: holds a CR that no LF follows, which SMTP cannot carry; not sent",
        large_header=f"{name}: the header is larger than {MAX_HEADER} octets; not sent",
        drops_postmark=drops_postmark,
        measures=True,
        split=_split,
    )


def _split(octets: bytes) -> tuple[bytes, int]:
    """Split header and body. A message that does not begin with a field is all body."""
    start = header.body_offset(octets)
    fields = octets[:start]
    return (fields[:-1] if fields == b"\n" or fields.endswith(b"\n\n") else fields), start


def _complete(fields: bytes, stamps: Stamps) -> bytes:
    """Return *fields* without Bcc and with Date and Message-ID."""
    fields = header.remove(fields, "Bcc", "Resent-Bcc")
    if header.value(fields, "Date") is None:
        fields += f"Date: {stamps.date}\n".encode()
    if header.value(fields, "Message-ID") is None:
        fields += f"Message-ID: {stamps.message_id}\n".encode()
    return fields


def _recipients(name: str, fields: bytes, wishes: Wishes) -> tuple[str, ...]:
    found = list(wishes.recipients)
    if wishes.from_header or not found:
        for field in ("To", "Cc", "Bcc"):
            for value in header.values(fields, field):
                for fault in address.faults(value):  # a guess could leave a recipient out
                    raise BadDataError(f"{name}: {field}: {fault.entry[:200]!r}: {fault.why}")
                found += address.addr_specs(value)
    for recipient in found:
        if not is_address(recipient):
            raise BadDataError(f"{name}: not an address to send to: {recipient!r}; write local@domain")
    if not found:
        raise BadDataError(f"{name}: no recipients; name them as arguments, or in To, Cc or Bcc")
    return tuple(dict.fromkeys(found))


def is_address(text: str) -> bool:
    """Return True if an envelope may contain *text*. Surrogates come from arguments that are not UTF-8."""
    return grammar.is_mailbox(text) and text.encode(errors="replace").decode() == text


def author(fields: bytes) -> str:
    """Return the first address of From in a header that SMTP can carry; "" if there is none."""
    for value in header.values(fields, "From"):
        for spec in address.addr_specs(value):
            if grammar.is_mailbox(spec):
                return spec
    return ""


def _reverse_path(name: str, author: str, wishes: Wishes) -> str:
    sender = author or wishes.fallback_sender if wishes.sender is None else wishes.sender
    sender = sender.strip().removeprefix("<").removesuffix(">")
    if sender and not is_address(sender):
        raise BadDataError(f"{name}: not an envelope sender: {sender!r}; write local@domain or <>")
    return sender


def _is_utf8(head: bytes) -> bool:
    """Return True if the header is 8-bit UTF-8 (RFC 6532). Other 8-bit headers are older than that RFC."""
    if head.isascii():
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut *blocks* at line ends, because dots are stuffed at the beginning of a block.

    A line of more than `LONG_LINE` octets may be cut inside.
    """
    rest = b""
    for block in blocks:
        octets = rest + block if rest else block
        cut = octets.rfind(b"\n") + 1
        if cut or len(octets) <= LONG_LINE:
            rest = octets[cut:]
            octets = octets[:cut]
        else:
            rest = b""
        if octets:
            yield octets
    if rest:
        yield rest
