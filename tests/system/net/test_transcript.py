"""Transcripts: whole lines of both sides, in the order they went."""

import io
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


class Stdout:
    """Standard output that is a terminal, or not."""

    def __init__(self, is_terminal: bool) -> None:
        self.buffer = io.BytesIO()
        self.isatty = lambda: is_terminal


def test_a_terminal_is_not_controlled_by_what_a_peer_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "220 \x1b]0;evil\x07 \u202e\x9b2J schön\r\n".encode() + b"250 \xff\r\n"
    for is_terminal in (True, False):
        stdout = Stdout(is_terminal)
        monkeypatch.setattr("sys.stdout", stdout)
        one = open_transcript("-", "send")
        one.server(said)
        one.client(b"\x1b[c\r\n")
        one.close()
        whole = stdout.buffer.getvalue()
        if is_terminal:
            assert whole.decode() == "S: 220 ␛]0;evil␇ <U+202E><U+009B>2J schön\nS: 250 \\xff\nC: ␛[c\n"
        else:
            assert (
                whole == b"S: " + said.replace(b"\r\n250", b"\nS: 250").replace(b"\r", b"") + b"C: \x1b[c\n"
            )
