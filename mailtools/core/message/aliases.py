"""Parses aliases(5) files: ``name: target, target ...``.

Knows no users and opens no file: an ``:include:`` target is returned, not read. Owns the form that sendmail,
Postfix and Exim share: comments, continuation lines that begin with white space, quoted names and targets.
"""

import re
from typing import NamedTuple

# A target, up to the next comma outside quotes. The possessive *+ never backtracks: backtracking would take
# cubic time for white space before a quote that is never closed.
_TARGET = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^,"])*+)(?:,|\Z)', re.DOTALL)
_NAME = re.compile(r'("(?:[^"\\]|\\.)*"|[^:\s"]+)\s*:(?!include:)(.*)', re.DOTALL)


class AliasAddress(NamedTuple):
    """A local name or a full address. *is_final*: deliver to the user of that name; do not expand aliases."""

    text: str
    is_final: bool = False


class File(NamedTuple):
    """An mbox to append to."""

    path: str


class Command(NamedTuple):
    """A program that gets the message on stdin."""

    text: str


class Include(NamedTuple):
    """A file whose lines are further targets."""

    path: str


AliasTarget = AliasAddress | File | Command | Include
Aliases = dict[str, tuple[AliasTarget, ...]]


def parse(text: str) -> tuple[Aliases, list[str]]:
    """(the aliases by name in lower case, one sentence for each line that is ignored as wrong)."""
    found: Aliases = {}
    problems = []
    for number, line in _logical_lines(text):
        match = _NAME.fullmatch(line)
        if match is None:
            problems.append(f"line {number}: not 'name: target, ...'")
            continue
        name = _unquoted(match[1]).lower()
        targets = parse_targets(match[2])
        if name in found:
            problems.append(f"line {number}: {name} is defined twice; the first definition counts")
        elif not targets:
            problems.append(f"line {number}: {name} has no target")
        else:
            found[name] = targets
    return found, problems


def parse_targets(text: str) -> tuple[AliasTarget, ...]:
    """The targets in *text*, which are separated by commas."""
    words = []
    at = 0
    while at < len(text):
        match = _TARGET.match(text, at)
        if match is None or match.end() == at:  # a quote without end
            words.append(text[at:].strip())
            break
        words.append(match[1].strip())
        at = match.end()
    return tuple(_target(word) for word in words if word)


def parse_include(text: str) -> tuple[AliasTarget, ...]:
    """The targets of an included file: one or more targets a line; comment lines are skipped."""
    lines = [line for line in text.split("\n") if not line.lstrip().startswith("#")]
    return parse_targets(",".join(lines))


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """(number, text) of each line, joined with its continuation lines, which begin with white space."""
    found: list[tuple[int, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        else:
            found.append((number, line.strip()))
    return found


def _target(word: str) -> AliasTarget:
    text = _unquoted(word)
    if text.startswith("|"):
        return Command(text[1:].strip())
    if text.lower().startswith(":include:"):
        return Include(text[len(":include:") :].strip())
    if text.startswith("/"):
        return File(text)
    if text.startswith("\\"):
        return AliasAddress(text[1:], is_final=True)
    return AliasAddress(text)


def _unquoted(word: str) -> str:
    """Remove the quotes of *word*, which may be ``"|cmd a"`` or ``|"cmd a"``."""
    if len(word) > 1 and word[0] == word[-1] == '"':
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    if word.startswith('|"') and word.endswith('"'):
        return "|" + re.sub(r"\\(.)", r"\1", word[2:-1])
    return word
