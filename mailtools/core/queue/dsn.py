"""Delivery status notifications: what became of a message, told to its sender.

Values in, a message out (LF). Owns RFC 3464 (the report's fields), RFC 3461 §6 (what is in it), RFC 6522
(multipart/report), RFC 6533 §3 (addresses beyond ASCII, kept in 7 bits). Knows no queue and no clock.

Invariants: whatever a server said, or an address or Subject holds, ends up as one line of printable text; the
parts are told apart by a boundary that the caller made, and which nothing in them can hold.
"""

import re
from typing import NamedTuple

from mailtools.core.message import date, header

_MAX_TEXT = 500  # octets of what another server said
_NOT_PRINTABLE = re.compile(r"[^ -~]")
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]{1,250}@[!-;=?-~]{1,250}>")
_WIDTH = 76


class RecipientReport(NamedTuple):
    """What became of one recipient."""

    recipient: str
    original: str  # ORCPT as it came, "addr-type;xtext", or ""
    action: str  # failed, delayed, delivered, relayed
    status: str  # enhanced status code
    remote: str  # the server that said it; "" where it was us
    diagnostic: str  # the reply, or our own sentence
    is_reply: bool
    last_attempt: int  # seconds since the epoch; 0: none
    retry_until: int  # for delayed; 0: not told


class Notice(NamedTuple):
    """All that a DSN is made of."""

    host: str  # the reporting MTA
    reverse_path: str  # who is told
    envid: str  # xtext, as it came
    arrived: int  # seconds since the epoch
    queue_id: str
    reports: tuple[RecipientReport, ...]
    full: bool  # return the whole message, not its header only
    date: str
    message_id: str
    boundary: str


_SUBJECTS = {
    "failed": "Undelivered mail",
    "delayed": "Delayed mail",
    "delivered": "Delivered mail",
    "relayed": "Delivered mail",
}


def build(notice: Notice, original: bytes, is_whole: bool) -> bytes:
    """The DSN. *original* holds at least the header of the message, LF; *is_whole*: all of it."""
    action = notice.reports[0].action
    head = original[: header.body_offset(original)]
    returned = original if notice.full and is_whole else head
    edge = f"--{notice.boundary}\n"
    parts = [
        _fields(notice, action, head).encode(),
        (
            edge + "Content-Type: text/plain; charset=us-ascii\nContent-Description: What happened\n\n"
        ).encode(),
        _for_people(notice, action).encode("ascii", "replace"),
        (f"\n{edge}Content-Type: message/delivery-status\n\n" + _for_programs(notice)).encode(),
        f"\n{edge}".encode(),
        _returned(returned, notice.full and is_whole),
        f"\n--{notice.boundary}--\n".encode(),
    ]
    return b"".join(parts)


def _fields(notice: Notice, action: str, head: bytes) -> str:
    subject = line((header.value(head, "Subject") or b"").decode("utf-8", "replace"), 100)
    found = _MESSAGE_ID.fullmatch(header.value(head, "Message-ID") or b"")
    thread = f"In-Reply-To: {found[0].decode()}\nReferences: {found[0].decode()}\n" if found else ""
    return (
        f"From: Mail Delivery System <MAILER-DAEMON@{notice.host}>\n"
        f"To: <{notice.reverse_path}>\n"
        f"Subject: {_SUBJECTS[action]}{f': {subject}' if subject else ''}\n"
        f"Date: {notice.date}\nMessage-ID: {notice.message_id}\n{thread}"
        "Auto-Submitted: auto-replied\nMIME-Version: 1.0\n"
        "Content-Type: multipart/report; report-type=delivery-status;\n"
        f'\tboundary="{notice.boundary}"\n\n'
    )


_PEOPLE = {
    "failed": (
        "Your message could not be delivered to:",
        "It will not be tried again. Please check the address; the other server's answer above tells why.",
    ),
    "delayed": (
        "Your message has not been delivered yet to:",
        "You need not do anything: it is tried again until {until}.",
    ),
    "delivered": ("Your message has been delivered to:", ""),
    "relayed": (
        "Your message was handed on for:",
        "The server that took it sends no reports of its own, so this is the last you hear of it.",
    ),
}


def _for_people(notice: Notice, action: str) -> str:
    before, after = _PEOPLE[action]
    lines = [f"This is the mail server at {notice.host}.", "", before, ""]
    for report in notice.reports:
        lines.append(f"  <{line(report.recipient, 320)}>")
        if report.diagnostic and action in ("failed", "delayed"):
            who = f"{line(report.remote, 255)} said" if report.is_reply else "what happened"
            lines.append(f"    {who}: {line(report.diagnostic, _MAX_TEXT)}")
    until = max(report.retry_until for report in notice.reports)
    if after:
        lines += ["", after.format(until=date.format_date(until, 0) if until else "it is given up")]
    lines += ["", f"Its number here is {notice.queue_id}. A report for programs, and the message"]
    lines += ["itself or its header, are attached."]
    return "\n".join(_wrapped(lines)) + "\n"


def _wrapped(lines: list[str]) -> list[str]:
    """Lines of at most 76 columns, broken at spaces; what has none stays."""
    done = []
    for text in lines:
        rest = text
        indent = "      " if text.startswith(" ") else ""
        while len(rest) > _WIDTH and (at := rest.rfind(" ", len(indent) + 1, _WIDTH)) > 0:
            done.append(rest[:at])
            rest = indent + rest[at + 1 :]
        done.append(rest)
    return done


def _for_programs(notice: Notice) -> str:
    text = f"Reporting-MTA: dns; {notice.host}\n"
    if notice.envid:
        text += f"Original-Envelope-Id: {line(_decode_xtext(notice.envid), 500)}\n"
    text += f"X-Mailtools-Queue-ID: {notice.queue_id}\n"
    text += f"Arrival-Date: {date.format_date(notice.arrived, 0)}\n"
    return text + "".join("\n" + _recipient(report) for report in notice.reports)


def _recipient(report: RecipientReport) -> str:
    text = ""
    kind, semicolon, address = report.original.partition(";")
    if semicolon:
        text += f"Original-Recipient: {line(kind, 40)}; {line(_decode_xtext(address), 500)}\n"
    text += f"Final-Recipient: {_typed(report.recipient)}\n"
    text += f"Action: {report.action}\nStatus: {line(report.status, 20)}\n"
    if report.remote:
        text += f"Remote-MTA: dns; {line(report.remote, 255)}\n"
    if report.diagnostic and report.action in ("failed", "delayed"):
        kind = "smtp" if report.is_reply else "x-mailtools"
        text += f"Diagnostic-Code: {kind}; {line(report.diagnostic, _MAX_TEXT)}\n"
    if report.last_attempt:
        text += f"Last-Attempt-Date: {date.format_date(report.last_attempt, 0)}\n"
    if report.retry_until:
        text += f"Will-Retry-Until: {date.format_date(report.retry_until, 0)}\n"
    return text


def _typed(address: str) -> str:
    """RFC 6533 §3: an address beyond ASCII in its 7-bit form."""
    if address.isascii():
        return f"rfc822; {line(address, 320)}"
    encoded = "".join(c if " " < c <= "~" and c not in "\\+=" else f"\\x{{{ord(c):X}}}" for c in address)
    return f"utf-8; {encoded[:2000]}"


def _decode_xtext(text: str) -> str:
    return re.sub(r"\+([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), text)


def line(text: str, limit: int) -> str:
    """*text* as one line of printable ASCII, of at most *limit* characters."""
    text = " ".join(text.split())
    text = _NOT_PRINTABLE.sub("?", text)
    return text if len(text) <= limit else f"{text[: limit - 4]} ..."


def _returned(octets: bytes, is_whole: bool) -> bytes:
    kind = "message/rfc822" if is_whole else "text/rfc822-headers"
    encoding = "" if octets.isascii() else "Content-Transfer-Encoding: 8bit\n"
    return f"Content-Type: {kind}\n{encoding}\n".encode() + octets
