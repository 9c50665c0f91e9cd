"""Parses aliases(5) files: ``name: target, target ...``.

Knows no users and opens no file: an ``:include:`` target is returned, not read. Owns the form that sendmail,
Postfix and Exim share: comments, continuation lines that begin with white space, quoted names and targets.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from mailtools.core.message import address

# A target, up to the next comma outside quotes. The possessive *+ never backtracks: backtracking would take
# cubic time for white space before a quote that is never closed.
_TARGET = re.compile(r'((?:"(?:[^"\\]|\\.)*"|[^,"])*)(?:,|\Z)', re.DOTALL)
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


class BadTarget(NamedTuple):
    """A target that is none of these. Mail for its alias is refused until the file is mended."""

    text: str
    why: str


AliasTarget = AliasAddress | File | Command | Include | BadTarget
Aliases = dict[str, tuple[AliasTarget, ...]]


IsMailbox = Callable[[str], bool]


def parse(text: str, is_mailbox: IsMailbox) -> tuple[Aliases, list[str]]:
    """Return the aliases by name in lower case, and a sentence for each wrong line or target.

    *is_mailbox*: can an envelope hold this address (local@domain)?
    """
    found: Aliases = {}
    problems = []
    for number, line in _logical_lines(text):
        match = _NAME.fullmatch(line)
        if match is None:
            problems.append(f"line {number}: not 'name: target, ...'")
            continue
        name = _unquoted(match[1]).lower()
        targets = parse_targets(match[2], is_mailbox)
        if name in found:
            problems.append(f"line {number}: {name} is defined twice; the first definition counts")
        elif not targets:
            problems.append(f"line {number}: {name} has no target")
        else:
            found[name] = targets
        problems += [f"line {number}: {name}: {bad.text!r}: {bad.why}" for bad in _bad(targets)]
    return found, problems


def _bad(targets: tuple[AliasTarget, ...]) -> list[BadTarget]:
    return [target for target in targets if isinstance(target, BadTarget)]


def parse_targets(text: str, is_mailbox: IsMailbox) -> tuple[AliasTarget, ...]:
    """Return the targets in *text*, which are separated by commas."""
    words = []
    at = 0
    while at < len(text):
        match = _TARGET.match(text, at)
        if match is None or match.end() == at:  # a quote without end
            words.append(text[at:].strip())
            break
        words.append(match[1].strip())
        at = match.end()
    return tuple(_target(word, is_mailbox) for word in words if word)


def parse_include(text: str, is_mailbox: IsMailbox) -> tuple[AliasTarget, ...]:
    """Return the targets of an included file: one or more targets a line; comment lines are skipped."""
    found: list[AliasTarget] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.lstrip().startswith("#"):
            found += [_numbered(target, number) for target in parse_targets(line, is_mailbox)]
    return tuple(found)


def _numbered(target: AliasTarget, line: int) -> AliasTarget:
    return BadTarget(target.text, f"line {line}: {target.why}") if isinstance(target, BadTarget) else target


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


def _target(word: str, is_mailbox: IsMailbox) -> AliasTarget:
    text = _unquoted(word)
    if text.startswith("|"):
        return Command(text[1:].strip())
    if text.lower().startswith(":include:"):
        return Include(text[len(":include:") :].strip())
    if text.startswith("/"):
        return File(text)
    is_final = text.startswith("\\")
    if text != word and "@" not in text:  # a local name in quotes
        return AliasAddress(text[is_final:], is_final)
    return _address(word[is_final:], is_final, is_mailbox)


def _address(word: str, is_final: bool, is_mailbox: IsMailbox) -> AliasTarget:
    """Return the local name or address of the mailbox *word* (RFC 5322 §3.4), without its display name."""
    faults = address.faults(word)
    if faults:
        return BadTarget(word, faults[0].why)
    specs = address.addr_specs(word)
    if len(specs) != 1 or ("@" in specs[0] and not is_mailbox(specs[0])):
        return BadTarget(word, "not an address")
    return AliasAddress(specs[0], is_final)


def _unquoted(word: str) -> str:
    """Remove the quotes of *word*, which may be ``"|cmd a"`` or ``|"cmd a"``."""
    if len(word) > 1 and word[0] == word[-1] == '"':
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    if word.startswith('|"') and word.endswith('"'):
        return "|" + re.sub(r"\\(.)", r"\1", word[2:-1])
    return word
