"""system/files/folder: an open folder stays the same folder, whatever becomes of its path."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtools.system.files.folder import Folder

STRANGER = 1000  # the number of another user


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with Folder(str(tmp_path)) as opened:
        yield opened


@pytest.fixture
def as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def link_of(owner: int, path: Path, target: Path | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a symbolic link that seems to be *owner*'s."""
    path.symlink_to(target)
    real = os.stat

    def seeming(name: "str | Path", **how: object) -> os.stat_result:
        status = real(name, **how)  # type: ignore[call-overload]
        is_it = how.get("follow_symlinks") is False and stat.S_ISLNK(status.st_mode)
        return os.stat_result((*status[:4], owner, *status[5:])) if is_it else status

    monkeypatch.setattr(os, "stat", seeming)


def test_the_file_that_has_the_name(tmp_path: Path, folder: Folder) -> None:
    descriptor = folder.open("file", os.O_RDWR | os.O_CREAT)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600
    os.write(descriptor, b"x")
    assert folder.holds("file", descriptor)
    os.remove(tmp_path / "file")
    assert not folder.holds("file", descriptor)
    (tmp_path / "new").touch()
    folder.rename("new", "file")
    assert not folder.holds("file", descriptor)
    os.close(descriptor)


def test_a_symbolic_link_to_a_file_is_not_the_file(tmp_path: Path, folder: Folder) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "file")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    assert folder.holds("file", descriptor)
    assert not folder.holds("link", descriptor)
    with pytest.raises(OSError, match="link"):
        folder.open("link", os.O_RDONLY)
    os.close(descriptor)


def test_an_open_folder_stays_the_same_when_its_path_leads_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "bob").mkdir()
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/precious").write_text("precious")
    with Folder(str(tmp_path / "bob")) as folder:
        (tmp_path / "bob").rename(tmp_path / "moved")
        (tmp_path / "bob").symlink_to(tmp_path / "etc")
        os.close(folder.open("precious", os.O_WRONLY | os.O_CREAT | os.O_TRUNC))
        folder.replace("new", b"new")
        folder.inner("below", make=True).close()
        folder.rename("new", "newer")
        folder.unlink("precious")
    assert [path.name for path in (tmp_path / "etc").iterdir()] == ["precious"]
    assert (tmp_path / "etc/precious").read_text() == "precious"
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == ["below", "newer"]


def test_a_new_inner_folder_is_private_and_its_name_durable(
    tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    umask = os.umask(0o377)  # would make a folder that its owner can neither write nor search
    try:
        for _ in range(2):
            with folder.inner("below", make=True) as inner:
                assert inner.path == str(tmp_path / "below")
    finally:
        os.umask(umask)
    assert synced == [str(tmp_path)]
    assert stat.S_IMODE((tmp_path / "below").stat().st_mode) == 0o700


@pytest.mark.parametrize("make", [False, True])
@pytest.mark.parametrize("owner", [0, STRANGER])
def test_an_inner_folder_is_never_a_link_or_a_file(
    tmp_path: Path, folder: Folder, make: bool, owner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    link_of(owner, tmp_path / "link", "elsewhere", monkeypatch)
    (tmp_path / "file").touch()
    for name, why in (("link", "symbolic link"), ("file", "a file")):
        with pytest.raises(NotADirectoryError, match=why):
            folder.inner(name, make)


@pytest.mark.usefixtures("as_root")
@pytest.mark.parametrize("owner", [0, STRANGER])
@pytest.mark.parametrize("target", ["{0}/real", "real", "../{1}/real/", "./real/.", "real/../real"])
def test_root_follows_no_link_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: int, target: str
) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    link_of(owner, tmp_path / "link", target.format(tmp_path, tmp_path.name), monkeypatch)
    path = tmp_path / "link/below"
    if owner:
        with pytest.raises(NotADirectoryError, match="a symbolic link leads elsewhere"):
            Folder(str(path))
        return
    with Folder(str(path)) as folder:
        there = os.stat(".", dir_fd=folder.descriptor)
    assert there.st_ino == (tmp_path / "real/below").stat().st_ino


@pytest.mark.usefixtures("as_root")
def test_a_circle_of_links_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link_of(0, tmp_path / "link", "link", monkeypatch)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NotADirectoryError):
        Folder(str(tmp_path / "link"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_another_user_follows_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Folder(str(tmp_path / "link")) as folder:
        folder.replace("file", b"x")
    assert (tmp_path / "real/file").read_bytes() == b"x"


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, folder: Folder, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    folder.replace("file", b"old", durable)
    steps: list[str] = []

    def failing(number: int) -> None:
        steps.append(os.path.basename(os.readlink(f"/proc/self/fd/{number}")).rstrip("-0123456789"))
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    if durable:
        with pytest.raises(OSError, match="Input/output"):
            folder.replace("file", b"new", durable)
    else:
        folder.replace("file", b"new", durable)
    assert steps == (["file."] if durable else [])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_bytes() == (b"old" if durable else b"new")


@pytest.mark.usefixtures("as_root")
def test_root_writes_to_no_file_that_has_a_second_name(tmp_path: Path, folder: Folder) -> None:
    (tmp_path / "precious").write_text("precious")
    for name in ("file", "temporary"):
        os.link(tmp_path / "precious", tmp_path / name)
    for flags in (os.O_RDWR | os.O_CREAT, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(OSError, match="second name"):
            folder.open("file", flags)
    os.close(folder.open("file", os.O_RDONLY))
    os.close(folder.create("temporary"))
    folder.replace("file", b"new")
    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "file").read_text() == "new"
