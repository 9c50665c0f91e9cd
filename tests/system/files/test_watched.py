"""system/files/watched: a file is loaded again when it changes, and a file that is broken harms nobody."""

import os
from pathlib import Path

import pytest

from mailtools.core.errors import ConfigurationError
from mailtools.system.files import watched
from mailtools.system.files.watched import Watched, read_text


class Clocks:
    """The clocks of the module, which stand still."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 1000.0
        self.moment = 1e9
        monkeypatch.setattr(watched.time, "monotonic", lambda: self.passed)
        monkeypatch.setattr(watched.time, "time", lambda: self.moment)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    return Clocks(monkeypatch)


class Words:
    """A watched file of words; "bad" is a problem, "bug" makes the parser raise."""

    def __init__(self, path: Path, clocks: Clocks) -> None:
        self.path = path
        self.clocks = clocks
        self.loads = 0
        self.warnings: list[str] = []
        self.file = Watched(str(path), "file of words", self._parse, self.warnings.append)

    def _parse(self, text: str) -> tuple[list[str], list[str]]:
        self.loads += 1
        if "bug" in text:
            raise KeyError("bug")
        found = text.split()
        return [word for word in found if word != "bad"], [
            f"{n}: bad" for n, w in enumerate(found) if w == "bad"
        ]

    def now(self) -> list[str]:
        """The value after the next look at the file."""
        self.clocks.passed += 1
        return self.file.value()


def replace(path: Path, text: str) -> None:
    """As an editor that writes a new file."""
    new = path.with_name("new")
    new.write_text(text)
    os.rename(new, path)


@pytest.fixture
def words(tmp_path: Path, clocks: Clocks) -> Words:
    (tmp_path / "words").write_text("a b")
    return Words(tmp_path / "words", clocks)


def test_a_file_is_loaded_again_only_after_a_change(words: Words) -> None:
    assert [words.now(), words.now()] == [["a", "b"], ["a", "b"]]
    assert words.loads == 1
    replace(words.path, "c")
    assert words.now() == ["c"]
    words.path.write_text("d e")
    assert words.now() == ["d", "e"]
    assert words.loads == 3


@pytest.mark.parametrize("in_place", [False, True])
def test_a_change_that_keeps_size_and_time_is_noticed(words: Words, in_place: bool) -> None:
    times = os.stat(words.path)
    if in_place:
        words.path.write_text("x y")
    else:
        replace(words.path, "x y")
    os.utime(words.path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert words.now() == ["x", "y"]


@pytest.mark.parametrize("text", [None, "bug"])
def test_what_was_known_stays_while_the_file_cannot_be_read(words: Words, text: str | None) -> None:
    if text is None:
        words.path.unlink()
    else:
        replace(words.path, text)
    assert [words.now(), words.now(), words.now()] == [["a", "b"]] * 3
    assert len(words.warnings) == 1  # once, not at each look
    assert words.warnings[0].endswith("; its last content stays in use")
    replace(words.path, "c")
    assert words.now() == ["c"]
    words.path.unlink()
    words.now()
    assert len(words.warnings) == 2


@pytest.mark.parametrize("text", [None, "bug"])
def test_a_file_that_cannot_be_read_at_the_start_is_an_error(
    tmp_path: Path, clocks: Clocks, text: str | None
) -> None:
    if text is not None:
        (tmp_path / "words").write_text(text)
    with pytest.raises(ConfigurationError, match=r"words: .*(file of words cannot be read|KeyError)"):
        Words(tmp_path / "words", clocks)


def test_a_busy_server_looks_at_most_eight_times_in_ten_milliseconds(
    words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    stat = os.stat
    monkeypatch.setattr(watched.os, "stat", lambda path: looks.append(path) or stat(path))
    words.clocks.passed += 1
    for _ in range(100):
        words.file.value()
    assert len(looks) == 8
    words.clocks.passed += 0.011
    words.file.value()
    assert len(looks) == 9


@pytest.mark.parametrize(("count", "told"), [(1, 1), (10, 10), (11, 11), (300, 11)])
def test_at_most_ten_problems_are_told_and_the_number_of_the_rest(
    tmp_path: Path, clocks: Clocks, count: int, told: int
) -> None:
    (tmp_path / "words").write_text("bad " * count + "good")
    words = Words(tmp_path / "words", clocks)
    assert words.now() == ["good"]
    assert len(words.warnings) == told
    assert ("and" in words.warnings[-1]) == (count > 10)
    if count > 10:
        assert words.warnings[-1].endswith(f"and {count - 10} more lines are passed over")


@pytest.mark.parametrize(
    ("in_place", "seconds", "is_unsettled"), [(True, 1.9, True), (True, 2.1, False), (False, 0.0, False)]
)
def test_a_file_that_is_written_in_place_may_be_incomplete_for_two_seconds(
    words: Words, in_place: bool, seconds: float, is_unsettled: bool
) -> None:
    assert not words.file.is_unsettled
    if in_place:
        words.path.write_text("a b c")
    else:
        replace(words.path, "a b c")
    os.utime(words.path, (1e9, 1e9))
    words.now()
    words.clocks.moment = 1e9 + seconds
    assert words.file.is_unsettled == is_unsettled


def test_the_home_folder_may_be_written_as_a_tilde(
    tmp_path: Path, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "words").write_text("a")
    assert Words(Path("~/words"), clocks).now() == ["a"]


# -- reading -------------------------------------------------------------------------------------------------


def test_text_has_lf_and_keeps_octets_that_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a\r\nb\rc\n\xff\xc3\xbc")
    assert read_text(str(tmp_path / "file")) == "a\nb\rc\n\udcff\u00fc"


@pytest.mark.parametrize(("limit", "is_good"), [(3, True), (2, False)])
def test_a_file_may_have_a_limit(tmp_path: Path, limit: int, is_good: bool) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    if is_good:
        assert read_text(str(tmp_path / "file"), limit) == "abc"
    else:
        with pytest.raises(OSError, match="Larger than 2 octets"):
            read_text(str(tmp_path / "file"), limit)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        read_text(str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("folder_mode", "mode", "owner", "says"),
    [
        (0o755, 0o644, 0, None),
        (0o755, 0o600, -1, None),  # ours
        (0o1777, 0o644, 0, None),  # /tmp
        (0o755, 0o646, 0, "Other users may write it"),
        (0o755, 0o600, 12345, "Other users may write it"),
        (0o777, 0o644, 0, "Other users may replace it"),
    ],
)
def test_a_file_that_others_may_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder_mode: int, mode: int, owner: int, says: str | None
) -> None:
    """It says where our mail goes: who writes it reads our mail, or has us write files."""
    folder = tmp_path / "etc"
    folder.mkdir()
    path = folder / "aliases"
    path.write_text("root: bob")
    path.chmod(mode)
    folder.chmod(folder_mode)
    _pretend_owner(monkeypatch, os.geteuid() if owner == -1 else owner)
    if says is None:
        assert read_text(str(path)) == "root: bob"
    else:
        with pytest.raises(OSError, match=says):
            read_text(str(path))


@pytest.mark.parametrize(("uid", "is_good"), [(0, False), (1000, True)])
def test_a_group_may_write_the_file_unless_the_server_runs_as_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, is_good: bool
) -> None:
    path = tmp_path / "aliases"
    path.write_text("root: bob")
    path.chmod(0o664)
    _pretend_owner(monkeypatch, uid, group=50)
    monkeypatch.setattr(watched.os, "geteuid", lambda: uid)
    if is_good:
        assert read_text(str(path)) == "root: bob"
    else:
        with pytest.raises(OSError, match="A group may write it"):
            read_text(str(path))


def _pretend_owner(monkeypatch: pytest.MonkeyPatch, owner: int, group: int = 0) -> None:
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        status = list(real(descriptor))
        status[4:6] = [owner, group]
        return os.stat_result(status)

    monkeypatch.setattr(watched.os, "fstat", fstat)
