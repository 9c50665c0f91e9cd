"""``mailtools mbox show``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailtools.commands.mbox._text import wrapped
from mailtools.commands.mbox.list import command as list_command
from mailtools.commands.mbox.show import command


def run(*args: object) -> tuple[int, bytes]:
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    return result.exit_code, result.stdout_bytes


def test_text(own: Path) -> None:
    code, out = run(own / "mixed.mbox", 2)
    assert code == 0
    assert out.decode().startswith("Date: Tue, 6 Jan 2026 10:00:00 +0800\nFrom: 王小明 <wang@example.cn>\n")
    assert out.decode().endswith("\n\n大家好，\n\n明天上午十点在三楼会议室开会。\n")


def test_numbers_and_ranges(own: Path) -> None:
    _, out = run(own / "mixed.mbox", "1-2", "8")
    assert [line for line in out.decode().splitlines() if line.startswith("Subject: ")] == [
        "Subject: 你好世界 and  two words", "Subject: 会议通知", "Subject: ␛[31mred␛[0m ␛]0;title␇<U+202E>",
    ]  # fmt: skip
    assert run(own / "mixed.mbox", 9) == (1, b"")


def test_a_file_whose_name_is_a_number(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "3").write_bytes((own / "mixed.mbox").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert b"Subject: Offer" in run("3", "4")[1]


def test_raw_is_the_message_unquoted(own: Path) -> None:
    _, out = run("--raw", own / "quoted.mbox", 1)
    assert out == (
        b"From: a@example.org\nSubject: quoted\nStatus: R\n\n"
        b"From the start\n>From twice\n From inside\n> From other\n"
    )


def test_part_is_octets(own: Path) -> None:
    assert run("--part", "2", own / "mixed.mbox", 3)[1].startswith(b"\x89PNG\r\n")
    result = CliRunner().invoke(command, ["--part", "9", str(own / "mixed.mbox"), "3"])
    assert "no part 9" in str(result.exception)


def test_headers_and_html(own: Path) -> None:
    assert "From: Jürgen Müller <juergen@example.org>" in run("--headers", own / "mixed.mbox", 1)[1].decode()
    assert "<p>Café &amp; <a" in run("--html", own / "mixed.mbox", 4)[1].decode()


def test_json(own: Path) -> None:
    found = json.loads(run("--json", own / "mixed.mbox", 3)[1])
    listed = json.loads(
        CliRunner().invoke(list_command, ["--json", str(own / "mixed.mbox")]).stdout.split("\n")[2]
    )
    assert listed.items() <= found.items()
    assert found["number"] == 3
    assert found["text"].startswith("Plain text.")


def test_select(own: Path) -> None:
    assert run("--from", "shop", own / "mixed.mbox")[1].count(b"Subject: ") == 1


def test_one_form_at_a_time(own: Path) -> None:
    assert run("--raw", "--html", own / "mixed.mbox")[0] == 2


def test_a_part_of_a_message_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailtools.commands.mbox.show._MOST", 2 << 20)
    path = tmp_path / "x.mbox"
    path.write_bytes(b"From a@b Thu Aug 22 12:00:00 2002\nSubject: x\n\n" + b"y" * 99 * (1 << 16) + b"\n\n")
    code, out = run(path, 1, "--part", "1")
    assert (code, out) == (1, b"")  # the command line turns BadDataError into 65


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("short", "short"),
        ("one two three four", "one two\nthree four"),
        ("> > one two three", "> > one two\n> > three"),
        ("* one two three", "* one two\n  three"),
        ("10. one two three", "10. one two\n    three"),
        ("an-url-that-is-long and more", "an-url-that-is-long\nand more"),
        ("会议 通知 会议", "会议 通知\n会议"),
        ("> > > > > > deep", "> > > > > > deep"),
        ("a\n\nb", "a\n\nb"),
    ],
)
def test_long_lines_are_wrapped_at_spaces(line: str, shown: str) -> None:
    assert wrapped(line, 11) == shown


@pytest.mark.parametrize(("lines", "is_cut"), [(30, False), (200_000, False), (3_000_000, True)])
def test_what_is_left_out_is_said(tmp_path: Path, lines: int, is_cut: bool) -> None:
    path = tmp_path / "m"
    path.write_bytes(
        b"From a@b Thu Aug 22 12:00:00 2002\nFrom: a@b\n\n" + b"hello world\n" * lines + b"last\n\n"
    )
    shown = run(path)[1]
    assert (b"\nlast\n" in shown) is not is_cut
    assert (f" of {12 * lines + 16} octets; --raw".encode() in shown[-200:]) is is_cut
    found = json.loads(run("--json", path)[1])
    assert found["truncated"] is is_cut
    assert found["text"].endswith("last\n") is not is_cut
    assert found["size"] == 12 * lines + 16
