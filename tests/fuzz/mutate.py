"""Mutations: what clients say in the golden dialogues, and any other octets, changed by chance.

Pure functions of a `random.Random`: the same seed gives the same octets. What a failure names by its seed and
number is printed by ``python -m tests.fuzz.mutate SEED NUMBER [lmtp]``, for a file in crashes/.
"""

import os
import random
import re
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from tests.dialogues.player import octets, read

DEFAULT_SEED = 20240229
SEED = int(os.environ.get("MAILTOOLS_FUZZ_SEED") or DEFAULT_SEED)
DIALOGUES = Path(__file__).parent.parent / "dialogues" / "smtp"

LONGEST = 300_000  # octets of a session: more than the largest message that a server of ours takes
_OFTEN_LONGEST = 20_000  # of most sessions, for there to be many of them
_OCTETWISE = 1500  # octets of a session that may come one by one

Lines = list[bytes]  # what a client says; a line has its CRLF, or whatever a mutation left of it

NUMBERS = [
    b"0", b"1", b"-1", b"+5", b"00012", b"1e3", b"0x10", b"3", b"199999", b"200000", b"204801", b"2147483648",
    b"4294967296", b"9223372036854775807", b"18446744073709551616", b"9" * 19, b"9" * 20, b"9" * 21, b"9" * 400,
    b"9" * 4000, "\u0661\u0662".encode(), b"\xb2", b"1_0", b"",
]  # fmt: skip
ENDS = [
    b"\r\n.\r\n", b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\r\n..\r\n", b"\r\n.\0\r\n",
    b"\r\n. \r\n", b"\r\r\n.\r\n", b"\r\n.\r\r\n", b".\r\n", b"..\r\n", b".", b"\r\n.\r\n.\r\n",
]  # fmt: skip
OCTETS = [
    b"\0", b"\r", b"\n", b"\r\n", b"\n\r", b"\r\r\n", b"\t", b"\x0b", b"\x0c", b"\x1b", b"\x7f", b"\x80", b"\x85",
    b"\xa0", b"\xff", b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", "\u00e9".encode(),
    "\u0130".encode(), "\u2028".encode(), "\U0001f4e7".encode(), b" ", b"  ", b"<", b">", b"<>", b"@", b":", b";",
    b"=", b"+", b"\\", b'"', b"\"\\\"", b"[", b"]", b"[IPv6:::]", b"..", b"/", b"../", b"%s", b"%n", b"*", b"-", b"|",
    b"\x16\x03\x01", b"\x15\x03\x03\0\x02\x02\x28",
]  # fmt: skip
COMMANDS = [
    b"EHLO x\r\n", b"HELO x\r\n", b"LHLO x\r\n", b"MAIL FROM:<a@example.org>\r\n", b"MAIL FROM:<>\r\n",
    b"RCPT TO:<bob@localhost>\r\n", b"RCPT TO:<ann+x@localhost>\r\n", b"RCPT TO:<Postmaster>\r\n", b"DATA\r\n",
    b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n", b"STARTTLS\r\n", b"HELP\r\n", b"VRFY bob\r\n", b"EXPN x\r\n",
    b"BDAT 5\r\nab\r\n.", b"BDAT 0 LAST\r\n", b"BDAT 7 LAST\r\na\r\nb\r\nc\r\n", b"*\r\n", b"=\r\n", b"\r\n",
    b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n", b"AUTH PLAIN\r\n", b"AUTH LOGIN\r\n", b"Ym9i\r\n", b"c2VjcmV0\r\n",
    b"AUTH SCRAM-SHA-256 biwsbj1ib2Iscj1hYmNkZWY=\r\n", b"AUTH SCRAM-SHA-256\r\n", b"AUTH SCRAM-SHA-256-PLUS =\r\n",
    b"From x Thu Aug 22 12:00:00 2002\r\n", b"\r\nFrom x Thu Aug 22 12:00:00 2002\r\nReturn-Path: <x>\r\n",
    b"Status: RO\r\n", b"X-UID: 1\r\n", b"Return-Path: <evil>\r\n",
    b"MAIL FROM:<a@b> SIZE=100 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=a+2Bb AUTH=<>\r\n",
    b"RCPT TO:<bob@localhost> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+40b\r\n",
]  # fmt: skip
RUNS = [100, 509, 510, 511, 512, 1000, 4094, 4095, 4096, 4097, 12287, 12290, 65535, 65538, 65539, 204_801]

# Sessions that get far at a server with users and domains, beside those of the dialogues.
_OWN: list[Lines] = [
    [b"EHLO x\r\n", b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<bob@localhost>\r\n", b"DATA\r\n",
     b"Subject: x\r\n", b"\r\n", b"text\r\n", b"..\r\n", b"From you\r\n", b".\r\n", b"QUIT\r\n"],
    [b"EHLO x\r\n", b"MAIL FROM:<>\r\n", b"RCPT TO:<ann+tag@localhost>\r\n", b"RCPT TO:<bob@localhost>\r\n",
     b"BDAT 14\r\n", b"Subject: x\r\n\r\n", b"BDAT 6 LAST\r\n", b"text\r\n", b"RSET\r\n", b"QUIT\r\n"],
    [b"EHLO x\r\n", b"AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n", b"MAIL FROM:<bob@localhost> SIZE=9\r\n",
     b"RCPT TO:<bob@localhost>\r\n", b"RCPT TO:<ann@localhost>\r\n", b"DATA\r\n", b"\r\n", b"x\r\n", b".\r\n"],
]  # fmt: skip


def sessions(lmtp: bool = False) -> list[Lines]:
    """The seed sessions: one of each dialogue, and a few of our own; in *lmtp* they say LHLO."""
    found = [
        [octets(step.text) for step in read(path).steps if step.side == "C"]
        for path in sorted(DIALOGUES.glob("*.txt"))
    ]
    found = [lines for lines in found if lines] + [list(lines) for lines in _OWN]
    if lmtp:
        return [[re.sub(rb"^(HELO|EHLO)\b", b"LHLO", line) for line in lines] for lines in found]
    return found


# -- mutations of octets -----------------------------------------------------------------------------------


def _flip(chance: random.Random, data: bytes) -> bytes:
    if not data:
        return data
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 8))):
        at = chance.randrange(len(found))
        found[at] = chance.choice((found[at] ^ (1 << chance.randrange(8)), chance.randrange(256)))
    return bytes(found)


def _cut(chance: random.Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    return data[:start] + data[end:] if chance.random() < 0.7 else data[:start]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    return data[:end] + data[start:end] * chance.choice((1, 1, 2, 5, 60)) + data[end:]


def _insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randint(0, len(data))
    kind = chance.random()
    if kind < 0.5:
        piece = chance.choice(OCTETS)
    elif kind < 0.75:
        piece = chance.choice(ENDS)
    elif kind < 0.9:
        piece = chance.choice(NUMBERS)
    else:
        piece = chance.choice(
            (b"x", b"\0", b".", b"\xe9", b"\r", b"\n", b" ", b"<", b"=", b'"', b"a@")
        ) * chance.choice(RUNS)
    return data[:at] + piece + data[at:]


def _number(chance: random.Random, data: bytes) -> bytes:
    """Another number in the place of one that stands there: of BDAT, SIZE, a port, a year."""
    places = list(re.finditer(rb"(?<=BDAT )[0-9]+|(?<=SIZE=)[0-9]+|[0-9]+", data))
    if not places:
        return data
    place = chance.choice(places)
    return data[: place.start()] + chance.choice(NUMBERS) + data[place.end() :]


def _case(chance: random.Random, data: bytes) -> bytes:
    start, end = _span(chance, data)
    return data[:start] + data[start:end].swapcase() + data[end:]


def _span(chance: random.Random, data: bytes) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.choice((1, 2, 4, 16, 64, 512)))


OF_OCTETS: Sequence[Callable[[random.Random, bytes], bytes]] = (
    _flip,
    _cut,
    _repeat,
    _insert,
    _insert,
    _number,
    _case,
)


def mutated(chance: random.Random, data: bytes, most: int = 5) -> bytes:
    """*data* after one to *most* mutations."""
    for _ in range(chance.randint(1, most)):
        data = chance.choice(OF_OCTETS)(chance, data)[:LONGEST]
    return data


# -- mutations of sessions ---------------------------------------------------------------------------------


def _swap_lines(chance: random.Random, lines: Lines, _: Sequence[Lines]) -> Lines:
    found = list(lines)
    for _ in range(chance.choice((1, 1, 2, 6))):
        line = found.pop(chance.randrange(len(found)))
        found.insert(chance.randint(0, len(found)), line)
    return found


def _drop_line(chance: random.Random, lines: Lines, _: Sequence[Lines]) -> Lines:
    at = chance.randrange(len(lines))
    return lines[:at] + lines[at + 1 :]


def _repeat_lines(chance: random.Random, lines: Lines, _: Sequence[Lines]) -> Lines:
    start = chance.randrange(len(lines))
    end = start + chance.choice((1, 1, 2, 5, 20))
    return lines[:end] + lines[start:end] * chance.choice((1, 1, 2, 3, 30)) + lines[end:]


def _cut_lines(chance: random.Random, lines: Lines, _: Sequence[Lines]) -> Lines:
    return lines[: chance.randint(0, len(lines))]


def _splice(chance: random.Random, lines: Lines, others: Sequence[Lines]) -> Lines:
    other = chance.choice(others)
    return lines[: chance.randint(0, len(lines))] + other[chance.randint(0, len(other)) :]


def _into(chance: random.Random, lines: Lines, others: Sequence[Lines]) -> Lines:
    """Some of another session's lines within this one."""
    other = chance.choice(others)
    start, at = chance.randint(0, len(other)), chance.randint(0, len(lines))
    return lines[:at] + other[start : start + chance.choice((1, 2, 5))] + lines[at:]


def _command(chance: random.Random, lines: Lines, _: Sequence[Lines]) -> Lines:
    at = chance.randint(0, len(lines))
    return lines[:at] + [chance.choice(COMMANDS)] + lines[at:]


def _change_line(chance: random.Random, lines: Lines, _: Sequence[Lines]) -> Lines:
    at = chance.randrange(len(lines))
    return lines[:at] + [mutated(chance, lines[at], 2)] + lines[at + 1 :]


def _at_home(_: random.Random, lines: Lines, __: Sequence[Lines]) -> Lines:
    """Recipients that a server with a domain takes: else few sessions would get to their message."""
    return [re.sub(rb"(?i)(TO:<[^@<>]*)@[^<>]*>", rb"\1@localhost>", line) for line in lines]


def _at_length(chance: random.Random, lines: Lines, _: Sequence[Lines]) -> Lines:
    """A long line where a message may be."""
    at = chance.randint(0, len(lines))
    return (
        lines[:at] + [chance.choice((b"x", b".", b" ", b"\xff")) * chance.choice(RUNS) + b"\r\n"] + lines[at:]
    )


_OF_LINES: Sequence[Callable[[random.Random, Lines, Sequence[Lines]], Lines]] = (
    _swap_lines, _drop_line, _repeat_lines, _cut_lines, _splice, _into, _command, _command, _change_line,
    _change_line, _change_line, _at_length,
)  # fmt: skip


def mutated_session(chance: random.Random, seeds: Sequence[Lines]) -> bytes:
    """One of the *seeds* after a few mutations, none of its octets answered yet."""
    lines = list(chance.choice(seeds))
    if chance.random() < 0.8:
        lines = _at_home(chance, lines, seeds)
    for _ in range(chance.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        if lines:
            lines = chance.choice(_OF_LINES)(chance, lines, seeds)
    data = b"".join(lines)
    if chance.random() < 0.3:
        data = mutated(chance, data, 3)
    return data[: LONGEST if chance.random() < 0.04 else _OFTEN_LONGEST]


def chunks(chance: random.Random, data: bytes) -> list[bytes]:
    """*data* in the pieces it comes in: whole, by lines, octet by octet, by chance, or cut within each CRLF."""
    way = chance.randrange(5)
    if way == 0:
        edges = {0, len(data)}
    elif way == 1:
        edges = {0, len(data), *(found.end() for found in re.finditer(rb"\n", data))}
    elif way == 2 and len(data) <= _OCTETWISE:
        edges = set(range(len(data) + 1))
    elif way == 3:
        edges = {0, len(data), *(found.end() for found in re.finditer(rb"\r|\.", data))}
    else:
        edges = {0, len(data), *(chance.randint(0, len(data)) for _ in range(chance.choice((1, 3, 10, 40))))}
    return [data[start:end] for start, end in pairwise(sorted(edges))]


def chance_of(seed: int, number: int, what: str = "") -> random.Random:
    """The chance that session *number* of a run depends on, and on which nothing else does."""
    return random.Random(f"{seed} {number} {what}")


def session(seed: int, number: int, seeds: Sequence[Lines]) -> list[bytes]:
    """Session *number* of the run with *seed*, in its pieces."""
    chance = chance_of(seed, number)
    return chunks(chance, mutated_session(chance, seeds))


if __name__ == "__main__":
    seeds = sessions(lmtp=sys.argv[3:] == ["lmtp"])
    sys.stdout.buffer.write(b"".join(session(int(sys.argv[1]), int(sys.argv[2]), seeds)))
