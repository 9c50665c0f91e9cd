"""Mailboxes that are open once for all sessions."""

from pathlib import Path

import pytest

from mailtools.core.errors import MailError
from mailtools.services.imap_server.opened import OpenMailboxes, SharedMailbox

MESSAGE = b"From a@x Thu Aug 22 12:00:00 2002\nSubject: a\n\ntext\n\n"


def opened(all_of_them: OpenMailboxes, path: Path) -> SharedMailbox:
    path.touch()
    return all_of_them.open(str(path), 1.0, True, lambda: 7)


def test_two_who_open_a_mailbox_have_one(tmp_path: Path) -> None:
    boxes = OpenMailboxes()
    one = opened(boxes, tmp_path / "a.mbox")
    assert opened(boxes, tmp_path / "a.mbox") is one
    assert opened(boxes, tmp_path / "b.mbox") is not one
    boxes.leave(one)
    assert opened(boxes, tmp_path / "a.mbox") is one, "the other has it still"


def test_a_mailbox_stays_open_for_who_comes_again_and_is_as_the_mbox_is_then(tmp_path: Path) -> None:
    boxes = OpenMailboxes()
    one = opened(boxes, tmp_path / "a.mbox")
    boxes.leave(one)
    (tmp_path / "a.mbox").write_bytes(MESSAGE)
    again = opened(boxes, tmp_path / "a.mbox")
    assert again is one
    assert len(again.states) == 1


def test_only_a_few_that_nobody_has_stay_open(tmp_path: Path) -> None:
    boxes = OpenMailboxes()
    kept = opened(boxes, tmp_path / "kept.mbox")
    left = [opened(boxes, tmp_path / f"{number}.mbox") for number in range(10)]
    for box in left:
        boxes.leave(box)
    assert opened(boxes, tmp_path / "kept.mbox") is kept
    assert opened(boxes, tmp_path / "9.mbox") is left[9]
    assert opened(boxes, tmp_path / "0.mbox") is not left[0]


def test_what_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    boxes = OpenMailboxes()
    path = tmp_path / "a.mbox"
    path.write_bytes(b"this is no mbox\n")
    for _ in range(2):
        with pytest.raises(MailError):
            boxes.open(str(path), 1.0, True, lambda: 7)
    path.write_bytes(MESSAGE)
    assert len(boxes.open(str(path), 1.0, True, lambda: 7).states) == 1
