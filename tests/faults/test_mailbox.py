"""A mailbox with states, under SIGKILL and power failures before any step: the old states or the new ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mailtools.core.mbox.state import FLAGGED, SEEN
from mailtools.services.mailbox.mailbox import Mailbox
from tests.boxes import append, number
from tests.disks import after_reboot
from tests.faults.test_power import Failures, disk, failures, large, some_cases, write_back  # noqa: F401
from tests.spools import killed_at

COUNT = 4
PREPARED = 4  # HIGHESTMODSEQ of a mailbox that is prepared


def change(uid: int, flags: int, mask: int) -> tuple[int, int]:
    return flags | FLAGGED, mask


def seen(box: Mailbox) -> dict[int, tuple[int, bytes]]:
    """Flags and content of each message, by UID."""
    found = {}
    for row, uid in enumerate(box.states.uids):
        message = box.message(row)
        found[uid] = (
            box.states.flags[row],
            message if isinstance(message, bytes) else b"".join(message or ()),
        )
    return found


def store(path: Path) -> None:
    Mailbox(str(path)).store([1, 3], change)


def settle(path: Path) -> None:
    box = Mailbox(str(path))
    box.settle()


def settle_in_place(path: Path) -> None:
    box = Mailbox(str(path))
    box.settle()
    box.store([2], change)
    box.settle()


def expunge(path: Path) -> None:
    Mailbox(str(path)).expunge([2])


ACTIONS = [store, settle, settle_in_place, expunge]


def prepare(path: Path, message: Callable[[int], bytes] = number) -> None:
    append(path, *(message(n) for n in range(COUNT)))
    box = Mailbox(str(path), new_validity=lambda: 1000)
    box.store([2], lambda uid, flags, mask: (SEEN, box.states.mask([b"work"])))
    assert box.states.modseq == PREPARED
    box.close()


def check(path: Path, action: Callable[[Path], None], message: Callable[[int], bytes] = number) -> bool:
    box = Mailbox(str(path), new_validity=lambda: 2000)
    found = seen(box)
    assert box.states.validity == 1000
    assert {uid: text for uid, (_, text) in found.items()} == {
        uid: message(uid - 1) for uid in range(1, COUNT + 1) if uid in found
    }
    assert {1, 3, 4} <= set(found)
    assert 2 in found or action is expunge
    vanished = box.states.vanished_since(PREPARED)
    assert vanished == ([] if 2 in found else [(2, 2)])
    assert box.states.modseq >= PREPARED + (2 not in found)
    for row, modseq in enumerate(box.states.modseqs):  # a client that knew the old states sees what changed
        assert modseq > PREPARED or box.states.flags[row] == (SEEN if box.states.uids[row] == 2 else 0)
    if 2 in found:
        assert found[2][0] & SEEN
        assert box.states.keywords(box.states.row_of(2)) == (b"work",)
    assert found[4][0] == 0
    assert box.append([]) == []
    box.close()
    return True


@pytest.mark.parametrize("action", ACTIONS)
def test_killed_before_any_step(tmp_path: Path, action: Callable[[Path], None]) -> None:
    for step in range(200):
        path = tmp_path / f"{step}" / "INBOX.mbox"
        prepare(path)
        was_killed = killed_at(step, lambda p=path: action(p))  # type: ignore[misc]
        assert check(path, action)
        append(path, number(9))
        box = Mailbox(str(path))
        assert box.states.uids[-1] == COUNT + 1
        box.close()
        if not was_killed:
            assert step > 10
            return
    raise AssertionError("it goes on")


@some_cases
@pytest.mark.parametrize("action", ACTIONS)
def test_the_power_fails_before_any_sync(failures: Failures, action: Callable[[Path], None]) -> None:  # noqa: F811
    path = failures.disk.path / "bob/INBOX.mbox"
    for found, is_done in failures.each(lambda: prepare(path, large), lambda: action(path)):
        mbox = found / "bob/INBOX.mbox"
        after_reboot(lambda m=mbox: check(m, action, large))
        if is_done:
            box = Mailbox(str(mbox))
            flags = {uid: flags for uid, (flags, _) in seen(box).items()}
            box.close()
            if action is store:
                assert flags[1] & flags[3] & FLAGGED
            if action is settle_in_place:
                assert flags[2] == SEEN | FLAGGED
            assert (2 in flags) is (action is not expunge)
