"""``mailtools mbox list``."""

import json
from pathlib import Path

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
        "cc": "",
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
    for width in (60, 80, 133):
        head, line = list_._table([row], width)
        assert cells(head) == cells(line) <= width
        assert line.endswith("118M")
    assert line.count("…") == 2


def test_cells() -> None:
    assert [cells(text) for text in ("abc", "会议", "e\u0301", "")] == [3, 4, 1, 0]
    assert fit("会议通知", 6) == "会议… "
    assert fit("ab", 4, right=True) == "  ab"
    assert clean("a\x1b\u202e") == "a␛<U+202E>"
