"""Drafts: read the files that go into a message, and convert a draft to and from the text a person edits.

The text form of a draft is a header, an empty line and the text, all decoded, in UTF-8:

    From: Bob <bob@example.org>
    To: Ann <ann@example.org>,
        carol@example.org
    Subject: lunch
    Attach: /home/bob/menu.pdf

    Where?

Each attachment has one line ``Attach: FILE``; ``HTML: FILE`` names the same text in HTML; other fields go
into the message unchanged. A path that begins or ends with a space, or holds a control character, is
written as a JSON string, in quotes.

Invariants: `from_text` reads back exactly what `to_text` wrote; a mistake raises DraftError with its line,
and the draft stays; `keep` writes a draft to disk, mode 0600, before the editor starts, and only
`KeptDraft.remove` deletes it.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

from mailtools.core.errors import BadDataError, CannotWriteError, MailError, MissingInputError
from mailtools.core.message import address, charsets, compose, date, encode, header
from mailtools.core.message.address import Address
from mailtools.core.message.compose import Attachment, Draft
from mailtools.core.wire import eol
from mailtools.system import clock
from mailtools.system.files import atomic, sources
from mailtools.system.files.durable import make_folders, sync_folder
from mailtools.system.files.home import expand

MAX_FILE = 256 << 20  # octets of an attachment, or of a forwarded message; no server accepts more
_DRAFT = "draft.eml"  # from the suffix, editors recognise a message
_HTML = "alternative.html"
_TAKEN = ("", ".", "..", _DRAFT, _HTML)  # names that an attachment in a draft's folder may not have
_WIDTH = 76
_ADDRESS_FIELDS = {"from": "from_", "to": "to", "cc": "cc", "bcc": "bcc", "reply-to": "reply_to"}
_PSEUDO = frozenset({"attach", "html"})
_REFERENCE = re.compile(r"([^\0]+):([0-9]{1,18})")
_FIELD = re.compile(r"([!-9;-~]+)[ \t]*:(.*)")
_NOT_BARE = re.compile('^[\\s"]|[\x00-\x1f\x7f\ud800-\udfff]|\\s$')
# The header fields in which an mbox keeps its state; they are not part of the message.
_STATE = ("Status", "X-Status", "X-Keywords", "X-UID", "X-IMAPbase", "X-IMAP", "Content-Length")


class DraftError(BadDataError):
    """A line of a draft is wrong; the sentence gives its number and the reason."""


# -- what goes into a draft ----------------------------------------------------------------------------------


def own_address() -> Address:
    """Return the default writer: $EMAIL, else the user's full name and address at this host."""
    import pwd

    from mailtools.services.submission import prepare

    spec = prepare.default_sender()
    for entry in address.addresses(os.environ.get("EMAIL", "")):
        if entry.spec == spec:
            return Address(_name_or_none(entry.name), spec)
    try:
        name = pwd.getpwuid(os.getuid()).pw_gecos.partition(",")[0]
    except KeyError:
        name = ""
    return Address(_name_or_none(name), spec)


def own_specs() -> list[str]:
    """Return the writer's own addresses, which a reply to all leaves out."""
    from mailtools.services.submission import prepare

    return [prepare.default_sender(), *address.addr_specs(os.environ.get("EMAIL", ""))]


def _name_or_none(name: str) -> str:
    try:
        return encode.plain("name", name)
    except BadDataError:
        return ""


def body(octets: bytes) -> str:
    """Decode *octets* as UTF-8, else by a guess at the charset; drop a byte order mark."""
    return charsets.decode_raw(octets).removeprefix("\ufeff")


def html(path: str) -> str:
    """Read the HTML file at *path*, in the charset that the HTML names. Raises MailError, OSError."""
    from mailtools.core.message import mime

    octets = read_file(path)
    if octets.startswith(b"\xef\xbb\xbf"):
        return octets[3:].decode("utf-8", "replace")
    return mime.parse(b"Content-Type: text/html\n\n" + octets)[0].text()


def text_of_html(page: str) -> str:
    """Convert the HTML *page* to plain text, for the readers that do not show HTML."""
    from mailtools.core.message.html import to_text

    return to_text(page)


def read_file(path: str) -> bytes:
    """Read the file at *path*, at most `MAX_FILE` octets. Raises MissingInputError, BadDataError, OSError."""
    try:
        with open(expand(path), "rb") as file:
            octets = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        raise MissingInputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise BadDataError(f"{path}: a directory; name the files in it, or pack it") from None
    except ValueError:
        raise BadDataError(f"{path!r}: no file can have this name") from None
    if len(octets) > MAX_FILE:
        raise BadDataError(f"{path}: larger than {MAX_FILE >> 20} MiB, which no server takes; send a link")
    return octets


def attachment(path: str) -> Attachment:
    """Make an attachment of the file at *path*. Raises MissingInputError, BadDataError, OSError."""
    octets = read_file(path)
    full = os.path.abspath(expand(path))
    name = os.path.basename(full)
    kind, charset = content_type(name, octets)
    if kind == "message/rfc822" and eol.is_canonical(octets):
        octets = eol.to_lf(octets)
    source = full if os.path.isfile(full) else ""  # a pipe cannot be read again, so its octets must be kept
    return Attachment(os.fsencode(name).decode(errors="replace"), kind, octets, charset, source)


_PACKED = {
    "gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz",
    "compress": "application/x-compress", "br": "application/x-brotli",
}  # fmt: skip
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"), (b"PK\x03\x04", "application/zip"), (b"\x1f\x8b", "application/gzip"),
)  # fmt: skip
_BINARY = re.compile(rb"[\x00-\x07\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_UNKNOWN = "application/octet-stream"


def content_type(name: str, octets: bytes) -> tuple[str, str]:
    """Return (media type, charset or "") of a file, by its name, unless its content contradicts."""
    import mimetypes

    # With a slash before it, no colon in a name makes it look like a URL.
    kind, packed = mimetypes.guess_type("./" + name, strict=False)
    if packed:
        return _PACKED.get(packed, _UNKNOWN), ""
    if kind is None:
        kind = next((found for magic, found in _MAGIC if octets.startswith(magic)), "text/plain")
    if kind.startswith(("message/", "multipart/")):
        if kind == "message/rfc822" and _is_message(octets):
            return kind, ""
        kind = "text/plain"
    if not kind.startswith("text/"):
        return kind, ""
    charset = _charset(octets)
    return (kind, charset) if charset else (_UNKNOWN, "")


def _is_message(octets: bytes) -> bool:
    head = octets[: header.body_offset(octets)]
    return not head.startswith((b"From ", b"\n", b"\r")) and any(True for _ in header.fields(head))


def _charset(octets: bytes) -> str:
    """Return the charset of a text; "" if *octets* are not text."""
    if octets.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if _BINARY.search(octets):
        return ""
    if octets.isascii():
        return "us-ascii"
    try:
        octets.decode()
    except UnicodeDecodeError:
        return "unknown-8bit"  # RFC 1428 §3
    return "utf-8"


def message_of(reference: str) -> bytes:
    """Return message N of the mbox in *reference* (``MBOX:N``), with LF; N as in `mailtools mbox list`.

    Raises MissingInputError if there is no such message, BadDataError, OSError.
    """
    match = _REFERENCE.fullmatch(reference)
    if not match or match[1] == sources.STDIN:
        raise BadDataError(f"not a message in an mbox: {reference!r}; write it as inbox.mbox:3")
    from mailtools.core.mbox import scan

    path, wanted = expand(match[1]), int(match[2])
    count = 0
    try:
        with sources.Source(path) as source:
            for record in scan.records(source.read):
                count = record.number
                if count == wanted:
                    return _without_state(_limited(reference, record.message_chunks()))
    except MailError as error:
        raise type(error)(f"{path}: {error}") from error
    raise MissingInputError(f"{path}: there is no message {wanted}; the mbox holds {count}")


def _limited(reference: str, chunks: Iterator[bytes]) -> bytes:
    pieces, size = [], 0
    for chunk in chunks:
        pieces.append(chunk)
        size += len(chunk)
        if size > MAX_FILE:
            raise BadDataError(f"message {reference.rpartition(':')[2]}: larger than {MAX_FILE >> 20} MiB")
    return b"".join(pieces)


def _without_state(message: bytes) -> bytes:
    at = header.body_offset(message)
    return header.remove(message[:at], *_STATE) + message[at:]


# -- the text form -------------------------------------------------------------------------------------------


def to_text(draft: Draft) -> str:
    """Return the text form of *draft*. Each attachment needs a `source`; the caller adds the HTML line."""
    lines = [
        f"From: {_people(draft.from_)}",
        f"To: {_people(draft.to)}",
        f"Cc: {_people(draft.cc)}",
        f"Bcc: {_people(draft.bcc)}",
    ]
    if draft.reply_to:
        lines.append(f"Reply-To: {_people(draft.reply_to)}")
    lines.append(f"Subject: {draft.subject}")
    lines += [f"{name}: {_folded(value)}" for name, value in draft.headers]
    lines += [f"Attach: {path_text(one.source)}" for one in draft.attachments] or ["Attach:"]
    return "\n".join(line.rstrip(" ") for line in lines) + "\n\n" + draft.text


def _people(people: tuple[Address, ...]) -> str:
    entries = [f"{encode.phrase(one.name)} <{one.spec}>" if one.name else one.spec for one in people]
    line = ", ".join(entries)
    return line if len(line) < _WIDTH else ",\n    ".join(entries)


def _folded(value: str) -> str:
    return value if len(value) < _WIDTH else value.replace("> <", ">\n    <")


def path_text(path: str) -> str:
    """Return *path* as a line of a draft spells it: bare, or as a JSON string if it must be quoted."""
    if not _NOT_BARE.search(path):
        return path
    import json

    return json.dumps(path)


def _path(text: str) -> str:
    if not text.startswith('"'):
        return text
    import json

    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, str):
        raise BadDataError(f"not a path in quotes: {text}; write the path as it is")
    return found


def from_text(text: str) -> Draft:
    """Parse the text form that a person edited; read its attachments.

    Raises DraftError, with the line, for anything that prevents sending, except missing recipients, which
    `octets_of` reports.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    head, _, content = ("\n" + text).partition("\n\n")
    reading = _Reading()
    for number, line in _logical_lines(head[1:]):
        match = _FIELD.fullmatch(line)
        if not match:
            raise DraftError(
                f"line {number}: no header field: {line[:60]!r}; write it as Name: value, "
                "or put an empty line before the text"
            )
        try:
            reading.field(match[1], match[2].strip(" \t"))
        except (MailError, OSError) as error:
            what = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            raise DraftError(f"line {number}: {what}") from error
    return Draft(**reading.found, text=content)


def _logical_lines(head: str) -> Iterator[tuple[int, str]]:
    """Yield (number of its first line, unfolded line) for each field; lines count from 1."""
    first, folded = 0, [""]
    for number, line in enumerate(head.split("\n"), 1):
        if line[:1] in (" ", "\t") and first:
            folded.append(line.strip(" \t"))
            continue
        if first and any(folded):
            yield first, " ".join(folded)
        first, folded = number, [line]
    if first and any(folded):
        yield first, " ".join(folded)


class _Reading:
    """Collects the fields of a text form as arguments of `Draft`."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}

    def field(self, name: str, value: str) -> None:
        """Add one field. Raises MailError, OSError."""
        lower = name.lower()
        if not value:
            return
        if lower == "attach":
            self._add("attachments", (attachment(_path(value)),))
        elif lower == "html":
            self._once("html", name, html(_path(value)))
        elif lower == "subject":
            self._once("subject", name, encode.plain(name, value))
        elif lower == "from":
            people = compose.mailboxes(name, value)
            if len(people) != 1:
                raise BadDataError("From: a message has one writer; write one address")
            self._once("from_", name, people)
        elif lower in _ADDRESS_FIELDS:
            self._add(_ADDRESS_FIELDS[lower], compose.mailboxes(name, value))
        else:
            compose.check_header(name, value)
            self._add("headers", ((name, encode.plain(name, value)),))

    def _add(self, key: str, values: tuple[Any, ...]) -> None:
        self.found[key] = (*self.found.get(key, ()), *values)

    def _once(self, key: str, name: str, value: Any) -> None:
        if key in self.found:
            raise BadDataError(f"{name}: stands twice; leave one out")
        self.found[key] = value


def with_header(draft: Draft, line: str) -> Draft:
    """Return *draft* with the field of *line* (``Name: value``, typed by a person) added.

    Raises BadDataError.
    """
    name, colon, value = line.partition(":")
    name = name.rstrip(" \t")
    if not colon:
        raise BadDataError(f"not a header field: {line[:80]!r}; write it as 'Name: value'")
    lower = name.lower()
    if lower in _ADDRESS_FIELDS and lower != "from":
        key = _ADDRESS_FIELDS[lower]
        return draft.plus(key, compose.mailboxes(name, value))
    if lower in _PSEUDO:
        raise BadDataError(f"{name}: names a file in a draft, not a field of a message; use its option")
    compose.check_header(name, value)
    return draft._replace(headers=(*draft.headers, (name, encode.plain(name, value))))


def octets_of(draft: Draft) -> bytes:
    """Return the message, dated now; a draft without From gets `own_address`. Raises BadDataError."""
    if not draft.has_recipients:
        raise BadDataError("no recipients; name them in To, Cc or Bcc")
    if not draft.from_:
        draft = draft._replace(from_=(own_address(),))
    now = clock.date_field(int(clock.now()))
    identity = f"<{clock.identity()}@{clock.host_name()}>"
    return compose.compose(draft, now, identity, os.urandom(12).hex())


# -- drafts on disk ------------------------------------------------------------------------------------------


class KeptDraft:
    """A draft in its own folder, together with the attachments of which there is no other file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self) -> Draft:
        """Sync the draft's file and parse it. Raises DraftError, CannotWriteError, MissingInputError."""
        try:
            with open(self.path, "rb") as file:
                octets = file.read(MAX_FILE)
                os.fchmod(file.fileno(), 0o600)  # an editor that replaces the file sets a mode of its own
                os.fsync(file.fileno())
        except FileNotFoundError:
            raise MissingInputError(f"{self.path}: the draft is gone") from None
        except OSError as error:
            raise CannotWriteError(f"{self.path}: {error.strerror}") from error
        return from_text(charsets.decode_raw(octets))

    def write(self, draft: Draft) -> None:
        """Replace the draft on disk by *draft*, durably. Raises CannotWriteError."""
        text = to_text(draft._replace(attachments=tuple(map(self._in_a_file, draft.attachments))))
        if draft.html:
            page = self._put(_HTML, b"\xef\xbb\xbf" + draft.html.encode("utf-8", "replace"))
            text = text.replace("\n\n", f"\nHTML: {path_text(page)}\n\n", 1)
        self._put(_DRAFT, text.encode("utf-8", "replace"))

    def _in_a_file(self, one: Attachment) -> Attachment:
        if one.source:
            return one
        name = os.path.basename(one.name)
        while name in _TAKEN or os.path.lexists(os.path.join(os.path.dirname(self.path), name)):
            name = f"_{name}"
        return one._replace(source=self._put(name, one.octets))

    def _put(self, name: str, octets: bytes) -> str:
        path = os.path.join(os.path.dirname(self.path), name)
        atomic.replace(path, octets)
        return path

    def remove(self) -> None:
        """Delete the draft and its folder."""
        import shutil

        shutil.rmtree(os.path.dirname(self.path), ignore_errors=True)


def keep(draft: Draft) -> KeptDraft:
    """Write *draft* to disk, durably, readable by its writer only. Raises CannotWriteError."""
    kept = KeptDraft(os.path.join(_new_folder(), _DRAFT))
    kept.write(draft)
    return kept


def opened(path: str) -> Draft:
    """Read and parse the draft at *path*. Raises DraftError, MissingInputError, OSError."""
    return from_text(charsets.decode_raw(read_file(path)))


def kept_at(path: str) -> KeptDraft | None:
    """Return the kept draft at *path*; None if the file is not in the folder of drafts."""
    real = os.path.realpath(expand(path))
    folder, name = os.path.split(real)
    is_ours = os.path.dirname(folder) == os.path.realpath(folder_of_drafts()) and name == _DRAFT
    return KeptDraft(real) if is_ours else None


def copied(path: str) -> KeptDraft:
    """Keep a copy of the file at *path* as a draft, even if it has mistakes. Raises MailError, OSError."""
    octets = read_file(path)
    kept = KeptDraft(os.path.join(_new_folder(), _DRAFT))
    atomic.replace(kept.path, octets)
    return kept


def folder_of_drafts() -> str:
    """Return the folder of kept drafts: $XDG_STATE_HOME (else ~/.local/state) + /mailtools/drafts."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        state = expand("~/.local/state")
    return os.path.join(state, "mailtools", "drafts")


def _new_folder() -> str:
    import tempfile

    drafts = folder_of_drafts()
    try:
        make_folders(drafts)
        os.chmod(drafts, 0o700)
        folder = tempfile.mkdtemp(prefix=_stamp(), dir=drafts)
        sync_folder(drafts)
    except OSError as error:
        raise CannotWriteError(f"{drafts}: {error.strerror}: no draft can be kept there") from error
    return folder


def _stamp() -> str:
    """Return the time as YYYYMMDD-HHMMSS-, the start of a folder's name, so that people find their draft."""
    fields = date.clock_fields(clock.date_field(int(clock.now())).encode())
    assert fields is not None
    return "{:04d}{:02d}{:02d}-{:02d}{:02d}{:02d}-".format(*fields)
