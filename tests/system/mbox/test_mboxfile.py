"""system/mbox/mboxfile: what belongs to an mbox stays beside it, whatever the folders are replaced by."""

import os
from pathlib import Path

import pytest

from mailtools.system.mbox.mboxfile import MboxFile


def test_the_mbox_and_its_own_files_are_in_one_folder(tmp_path: Path) -> None:
    with MboxFile(str(tmp_path / "in.mbox")) as mbox:
        descriptor = mbox.open(os.O_RDWR | os.O_CREAT)
        assert mbox.is_still(descriptor)
        os.close(descriptor)
        os.close(mbox.state().open("note", os.O_RDWR | os.O_CREAT))
        assert mbox.dotlock == "in.mbox.lock"
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        ".mailtools", ".mailtools/note", "in.mbox",
    ]  # fmt: skip


@pytest.mark.parametrize("what", ["the folder", "the state folder"])
def test_a_folder_that_is_replaced_by_a_link_leads_nowhere(tmp_path: Path, what: str) -> None:
    (tmp_path / "bob").mkdir()
    (tmp_path / "etc").mkdir()
    with MboxFile(str(tmp_path / "bob/in.mbox")) as mbox:
        mbox.state()
        path = tmp_path / "bob" if what == "the folder" else tmp_path / "bob/.mailtools"
        path.rename(tmp_path / "moved")
        path.symlink_to(tmp_path / "etc")
        os.close(mbox.state().open("in.mbox.index", os.O_WRONLY | os.O_CREAT))
        os.close(mbox.open(os.O_RDWR | os.O_CREAT))
    assert not list((tmp_path / "etc").iterdir())


def test_a_link_in_place_of_the_state_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".mailtools").symlink_to(tmp_path / "elsewhere")
    with MboxFile(str(tmp_path / "a.mbox")) as mbox, pytest.raises(NotADirectoryError):
        mbox.state()


def test_only_the_last_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MboxFile(str(tmp_path / "bob/in.mbox"))
    MboxFile(str(tmp_path / "bob/in.mbox"), make=True).close()
    assert (tmp_path / "bob").is_dir()
    with pytest.raises(FileNotFoundError):
        MboxFile(str(tmp_path / "a/b/in.mbox"), make=True)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with MboxFile(str(tmp_path / "bob/in.mbox"), make=True) as mbox:
        mbox.state()
    (tmp_path / "bob/.mailtools").rmdir()
    (tmp_path / "bob/.mailtools").touch()
    for _ in range(3):
        with MboxFile(str(tmp_path / "bob/in.mbox")) as mbox, pytest.raises(NotADirectoryError):
            mbox.state()
        with pytest.raises(NotADirectoryError):
            MboxFile(str(tmp_path / "bob/.mailtools/below/in.mbox"), make=True)
    assert os.listdir("/proc/self/fd") == before


def test_the_name_that_a_new_mbox_had_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power failure can leave both names; root opens no file that has two."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with MboxFile(str(tmp_path / "in.mbox")) as mbox:
        os.close(mbox.open(os.O_RDWR | os.O_CREAT))
        mbox.state()
        os.link(tmp_path / "in.mbox", tmp_path / ".mailtools/in.mbox.new")
        os.close(mbox.open(os.O_RDWR))
        assert (tmp_path / "in.mbox").stat().st_nlink == 1
        os.link(tmp_path / "in.mbox", tmp_path / "other")
        with pytest.raises(OSError, match="second name"):
            mbox.open(os.O_RDWR)
