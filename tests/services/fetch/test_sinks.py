"""services/fetch/sinks: an mbox, a stream, a program; what a mark proves."""

from pathlib import Path

import pytest

from mailtools.core.errors import CannotWriteError
from mailtools.services.fetch.remote import Fetched, Item
from mailtools.services.fetch.sinks import MboxSink, PipeSink, StreamSink, beside
from mailtools.services.transit import mbox_form
from mailtools.system.files.buffer import Buffer
from tests.boxes import number, subjects

NOW = 1_800_000_000.0


def message(octets: bytes, item: int = 1) -> Fetched:
    body = Buffer()
    body.append(mbox_form.stored(octets))
    return Fetched(Item(item, str(item)), body, NOW)


@pytest.fixture
def three() -> list[Fetched]:
    return [message(number(n) + b"x" * n * 1000 + b"\r\n", n) for n in (1, 2, 3)]


# -- an mbox -----------------------------------------------------------------------------------------------------


def test_a_mark_finds_the_batch_behind_what_was_there(tmp_path: Path, three: list[Fetched]) -> None:
    sink = MboxSink(str(tmp_path / "box"))
    sink.store([message(number(9))])
    mark = sink.mark(three)
    assert not sink.has(mark)
    assert sink.store(three) == ["", "", ""]
    assert sink.has(mark)
    sink.store([message(number(10))])
    assert sink.has(mark)
    assert [int(subject) for subject in subjects(tmp_path / "box")] == [9, 1, 2, 3, 10]


def test_a_mark_is_not_met_by_the_same_messages_before_it(tmp_path: Path, three: list[Fetched]) -> None:
    sink = MboxSink(str(tmp_path / "box"))
    sink.store(three)
    mark = sink.mark(three)
    assert not sink.has(mark)


@pytest.mark.parametrize("where", [0, 100, 2047, 2048, 3000, -2])
def test_a_mark_covers_every_octet(tmp_path: Path, three: list[Fetched], where: int) -> None:
    sink = MboxSink(str(tmp_path / "box"))
    mark = sink.mark(three)
    sink.store(three)
    octets = bytearray((tmp_path / "box").read_bytes())
    octets[where] ^= 1
    (tmp_path / "box").write_bytes(octets)
    assert not sink.has(mark)
    (tmp_path / "box").write_bytes(octets[:-1])
    assert not sink.has(mark)


def test_without_the_mbox_nothing_is_there(tmp_path: Path, three: list[Fetched]) -> None:
    sink = MboxSink(str(tmp_path / "box"))
    mark = sink.mark(three)
    assert not sink.has(mark)


# -- a stream ----------------------------------------------------------------------------------------------------


def test_a_stream_gets_an_mbox_and_is_flushed_for_each_message(tmp_path: Path) -> None:
    written: list[bytes] = []
    flushed: list[int] = []
    sink = StreamSink(written.append, lambda: flushed.append(len(written)))
    assert sink.batch == 1
    for n in (1, 2):
        assert sink.store([message(number(n))]) == [""]
    (tmp_path / "box").write_bytes(b"".join(written))
    assert [int(subject) for subject in subjects(tmp_path / "box")] == [1, 2]
    assert len(flushed) == 2
    assert flushed[-1] == len(written)


def test_a_file_is_synced_before_its_messages_count_as_stored(three: list[Fetched]) -> None:
    steps: list[str] = []
    sink = StreamSink(
        lambda octets: steps.append("write"), lambda: steps.append("flush"), lambda: steps.append("sync")
    )
    assert sink.batch > 1
    sink.store(three)
    assert steps[-2:] == ["flush", "sync"]
    assert steps.count("sync") == 1


def test_a_stream_cannot_tell_later(three: list[Fetched]) -> None:
    sink = StreamSink(lambda octets: None, lambda: None)
    assert sink.mark(three) == []
    assert not sink.has([])


# -- a program ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("cat >/dev/null", ""),
        ("exit 0", ""),  # it need not read all
        ("cat >/dev/null; exit 75", "cat >/dev/null; exit 75: failed (75)"),
    ],
)
def test_the_exit_code_of_a_program_tells_whether_it_took_the_message(command: str, problem: str) -> None:
    assert PipeSink(command).store([message(b"Subject: x\n\n" + b"x\n" * 500_000)]) == [problem]


def test_a_program_gets_the_message_as_it_was_before_it_was_quoted(tmp_path: Path) -> None:
    PipeSink(f"cat > {tmp_path}/got").store([message(b"Subject: x\r\n\r\nFrom here\r\n>From there\r\n")])
    assert (tmp_path / "got").read_bytes() == b"Subject: x\n\nFrom here\n>From there\n"


def test_the_folder_of_a_target_is_made(tmp_path: Path) -> None:
    target = str(tmp_path / "a" / "b" / "box")
    assert beside(target) == target
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(CannotWriteError, match="file"):
        beside(str(tmp_path / "file" / "box"))
