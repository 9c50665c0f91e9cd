"""Delivery status notifications (DSNs): tell the sender the outcome for each recipient.

Builds a message (LF) from values. Owns RFC 3464 (the report's fields), RFC 3461 §6 (its content), RFC 6522
(multipart/report), RFC 6533 §3 (non-ASCII addresses in 7 bits). Knows no queue and no clock.

Invariants: a server's reply, an address or a Subject becomes one line of printable text; the boundary occurs
in no part; everything is 7-bit except the sender's own address and a whole returned message; SMTP can carry
the result, and no line written here is longer than 998 octets.
"""

import re
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from mailtools.core.errors import BadDataError
from mailtools.core.message import date, encode, header, words

_MAX_TEXT = 500  # characters of what another server said
_MAX_SUBJECT = 100
_MAX_VALUE = 900  # octets that may stand behind the name of a field
MAX_WHOLE = 1 << 20  # octets; of a larger message the header is returned
_MAX_HEADER = 64 << 10  # octets of a header that is returned
_MOST_NAMED = 500  # recipients in the text for people; the report names all
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}@[!-;=?-~]{1,250}>")
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_PLAIN_TEXT = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_KIND = re.compile(r"[A-Za-z0-9-]{1,40}")
_LOCAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_XTEXT = re.compile(rb"\+([0-9A-F]{2})")
_WIDTH = 76


class RecipientReport(NamedTuple):
    """The outcome of one recipient: the fields of RFC 3464 §2.3."""

    recipient: str
    original: str  # ORCPT as received, "addr-type;xtext", or ""
    action: str  # failed, delayed, delivered, relayed, expanded
    status: str  # enhanced status code
    remote: str  # the server that gave the diagnostic; "" for this host
    diagnostic: str  # the reply, or our own sentence
    is_reply: bool
    last_attempt: int  # seconds since the epoch; 0: none
    retry_until: int  # for delayed; 0: not told


class Notice(NamedTuple):
    """The values of a DSN."""

    host: str  # the reporting MTA
    reverse_path: str  # the address that the DSN goes to
    envid: str  # xtext, as received
    arrived: int  # seconds since the epoch
    queue_id: str
    reports: tuple[RecipientReport, ...]  # one at least
    full: bool  # return the whole message, not its header only
    date: str
    message_id: str
    boundary: str


_SUBJECTS = {
    "failed": "Undelivered mail",
    "delayed": "Delayed mail",
    "delivered": "Delivered mail",
    "relayed": "Delivered mail",
    "expanded": "Delivered mail",
}


def build(notice: Notice, original: bytes, is_whole: bool) -> bytes:
    """Build the DSN. *original*: at least the header of the message, LF; *is_whole*: it is the whole message.

    If *original* is b"", the DSN returns no part of it.
    """
    head = original[: header.body_offset(original)]
    returned = _returned(original, head, notice.full and is_whole and len(original) <= MAX_WHOLE)
    parts = [_for_people(notice, returned), _for_programs(notice)]
    if returned:
        parts.append(returned)
    boundary = notice.boundary.encode()
    while any(boundary in part for part in parts):
        boundary += b"_"
    edge = b"\n--" + boundary
    pieces = [_fields(notice, boundary, head, all(map(bytes.isascii, parts)))]
    for part in parts:
        pieces += [edge, b"\n", part]
    return b"".join([*pieces, edge, b"--\n"])


def _fields(notice: Notice, boundary: bytes, head: bytes, is_7bit: bool) -> bytes:
    """The header of the DSN without its empty line: the first delimiter begins with a line end."""
    found = _MESSAGE_ID.fullmatch(header.value(head, "Message-ID") or b"")
    return b"".join(
        [
            f"From: Mail Delivery System <MAILER-DAEMON@{notice.host}>\n".encode(),
            f"To: {_to(notice.reverse_path)}\n".encode(),
            _subject(notice, head),
            f"Date: {notice.date}\nMessage-ID: {notice.message_id}\n".encode(),
            b"In-Reply-To: %s\nReferences: %s\n" % (found[0], found[0]) if found else b"",
            b"Auto-Submitted: auto-replied\nMIME-Version: 1.0\n",
            b"Content-Type: multipart/report; report-type=delivery-status;\n",
            b'\tboundary="%s"\n' % boundary,
            b"" if is_7bit else b"Content-Transfer-Encoding: 8bit\n",  # RFC 2045 §6.4
        ]
    )


def _to(address: str) -> str:
    """The value of To. A reverse-path that no header field can hold becomes an empty group."""
    if encode.is_spec(address):
        return f"<{address}>"
    return address if _LOCAL_NAME.fullmatch(address) else "undisclosed-recipients:;"


def _subject(notice: Notice, head: bytes) -> bytes:
    actions = {report.action for report in notice.reports}
    what = next(text for action, text in _SUBJECTS.items() if action in actions)
    about = legible(words.decode((header.value(head, "Subject") or b"")[: 20 * _MAX_SUBJECT]), _MAX_SUBJECT)
    try:
        return encode.text_field("Subject", f"{what}: {about}" if about else what)
    except BadDataError:
        return encode.text_field("Subject", what)


# -- the first part: for people -----------------------------------------------------------------------------

_BEFORE = {
    "failed": "Your message could not be delivered to:",
    "delayed": "Your message has not been delivered yet to:",
    "delivered": "Your message has been delivered to:",
    "relayed": "Your message was handed on for:",
    "expanded": "Your message was sent on to everybody on the list at:",
}
_AFTER = {
    "failed": "It will not be tried again.",
    "delayed": "You need not do anything: it is tried again until {until}.",
    "delivered": "",
    "relayed": "The server that took it sends no reports of its own, so this is the last you hear of it.",
    "expanded": "Whether it reaches each of them is not reported to you.",
}
_ADVICE = "Please check the address; what the other server answered, above, tells why."


def _for_people(notice: Notice, returned: bytes) -> bytes:
    lines = [f"This is the mail server at {notice.host}."]
    by_action = sorted(notice.reports, key=lambda report: list(_SUBJECTS).index(report.action))
    for action, group in groupby(by_action, key=lambda report: report.action):
        lines += ["", *_about(action, list(group))]
    lines += ["", f"Its number here is {legible(notice.queue_id, 80)}."]
    lines[-1] += " A report for programs is attached" + (
        ", and so is the message or its header." if returned else "; the message could not be attached."
    )
    text = "".join(f"{line}\n" for line in _wrapped(lines)).encode()
    content = encode.text_content(text)
    charset = "us-ascii" if text.isascii() else "utf-8"
    return (
        f"Content-Type: text/plain; charset={charset}\nContent-Description: What happened\n"
        f"Content-Transfer-Encoding: {content.encoding}\n\n"
    ).encode() + content.octets


def _about(action: str, reports: Sequence[RecipientReport]) -> list[str]:
    """The lines about all recipients with *action*; recipients with the same answer are listed together."""
    lines = [_BEFORE[action]]
    for (diagnostic, remote, is_reply), same in groupby(reports[:_MOST_NAMED], key=_answer):
        lines += ["", *[f"  <{legible(report.recipient, 320)}>" for report in same]]
        if diagnostic and action in ("failed", "delayed"):
            who = f"{remote or 'the other server'} said" if is_reply else "what happened"
            lines.append(f"    {who}: {diagnostic}")
    if len(reports) > _MOST_NAMED:
        lines += ["", f"  and {len(reports) - _MOST_NAMED} more, whom the report attached names"]
    after = _AFTER[action]
    if action == "failed" and any(report.is_reply and report.diagnostic for report in reports):
        after = f"{after} {_ADVICE}"
    until = max(report.retry_until for report in reports)
    if after:
        lines += ["", after.format(until=date.format_date(until, 0) if until else "it is given up")]
    return lines


def _answer(report: RecipientReport) -> tuple[str, str, bool]:
    return legible(report.diagnostic, _MAX_TEXT), legible(report.remote, 255), report.is_reply


def _wrapped(lines: list[str]) -> list[str]:
    """Break lines at spaces to at most 76 columns; a longer word stays whole."""
    done = []
    for text in lines:
        rest = text
        indent = "      " if text.startswith(" ") else ""
        while len(rest) > _WIDTH:
            start = len(rest) - len(rest.lstrip(" "))
            at = rest.rfind(" ", start, _WIDTH + 1)
            at = rest.find(" ", _WIDTH) if at < 0 else at
            if at < 0:
                break
            done.append(rest[:at])
            rest = indent + rest[at + 1 :]
        done.append(rest)
    return done


# -- the second part: for programs --------------------------------------------------------------------------


def _for_programs(notice: Notice) -> bytes:
    envid = _from_xtext(notice.envid)
    text = "Content-Type: message/delivery-status\n\n"
    text += f"Original-Envelope-Id: {envid}\n" if envid else ""
    text += f"Reporting-MTA: dns; {notice.host}\n"
    text += f"Arrival-Date: {date.format_date(notice.arrived, 0)}\n"
    text += f"X-Mailtools-Queue-ID: {line(notice.queue_id, 80)}\n"
    return "".join([text, *("\n" + _recipient(report) for report in notice.reports)]).encode()


def _recipient(report: RecipientReport) -> str:
    text = ""
    kind, _, address = report.original.partition(";")
    original = _from_xtext(address)
    if original and _KIND.fullmatch(kind):
        text += f"Original-Recipient: {kind}; {original}\n"
    text += f"Final-Recipient: {_typed(report.recipient)}\n"
    text += f"Action: {report.action}\nStatus: {_status(report)}\n"
    remote = line(report.remote, 255)
    if remote:
        text += f"Remote-MTA: dns; {remote}\n"
    diagnostic = line(report.diagnostic, _MAX_TEXT)
    if diagnostic and report.action in ("failed", "delayed"):
        text += f"Diagnostic-Code: {'smtp' if report.is_reply else 'x-mailtools'}; {diagnostic}\n"
    if report.last_attempt:
        text += f"Last-Attempt-Date: {date.format_date(report.last_attempt, 0)}\n"
    if report.retry_until:
        text += f"Will-Retry-Until: {date.format_date(report.retry_until, 0)}\n"
    return text


def _status(report: RecipientReport) -> str:
    """The enhanced status code, or an unspecific one of the right class if there is none (RFC 3463 §3.1)."""
    if _STATUS.fullmatch(report.status):
        return report.status
    return {"failed": "5.0.0", "delayed": "4.0.0"}.get(report.action, "2.0.0")


def _typed(address: str) -> str:
    """An address with its type; a non-ASCII address in its 7-bit form (RFC 6533 §3)."""
    if address.isascii():
        return f"rfc822; {_NOT_PRINTABLE.sub('?', address)[:_MAX_VALUE]}"
    encoded = ""
    for char in address[:_MAX_VALUE]:
        piece = char if "!" <= char <= "~" and char not in "\\+=" else f"\\x{{{ord(char):02X}}}"
        if len(encoded) + len(piece) > _MAX_VALUE:
            break
        encoded += piece
    return f"utf-8; {encoded}"


def _from_xtext(text: str) -> str:
    """Decode xtext (RFC 3461 §4). If no field can hold the decoded text: *text* itself, else ""."""
    if not _PLAIN_TEXT.fullmatch(text) or len(text) > _MAX_VALUE:
        return ""
    octets = _XTEXT.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode())
    decoded = octets.decode("latin-1")
    return decoded if _PLAIN_TEXT.fullmatch(decoded) else text


def line(text: str, limit: int) -> str:
    """*text* as one line of printable ASCII, of at most *limit* characters."""
    return _NOT_PRINTABLE.sub("?", legible(text, limit))


def legible(text: str, limit: int) -> str:
    """*text* as one line of at most *limit* printable characters."""
    text = " ".join(text[: 4 * limit].split())
    if not text.isprintable():
        text = "".join([char if char.isprintable() else "?" for char in text])
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


# -- the third part: the original message --------------------------------------------------------------------


def _returned(original: bytes, head: bytes, is_whole: bool) -> bytes:
    """The part with the original message, or only its header if the whole is not wanted or not sendable."""
    if not original:
        return b""
    is_utf8 = _is_utf8(head)
    if is_whole and is_utf8 and b"\0" not in original and b"\r" not in original:
        # RFC 6532 §3.7: a message/rfc822 has an ASCII header.
        kind = "message/rfc822" if head.isascii() else "message/global"
        encoding = "7bit" if original.isascii() else "8bit"
        return f"Content-Type: {kind}\nContent-Transfer-Encoding: {encoding}\n\n".encode() + original
    if len(head) > _MAX_HEADER:
        head = head[: head.rfind(b"\n", 0, _MAX_HEADER) + 1 or _MAX_HEADER]
        is_utf8 = _is_utf8(head)
    charset = "" if head.isascii() else f"; charset={'utf-8' if is_utf8 else 'unknown-8bit'}"
    content = encode.text_content(head)
    return (
        f"Content-Type: text/rfc822-headers{charset}\nContent-Transfer-Encoding: {content.encoding}\n\n"
    ).encode() + content.octets


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True
