"""Option types and decorators that several commands share."""

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from mailtools.system.files.home import expand

F = TypeVar("F", bound=Callable[..., Any])

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_OCTETS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class DurationType(click.ParamType[float]):
    """Converts ``30s 5m 4h 5d`` to seconds, more than 0; a bare number is seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|[smhdw]?)", str(value))
        if not match:
            self.fail(f"{value!r} is not a duration; write it as 30s, 5m, 4h or 5d", param, ctx)
        seconds = float(match[1]) * _SECONDS[match[2] or "s"]
        if not seconds:
            self.fail(f"{value!r} is zero; write a duration of more than 0", param, ctx)
        return seconds


class SizeType(click.ParamType[int]):
    """Converts ``10M`` to octets; a bare number is octets."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([0-9]{1,15})([KMGT]?)i?B?", str(value), re.IGNORECASE)
        if not match:
            self.fail(f"{value!r} is not a size; write it as 4096, 512K, 10M or 2G", param, ctx)
        return int(match[1]) * _OCTETS[match[2].upper()]


DURATION = DurationType()
SIZE = SizeType()


def root_option(function: F) -> F:
    """``--root DIR``: the mail root."""
    return click.option(
        "--root",
        metavar="DIR",
        envvar="MAILTOOLS_ROOT",
        default="~/Mail",
        show_default=True,
        help="The mail root; the mailbox of a user is DIR/USER/INBOX.mbox.",
    )(function)


def spool_option(function: F) -> F:
    """``--spool DIR``: the folder of queued mail."""
    return click.option(
        "--spool",
        metavar="DIR",
        envvar="MAILTOOLS_SPOOL",
        help="The folder of queued mail.  [default: ROOT/.spool]",
    )(function)


def spool_path(options: Mapping[str, Any]) -> str:
    """Return the spool's folder, from ``--spool`` and ``--root``."""
    return expand(options["spool"] or os.path.join(options["root"], ".spool"))


def json_option(function: F) -> F:
    """``--json``: one object on each line."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")(function)


def scheme_option(function: F) -> F:
    """``--scheme``: the hash of a new password."""
    return click.option(
        "--scheme",
        type=click.Choice(["argon2id", "scram-sha-256"]),
        default="argon2id",
        show_default=True,
        help="The hash to store; with scram-sha-256, clients can log in without sending the password.",
    )(function)
