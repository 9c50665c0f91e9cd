"""What FETCH shows of messages and never changes: INTERNALDATE, ENVELOPE, BODYSTRUCTURE, made once and kept.

The octets are kept by UID beside the mbox (system/mbox/cache_file), so that only the first FETCH of a message
reads it. Callers hold the lock of the mailbox.
"""

from array import array
from collections.abc import Callable, Sequence

from mailtools.core.imap import bodystructure, envelope, facts, strings
from mailtools.core.message import date, header, mime
from mailtools.services.filters import render
from mailtools.services.mailbox.mailbox import Mailbox
from mailtools.system.mbox.cache_file import CacheFile

_Make = Callable[[Mailbox, int], bytes | None]  # of the message in a row; None if it is gone


class Rendered:
    """The kept octets of the messages of *box*."""

    def __init__(self, box: Mailbox, path: str) -> None:
        self._box = box
        self._caches = {kind: CacheFile(path, name, 1) for kind, (name, _) in RENDERED.items()}

    def close(self) -> None:
        """Close the files."""
        for cache in self._caches.values():
            cache.close()

    def column(self, kind: str, uids: "array[int]", rows: Sequence[int]) -> list[bytes]:
        """The octets of *kind* for messages, by UID (ascending) and row. Raises OSError and MailError."""
        cache, make = self._caches[kind], RENDERED[kind][1]
        validity = self._box.states.validity
        found = cache.values(validity, uids)
        missing = [number for number, value in enumerate(found) if value is None]
        if missing:
            made = [make(self._box, rows[number]) for number in missing]
            kept = [(uids[number], value) for number, value in zip(missing, made, strict=True) if value]
            cache.add(validity, array("I", [uid for uid, _ in kept]), [value for _, value in kept])
            for number, value in zip(missing, made, strict=True):
                found[number] = value
        return [_GONE.get(kind, b"NIL") if value is None else value for value in found]


def _date(box: Mailbox, row: int) -> bytes:
    moment = date.parse(box.postmark(row).split(b" ", 2)[-1])
    return strings.internal_date(moment[0] if moment else 0.0)


def _envelope(box: Mailbox, row: int) -> bytes | None:
    head = box.header(row)
    if head is None or mime.body_of(head) != len(head):
        head = _message(box, row)
    return None if head is None else envelope.envelope(head[: header.body_offset(head)])


def _facts(box: Mailbox, row: int) -> bytes | None:
    head = box.header(row)
    if head is None or mime.body_of(head) != len(head):
        head = _message(box, row)
    return None if head is None else facts.to_octets(facts.facts(head[: header.body_offset(head)]))


def _arrived(box: Mailbox, row: int) -> bytes | None:
    moment = date.parse(box.postmark(row).split(b" ", 2)[-1])
    return b"%d" % (moment[0] if moment else 0)


def _structure(box: Mailbox, row: int) -> bytes | None:
    message = _message(box, row)
    return None if message is None else bodystructure.bodystructure(message)


def _preview(box: Mailbox, row: int) -> bytes | None:
    message = _message(box, row)
    if message is None:
        return None
    text = " ".join(render.text_of(message.replace(b"\r\n", b"\n"))[:_LOOKED_AT].split())
    return strings.string(text[:_PREVIEW].encode())


def _message(box: Mailbox, row: int) -> bytes | None:
    found = box.message(row)
    return found if found is None or isinstance(found, bytes) else b"".join(found)


_PREVIEW = 200  # characters (RFC 8970 §3.1)
_LOOKED_AT = 4000  # characters of a text, blanks included
_GONE = {"FACTS": facts.to_octets(facts.facts(b"")), "ARRIVED": b"0"}
# By item of FETCH, FACTS for SORT and SEARCH, ARRIVED in seconds: the ending of its file, and what makes it.
RENDERED: dict[str, tuple[str, _Make]] = {
    "INTERNALDATE": ("dates", _date), "ENVELOPE": ("envelopes", _envelope),
    "BODYSTRUCTURE": ("structures", _structure), "FACTS": ("facts", _facts),
    "ARRIVED": ("arrivals", _arrived),
    "PREVIEW": ("previews", _preview),
}  # fmt: skip
