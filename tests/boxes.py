"""Mbox files for tests of those who read them: written as a server writes, changed as others change them."""

import mailbox
import re
from collections.abc import Sequence
from pathlib import Path

from mailtools.services.mailbox.snapshot import Snapshot
from mailtools.services.transit import mbox_form
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox import appending, index

# As `mailutil create` of UW-IMAP 2007f writes it.
FOLDER_DATA = b"""\
From MAILER-DAEMON Fri Nov 27 15:00:19 2026
Date: 27 Nov 2026 15:00:19 +0000
From: Mail System Internal Data <MAILER-DAEMON@vm>
Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA
X-IMAP: 1795791619 0000000000
Status: RO

This text is part of the internal format of your mail folder, and is not
a real message.  It is created automatically by the mail system software.
If deleted, important folder data will be lost, and it will be re-created
with the data reset to initial values.

"""


def append(path: Path, *messages: bytes) -> None:
    """Deliver *messages* (CRLF), as fetch and serve-smtp store them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = []
    for message in messages:
        body = Buffer(str(path))
        body.append(mbox_form.stored(message))
        records.append(mbox_form.fetched_record(body, 1029924000))
    if records:
        appending.append_waiting(str(path), records)


def number(n: int, size: int = 100) -> bytes:
    """A message that no other is like, but all are as long as the others."""
    head = b"From: ann@a.test\r\nSubject: %06d\r\nMessage-ID: <%06d@a.test>\r\n\r\n" % (n, n)
    return head + b"x" * 70 + b"\r\n" + b"y\r\n" * (size // 3)


def open_drop(path: Path) -> Snapshot:
    return Snapshot(str(path), index.open_box(str(path)))


def shown(drop: Snapshot, n: int) -> bytes | None:
    """Message *n* (from 0)."""
    found = drop.message(n)
    return found if found is None or isinstance(found, bytes) else b"".join(found)


def subjects(path: Path) -> list[str]:
    """What another program finds in the mbox."""
    box = mailbox.mbox(path)
    try:
        return [str(message["Subject"]) for message in box]
    finally:
        box.close()


def rewrite_in_place(path: Path, keep: Sequence[int], add: bytes = b"") -> None:
    """As mutt: the same file, other content; *keep*: records that stay; *add*: fields in each header."""
    octets = path.read_bytes()
    records = [r for r in re.split(rb"(?:\A|(?<=\n\n))(?=From )", octets) if r]
    kept = []
    for n in keep:
        line, _, rest = records[n].partition(b"\n")
        kept.append(line + b"\n" + add + rest)
    with path.open("r+b") as file:
        file.truncate(0)
        file.write(b"".join(kept))
