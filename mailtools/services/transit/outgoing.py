"""A message made ready to be sent: its octets checked, its header completed, its envelope found.

Octets come in (LF or CRLF, in blocks of any size), an `Outgoing` comes out. The body is never changed; of the
header only what must be: Bcc goes, Date and Message-ID come where they are missing (RFC 6409 §8). Knows no
connection.

Memory: a message of more than 256 KiB lies in a nameless file meanwhile, for all of it must have been seen
before its first octet may go: a bare CR or NUL anywhere stops it, and SIZE and BODY tell what is to come.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from mailtools.core.errors import BadDataError
from mailtools.core.message import address, header
from mailtools.core.message.recipient import Recipient
from mailtools.core.smtp import grammar
from mailtools.core.wire import eol
from mailtools.system.files.buffer import Buffer

MAX_HEADER = 1 << 20  # octets
MAX_LINE = 998  # octets without CRLF (RFC 5321 §4.5.3.1.6)
_LONGEST_KEPT = 1 << 20  # octets of a line without end that are gathered before they go on
_BLOCK = 256 << 10
_MAX_RECODED = 64 << 20  # octets; re-encoding holds a message in memory


class MessageBody(Protocol):
    """Octets that can be read more than once."""

    size: int

    def blocks(self) -> Iterator[bytes]:
        """All of them, in blocks."""

    def close(self) -> None:
        """Give back what they lie in."""


class Outgoing(NamedTuple):
    """One message and its envelope."""

    name: str  # how people are told which one it is
    reverse_path: str
    recipients: tuple[Recipient, ...]
    head: bytes  # the header and its empty line, CRLF
    body: MessageBody  # LF
    size: int  # octets as sent, dots not stuffed
    needs_8bit: bool
    needs_utf8: bool  # the header; addresses tell for themselves
    has_long_line: bool
    ret: str = ""  # RFC 3461 §4.3: "", FULL or HDRS
    envid: str = ""  # RFC 3461 §4.4, in xtext
    author: str = ""  # the first address of From
    bcc: bytes = b""  # the Bcc fields that were taken out, CRLF: for the sender's own copy
    may_recode: bool = True  # where a server takes 7 bits only (RFC 6152)

    def blocks(self) -> Iterator[bytes]:
        """The message as sent: CRLF, its last line ended, whole lines but for very long ones."""
        yield self.head
        block = b"\n"
        for block in whole_lines(self.body.blocks()):
            yield eol.to_crlf(block)
        if not block.endswith(b"\n"):
            yield b"\r\n"


class Wishes(NamedTuple):
    """What the caller asked for."""

    recipients: tuple[str, ...] = ()
    from_header: bool = False  # recipients of the header, in addition to those
    sender: str | None = None  # None: the From field; "": the null reverse-path
    fallback_sender: str = ""
    notify: str = ""  # RFC 3461 §4.1: "", NEVER, or some of SUCCESS,FAILURE,DELAY
    ret: str = ""
    envid: str = ""  # in xtext
    body: str = "auto"  # 7bit: re-encoded in any case; 8bit: in none


class Stamps(NamedTuple):
    """Values for fields that are missing."""

    date: str
    message_id: str


def prepare(name: str, blocks: Iterable[bytes], wishes: Wishes, stamps: Stamps) -> Outgoing:
    """Read a message to its end and make it ready.

    Raises BadDataError where SMTP cannot carry it or nobody is named to get it.
    """
    intake = _Intake(name)
    for block in blocks:
        intake.take(block)
    intake.end()
    head = _complete(intake.header, stamps)
    recipients = _recipients(name, intake.header, wishes)
    author = _author(intake.header)
    reverse_path = _reverse_path(name, author, wishes)
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
        author=author,
        bcc=eol.to_crlf(b"".join(b"Bcc: %s\n" % value for value in header.values(intake.header, "Bcc"))),
        may_recode=wishes.body != "8bit",
    )
    if wishes.body != "7bit" or not message.needs_8bit:
        return message
    recoded = to_7bit(message)
    message.body.close()
    return recoded


def to_7bit(message: Outgoing) -> Outgoing:
    """*message* with its 8-bit parts re-encoded (RFC 6152 §3), in a body of its own. Raises BadDataError."""
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


def read_blocks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    """The octets of a stream; a postmark before the message is dropped, as sendmail(8) does."""
    first = read(_BLOCK)
    while first.startswith(b"From "[: len(first)]) and b"\n" not in first and (more := read(_BLOCK)):
        first += more
    yield first.partition(b"\n")[2] if first.startswith(b"From ") else first
    while block := read(_BLOCK):
        yield block


class _Intake:
    """Takes blocks as they come; checks and keeps them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._rest = b""
        self._header: bytes | None = b""
        self.header = b""  # LF, without the empty line
        self.body = Buffer()
        self.lines = 0
        self.is_ascii = True
        self.has_long_line = False
        self.ends_with_newline = True

    def take(self, block: bytes) -> None:
        """Take octets. Raises BadDataError."""
        block = self._rest + block if self._rest else block
        cut = block.rfind(b"\n") + 1
        if not cut and len(block) > _LONGEST_KEPT:
            cut = len(block) - block.endswith(b"\r")
            self.has_long_line = True
        self._rest = block[cut:]
        if cut:
            self._lines(block[:cut])

    def end(self) -> None:
        """The message is whole. Raises BadDataError."""
        if self._rest:
            self.ends_with_newline = False
            rest, self._rest = self._rest, b""
            self._lines(rest)
        if self._header is not None:
            self._split(self._header)

    def _lines(self, octets: bytes) -> None:
        if b"\0" in octets:
            raise BadDataError(f"{self._name}: holds a NUL, which SMTP cannot carry; not sent")
        if b"\r" in octets:
            octets = octets.replace(b"\r\n", b"\n")
            if b"\r" in octets:
                raise BadDataError(
                    f"{self._name}: holds a CR that no LF follows, which SMTP cannot carry; not sent"
                )
        self.has_long_line = self.has_long_line or eol.has_line_over(octets, MAX_LINE + 1)
        if self._header is None:
            self._keep(octets)
            return
        self._header += octets
        if header.body_offset(self._header) < len(self._header):
            self._split(self._header)
        elif len(self._header) > MAX_HEADER:
            raise BadDataError(f"{self._name}: the header is larger than {MAX_HEADER} octets; not sent")

    def _split(self, octets: bytes) -> None:
        start = header.body_offset(octets)
        self._header = None
        self.header = (
            octets[:start].removesuffix(b"\n") if octets[:start].endswith(b"\n\n") else octets[:start]
        )
        if self.header == b"\n":
            self.header = b""
        if self.header and not self.header.endswith(b"\n"):
            self.header += b"\n"
            self.ends_with_newline = True
        if octets[start:]:
            self._keep(octets[start:])

    def _keep(self, octets: bytes) -> None:
        self.lines += octets.count(b"\n")
        self.is_ascii = self.is_ascii and octets.isascii()
        self.body.append(octets)


def _complete(fields: bytes, stamps: Stamps) -> bytes:
    """*fields* without Bcc and with Date and Message-ID."""
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
                found += address.addr_specs(value)
    for recipient in found:
        if not is_address(recipient):
            raise BadDataError(f"{name}: not an address to send to: {recipient!r}; write local@domain")
    if not found:
        raise BadDataError(f"{name}: no recipients; name them as arguments, or in To, Cc or Bcc")
    return tuple(dict.fromkeys(found))


def is_address(text: str) -> bool:
    """Tell whether an envelope may hold *text*; an argument that was no UTF-8 it may not."""
    return grammar.is_mailbox(text) and text.encode(errors="replace").decode() == text


def _author(fields: bytes) -> str:
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
    """Tell whether the header is one of RFC 6532: not ASCII, but UTF-8 (other 8-bit headers are just old)."""
    if head.isascii():
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same octets cut at line ends: dots are stuffed at the begin of each block."""
    rest = b""
    for block in blocks:
        octets = rest + block if rest else block
        cut = octets.rfind(b"\n") + 1
        if cut or len(octets) < _LONGEST_KEPT:
            rest = octets[cut:]
            octets = octets[:cut]
        else:
            rest = b""
        if octets:
            yield octets
    if rest:
        yield rest
