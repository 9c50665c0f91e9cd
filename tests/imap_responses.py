"""A small strict parser of IMAP responses, and grammars of what a FETCH response holds (RFC 9051 §9)."""

import re
from typing import Any

_QUOTED = re.compile(rb'"((?:[\x01-\x09\x0b\x0c\x0e-\x21\x23-\x5b\x5d-\x7f]|\\["\\])*)"')
_LITERAL = re.compile(rb"\{(0|[1-9][0-9]*)\}\r\n")
_NUMBER = re.compile(rb"0|[1-9][0-9]*")


def parsed(octets: bytes) -> Any:
    """Return the one value that *octets* are: octets, a number, None for NIL, or a tuple."""
    stack: list[list[Any]] = [[]]
    at = 0
    spaced = True  # whether the grammar asks for no space before the next value
    while at < len(octets):
        if octets[at : at + 1] == b" ":
            assert not spaced, octets[at - 20 : at + 20]
            at, spaced = at + 1, True
            assert octets[at : at + 1] not in (b" ", b")", b""), octets[at - 20 : at + 20]
        elif octets[at : at + 1] == b"(":
            assert spaced or octets[at - 1 : at] == b")"
            stack.append([])
            at, spaced = at + 1, True
        elif octets[at : at + 1] == b")":
            done = tuple(stack.pop())
            assert done, "an empty list"
            stack[-1].append(done)
            at, spaced = at + 1, False
        else:
            assert spaced, octets[at - 20 : at + 20]
            value, at = _value(octets, at)
            stack[-1].append(value)
            spaced = False
    ((value,),) = stack
    return value


def _value(octets: bytes, at: int) -> tuple[Any, int]:
    if octets.startswith(b"NIL", at):
        return None, at + 3
    if match := _QUOTED.match(octets, at):
        return re.sub(rb"\\(.)", rb"\1", match[1]), match.end()
    if match := _LITERAL.match(octets, at):
        end = match.end() + int(match[1])
        assert len(octets) >= end
        assert b"\0" not in octets[match.end() : end]
        return octets[match.end() : end], end
    match = _NUMBER.match(octets, at)
    assert match, octets[at - 20 : at + 20]
    return int(match[0]), match.end()


def is_nstring(value: Any) -> bool:
    return value is None or isinstance(value, bytes)


def check_envelope(value: Any) -> None:
    """Fail if *value* is no envelope."""
    assert isinstance(value, tuple)
    date, subject, *lists, in_reply_to, message_id = value
    assert len(lists) == 6
    assert all(map(is_nstring, (date, subject, in_reply_to, message_id)))
    for members in lists:
        is_open = False
        for name, adl, mailbox, host in members or ():
            assert all(map(is_nstring, (name, adl, mailbox, host)))
            if host is None:
                assert name is None
                assert adl is None
                assert is_open == (mailbox is None)
                is_open = not is_open
            else:
                assert mailbox is not None
        assert not is_open


def check_body(root: Any, extended: bool) -> None:
    """Fail if *root* is no body: of BODYSTRUCTURE if *extended*, else of BODY."""
    todo = [root]
    while todo:
        value = todo.pop()
        assert isinstance(value, tuple)
        if isinstance(value[0], tuple):
            count = next(n for n, item in enumerate(value) if not isinstance(item, tuple))
            todo += value[:count]
            rest = list(value[count:])
            assert isinstance(rest.pop(0), bytes)
            if extended:
                _check_parameters(rest.pop(0))
        else:
            rest = list(value)
            major, minor = rest.pop(0), rest.pop(0)
            assert isinstance(major, bytes)
            assert isinstance(minor, bytes)
            _check_parameters(rest.pop(0))
            assert is_nstring(rest.pop(0))
            assert is_nstring(rest.pop(0))
            assert isinstance(rest.pop(0), bytes)
            assert isinstance(rest.pop(0), int)
            if (major, minor) == (b"message", b"rfc822"):
                check_envelope(rest.pop(0))
                todo.append(rest.pop(0))
                assert isinstance(rest.pop(0), int)
            elif major == b"text":
                assert isinstance(rest.pop(0), int)
            if extended:
                assert is_nstring(rest.pop(0))
        _check_extension(rest, extended)


def _check_extension(rest: list[Any], extended: bool) -> None:
    if not extended:
        assert rest == []
        return
    disposition, language, location = rest
    if disposition is not None:
        kind, parameters = disposition
        assert isinstance(kind, bytes)
        _check_parameters(parameters)
    assert language is None or all(isinstance(tag, bytes) for tag in language)
    assert is_nstring(location)


def _check_parameters(value: Any) -> None:
    if value is not None:
        assert len(value) % 2 == 0
        assert all(isinstance(item, bytes) for item in value)
