"""Drafts a reply to a message, or a forward of it.

Owns RFC 5322 §3.6.2 (a reply goes to Reply-To), §3.6.4 (In-Reply-To, References) and the custom of §3.6.5
("Re: " once). It knows no mbox and no editor, and ignores mailing lists (Mail-Followup-To, List-Post): a
reply goes to the writer, a reply to all to everybody named.

A reply quotes the readable text (HTML as text), "> " before each line, without the signature. A reply to
one's own message goes to the recipients of that message.

A forward carries the message as a message/rfc822 attachment, octet for octet: its attachments, HTML and
signatures stay intact, and every mail reader can open it. Mail readers that copy the text inline by default
(mutt, Thunderbird) offer the same, and lose less with it.

Invariants: no octets raise anything but BadDataError, for a message without an address to reply to; text of
the original cannot add a second field (control characters in names, subjects and ids are removed); time is
linear.
"""

import re
from collections.abc import Sequence

from mailtools.core.errors import BadDataError
from mailtools.core.message import address, date, encode, header, mime, words
from mailtools.core.message.address import Address
from mailtools.core.message.compose import Attachment, Draft
from mailtools.core.message.html import to_text

_MOST_ANCESTORS = 20  # ids of References: the first, for the thread, and the latest
_MOST_REFERENCES = 20_000  # octets read at each end of the original's References
_MOST_PEOPLE = 1000  # mailboxes of one field used in a reply to all
_LONGEST_SUBJECT = 1000  # characters
_LONGEST_NAME = 200  # characters
_ID = re.compile(rb"<[!-;=?-~]{1,300}>")
_RE = re.compile(r"(?:(?:re|aw|sv|antw|vs)(?:\[\d{1,3}\])?\s{0,3}[:：]\s{0,9})+", re.IGNORECASE)
_FWD = re.compile(r"(?:(?:fwd?|wg|tr)\s{0,3}[:：]\s{0,9})+", re.IGNORECASE)
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_UNSAFE_TEXT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_EMPTY_QUOTE = re.compile(r"^> $", re.MULTILINE)
_SIGNATURE = "\n-- \n"


def reply(original: bytes, me: Address, to_all: bool = False, others: Sequence[str] = ()) -> Draft:
    """A reply to *original* (LF) from *me*, with the text quoted.

    *to_all*: also reply to the other recipients of the original. *others*: further addresses of the writer.
    Raises BadDataError if the original names no address to reply to.
    """
    head = original[: header.body_offset(original)]
    mine = {spec.casefold() for spec in (me.spec, *others)}
    writers, to, cc = (_people(head, name) for name in ("From", "To", "Cc"))
    if writers and all(writer.spec.casefold() in mine for writer in writers):
        targets = _without(to, set()) or writers
        rest = cc if to_all else []
    else:
        targets = _people(head, "Reply-To") or writers or _people(head, "Sender")
        rest = [*to, *cc] if to_all else []
    if not targets:
        raise BadDataError("the message tells no address to reply to; write one with --to, and --forward it")
    named = {person.spec.casefold() for person in targets}
    return Draft(
        from_=(me,),
        to=tuple(_without(targets, set())),
        cc=tuple(_without(rest, mine | named)),
        subject=f"Re: {_bare(_RE, _text(header.value(head, 'Subject')))}".rstrip(),
        headers=_threading(head),
        text=f"{_attribution(head, writers)}\n{quoted(readable_text(original))}\n",
    )


def forward(original: bytes, me: Address) -> Draft:
    """A draft from *me* without recipients, with *original* (LF) attached unchanged."""
    head = original[: header.body_offset(original)]
    subject = _text(header.value(head, "Subject"))
    attachment = Attachment("forwarded.eml", "message/rfc822", original)
    return Draft(from_=(me,), subject=f"Fwd: {_bare(_FWD, subject)}".rstrip(), attachments=(attachment,))


def readable_text(original: bytes) -> str:
    """The readable text of a message: its plain parts, or its HTML as text if it has none.

    Not that of attached messages, which somebody else wrote.
    """
    parts = [part for part in mime.readable(mime.parse(original)) if part.message is None]
    texts = [to_text(part.text()) if part.type == "text/html" else part.text() for part in parts]
    return _UNSAFE_TEXT.sub("", "\n".join(texts))


def quoted(text: str) -> str:
    """*text* with "> " before each line (">" if already quoted), without signature and last empty lines."""
    text = ("\n" + text).partition(_SIGNATURE)[0][1:].rstrip()
    if not text:
        return ""
    lines = "\n> " + text.replace("\n", "\n> ")
    return _EMPTY_QUOTE.sub(">", lines.replace("\n> >", "\n>>"))[1:] + "\n"


def _text(value: bytes | None) -> str:
    """A field of the original as one line of at most `_LONGEST_SUBJECT` characters, without controls."""
    return _UNSAFE.sub(" ", words.decode(value)[:_LONGEST_SUBJECT]).strip() if value else ""


def _bare(prefix: re.Pattern[str], subject: str) -> str:
    match = prefix.match(subject)
    return subject[match.end() :] if match else subject


def _people(head: bytes, name: str) -> list[Address]:
    """The mailboxes with a valid address in the fields *name*."""
    found = [person for value in header.values(head, name) for person in address.addresses(value)]
    return [
        Address(_UNSAFE.sub(" ", person.name[:_LONGEST_NAME]).strip(), person.spec)
        for person in found[:_MOST_PEOPLE]
        if encode.is_spec(person.spec)
    ]


def _without(people: list[Address], passed: set[str]) -> list[Address]:
    """*people* without duplicates and without the addresses in *passed* (casefolded)."""
    once = {person.spec.casefold(): person for person in reversed(people)}
    return [person for person in dict.fromkeys(once[p.spec.casefold()] for p in people)
            if person.spec.casefold() not in passed]  # fmt: skip


def _threading(head: bytes) -> tuple[tuple[str, str], ...]:
    """In-Reply-To and References (RFC 5322 §3.6.4); () if the original has no Message-ID."""
    own = _ids(header.value(head, "Message-ID"))[:1]
    if not own:
        return ()
    parents = _ids(header.value(head, "References"))
    if not parents:
        parents = _ids(header.value(head, "In-Reply-To"))
        parents = parents if len(parents) == 1 else []
    line = list(dict.fromkeys([one for one in parents if one != own[0]] + own))
    if len(line) > _MOST_ANCESTORS:
        line = line[:1] + line[1 - _MOST_ANCESTORS :]
    return ("In-Reply-To", own[0]), ("References", " ".join(line))


def _ids(value: bytes | None) -> list[str]:
    """The message ids in *value*; only those at both ends of a very long value."""
    value = value or b""
    if len(value) > 2 * _MOST_REFERENCES:
        value = value[:_MOST_REFERENCES] + b" " + value[-_MOST_REFERENCES:]
    return [one.decode("ascii") for one in _ID.findall(value)]


def _attribution(head: bytes, writers: Sequence[Address]) -> str:
    name = (writers[0].name or writers[0].spec) if writers else "somebody"
    moment = date.parse(header.value(head, "Date") or b"")
    if moment is None:
        return f"{name} wrote:"
    return f"On {date.format_date(moment.seconds, moment.offset)}, {name} wrote:"
