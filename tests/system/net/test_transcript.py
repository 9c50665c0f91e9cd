"""Transcripts: whole lines of both sides, in the order they went."""

from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError
from mailtools.system.net.transcript import Transcript, open_transcript


def test_lines_are_written_when_they_are_whole() -> None:
    written: list[bytes] = []
    closed: list[int] = []
    one = Transcript(written.append, lambda: closed.append(1))
    one.server(b"220 te")
    one.client(b"EHLO x\r")
    assert written == []
    one.server(b"st\r\n250-a\r\n250 b\r\n")
    one.client(b"\nMAIL FROM:<>\r\nRC")
    assert written == [b"S: 220 test\nS: 250-a\nS: 250 b\n", b"C: EHLO x\nC: MAIL FROM:<>\n"]
    one.server(b"42")
    one.close()
    assert b"".join(written).endswith(b"C: RC\nS: 42\n")
    assert closed == [1]


def test_a_folder_gets_a_file_for_each_session(tmp_path: Path) -> None:
    for target in (f"{tmp_path}/new/", str(tmp_path / "new")):
        one = open_transcript(target, "smtp")
        one.client(b"x\r\n")
        one.close()
    files = list((tmp_path / "new").iterdir())
    assert len(files) == 2
    assert all(path.name.endswith("-smtp.txt") and path.read_bytes() == b"C: x\n" for path in files)


def test_a_file_is_written_anew_or_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"old\n")
    for again in (False, True):
        one = open_transcript(str(path), "send", again=again)
        one.client(b"%d\r\n" % again)
        one.close()
    assert path.read_bytes() == b"C: 0\nC: 1\n"


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(CannotWriteError, match="no transcript"):
        open_transcript(str(tmp_path / "no" / "t"), "send")
