"""Names become paths below the root, whatever they are; no two the same one."""

import os
import stat
from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError
from mailtools.system.mbox.mailroot import MailRoot, file_name

HOSTILE = [
    "..", ".", "...", "a/b", "/etc/passwd", "../../etc", "a/../../b", "nul\0in", "\0", ".hidden", "%2e%2e",
    "%2F", "%", "%%", "a\\b", "a\nb", "a\rb", "\x7f", "\x85", "\u2028", "\ud800", "users", ".mailtools", ".spool",
    "-rf", "~root", "$HOME", "`id`", "a b", " ", "INBOX", "con", "a:b", "*", "ünïcode", "用户",
]  # fmt: skip


@pytest.mark.parametrize("user", HOSTILE)
def test_every_name_stays_within_the_root(tmp_path: Path, user: str) -> None:
    root = MailRoot(str(tmp_path / "root"))
    inbox = Path(root.inbox(user))
    assert inbox.parent.parent == tmp_path / "root"
    assert inbox.name == "INBOX.mbox"
    assert not inbox.parent.name.startswith(".")
    assert inbox.parent.name.isprintable()
    assert inbox.parent.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    assert root.inbox(user) == str(inbox)


def test_no_two_names_are_one(tmp_path: Path) -> None:
    names = [*HOSTILE, "a", "b", "%2E.", "%2E", "a%2Fb", "%25", "%75sers", "%00", "nul%00in"]
    root = MailRoot(str(tmp_path))
    assert len({root.inbox(name) for name in names}) == len(names)


def test_a_usual_name_is_itself() -> None:
    assert [file_name(name) for name in ("bob", "bob.smith", "bob+tag", "用户", "a@b")] == [
        "bob", "bob.smith", "bob+tag", "用户", "a@b",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", "x" * 300, "/" * 100, "用" * 100])
def test_what_cannot_be_a_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not usable"):
        MailRoot(str(tmp_path / "root")).inbox(name)
    assert not list(tmp_path.iterdir())


def test_the_longest_name_has_room_for_its_lock_and_note(tmp_path: Path) -> None:
    name = next(n for n in ("x" * length for length in range(255, 0, -1)) if _usable(n))
    for ending in (".mbox", ".mbox.lock", ".mbox.append"):
        (tmp_path / f"{name}{ending}").touch()


def _usable(name: str) -> bool:
    try:
        return bool(file_name(name))
    except ValueError:
        return False


def test_folders_are_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        inbox = MailRoot(str(tmp_path / "a" / "root")).inbox("bob")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(os.path.dirname(inbox)).st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "root").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", ["link to a folder", "link to nowhere", "file"])
def test_never_through_a_symbolic_link_or_file(tmp_path: Path, kind: str) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    if kind == "file":
        (root / "bob").touch()
    else:
        (root / "bob").symlink_to(outside if kind == "link to a folder" else tmp_path / "nowhere")
    with pytest.raises(CannotWriteError, match="bob"):
        MailRoot(str(root)).inbox("bob")
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "bob").mkdir(0o750)
    (tmp_path / "bob").chmod(0o750)
    MailRoot(str(tmp_path)).inbox("bob")
    assert stat.S_IMODE((tmp_path / "bob").stat().st_mode) == 0o750


def test_the_name_of_a_new_folder_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1]
    )
    MailRoot(str(tmp_path / "root")).inbox("bob")
    assert synced == [str(tmp_path), str(tmp_path / "root")]


def test_a_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert MailRoot("~/Mail").path == str(tmp_path / "Mail")
