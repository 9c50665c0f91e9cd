"""``mailtools mbox list``."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailtools.commands.mbox import list as list_
from mailtools.commands.mbox._text import cells, clean, fit
from mailtools.commands.mbox.list import command
from mailtools.services.filters.listing import ListRow


def run(*args: object) -> tuple[int, list[str]]:
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    return result.exit_code, result.stdout.splitlines()


def test_tab_separated(own: Path) -> None:
    code, lines = run(own / "mixed.mbox")
    assert code == 0
    assert lines[0] == "1\t2026-01-05 09:30\tN\tJürgen Müller\t你好世界 and  two words\t434"
    assert lines[2].split("\t")[2] == "NAF"
    assert len(lines) == 8


def test_no_control_reaches_the_output(own: Path) -> None:
    _, lines = run(own / "mixed.mbox")
    assert lines[7].split("\t")[3:5] == ["Bank<U+202E>", "␛[31mred␛[0m ␛]0;title␇<U+202E>"]
    assert all(char.isprintable() or char == "\t" for line in lines for char in line)


def test_json(own: Path) -> None:
    code, lines = run("--json", own / "mixed.mbox")
    found = [json.loads(line) for line in lines]
    assert code == 0
    assert found[2] == {
        "number": 3,
        "date": "2026-01-07T12:00:00+00:00",
        "flags": ["answered", "flagged"],
        "from": "Alice <alice@example.org>",
        "from_address": "alice@example.org",
        "to": "bob@example.org",
        "to_addresses": ["bob@example.org"],
        "cc": "",
        "cc_addresses": [],
        "subject": "Nested",
        "size": 1094,
        "message_id": "<nested@example.org>",
        "in_reply_to": "<words@example.org>",
    }
    assert found[6]["to"].count("@") == 200
    assert found[7]["subject"].startswith("\u241b[31m")


def test_order_and_limit(own: Path) -> None:
    assert [line.split("\t")[0] for line in run("--sort", "size", "--limit", 3, own / "mixed.mbox")[1]] == [
        "6",
        "8",
        "5",
    ]
    assert [line.split("\t")[0] for line in run("--reverse", own / "mixed.mbox")[1]] == list("87654321")
    assert run("--limit", 0, own / "mixed.mbox") == (1, [])


def test_threads(own: Path) -> None:
    lines = run("--threads", own / "mixed.mbox")[1]
    assert [line.split("\t")[0] for line in lines][:3] == ["1", "3", "2"]
    assert lines[1].split("\t")[4] == "  Nested"
    assert json.loads(run("--threads", "--json", own / "mixed.mbox")[1][1])["depth"] == 1


def test_nothing_matched_is_1(own: Path) -> None:
    assert run("--subject", "no such subject", own / "mixed.mbox") == (1, [])


def test_the_table_fits_its_width(own: Path) -> None:
    row = ListRow(1, (2026, 1, 5, 9, 30, 0, 60), frozenset(), "王小明" * 9, "会议通知" * 40, 123_456_789)
    for width in (40, 60, 80, 133):
        head, line = list_._table([row], width)
        assert cells(head) == cells(line) <= width
        assert line.endswith("118M") == (width > 60)
        assert "2026-01-05" in line
    assert line.count("…") == 2


def test_cells() -> None:
    assert [cells(text) for text in ("abc", "会议", "e\u0301", "")] == [3, 4, 1, 0]
    assert fit("会议通知", 6) == "会议… "
    assert fit("ab", 4, right=True) == "  ab"
    assert clean("a\x1b\u202e") == "a␛<U+202E>"


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("plain", 7, "plain  "), ("plain text", 6, "plain…"), ("สวัสดี", 5, "สวัสดี "), ("नमस्ते", 4, "नमस्ते"),
        ("한글 자모", 6, "한글 …"), ("👨\u200d👩\u200d👧 family", 5, "👨\u200d👩\u200d👧 f…"), ("日本語", 4, "日…  ".rstrip() + " "),
        ("e\u0301t\u0301", 2, "e\u0301t\u0301"),
    ],
)  # fmt: skip
def test_columns_count_cells_of_a_terminal(text: str, width: int, shown: str) -> None:
    from mailtools.commands.mbox._text import cells, fit

    assert cells(fit(text, width)) == width
    assert fit(text, width).rstrip() == shown.rstrip()


def test_names_with_commas_stay_apart_in_json(tmp_path: Path) -> None:
    path = tmp_path / "x.mbox"
    path.write_bytes(
        b'From a@b Thu Aug 22 12:00:00 2002\nTo: "Doe, John" <john@x>, jane@y (Jane, too)\nCc: team: a@z, b@z;\n\nx\n\n'
    )
    (line,) = run("--json", path)[1]
    found = json.loads(line)
    assert (found["to_addresses"], found["cc_addresses"]) == (["john@x", "jane@y"], ["a@z", "b@z"])


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        (b"X-Gmail-Labels: Inbox,Starred,Opened\n", ["flagged", "read"]),
        (b"X-Gmail-Labels: Inbox,Unread\n", []),
        (b"X-Mozilla-Status: 0007\n", ["answered", "flagged", "read"]),
        (b"X-Mozilla-Status: zz\n", []),
    ],
)
def test_flags_of_takeout_and_thunderbird(tmp_path: Path, fields: bytes, flags: list[str]) -> None:
    path = tmp_path / "x.mbox"
    path.write_bytes(b"From a@b Thu Aug 22 12:00:00 2002\nSubject: x\n" + fields + b"\nx\n\n")
    assert json.loads(run("--json", path)[1][0])["flags"] == flags


def test_a_byte_order_mark_before_an_mbox(tmp_path: Path) -> None:
    path = tmp_path / "x.mbox"
    path.write_bytes(
        b"\xef\xbb\xbfFrom a@b Thu Aug 22 12:00:00 2002\nSubject: x\n\nx\n\nFrom a@b Thu Aug 22 12:00:00 2002\n\ny\n\n"
    )
    assert len(run(path)[1]) == 2


def test_lines_that_end_with_cr_alone_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.mbox"
    path.write_bytes(b"From a@b Thu Aug 22 12:00:00 2002\rSubject: x\r\rbody\r")
    assert run(path)[0] == 65
