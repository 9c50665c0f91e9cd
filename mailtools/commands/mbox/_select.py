"""What the mbox commands share: options that select messages, sources, errors of sources, progress."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailtools.commands.output import exits
from mailtools.commands.output.print import warn
from mailtools.core.errors import MailError
from mailtools.system.files import sources as sources_

if TYPE_CHECKING:
    from mailtools.services.filters.query import Predicate

F = TypeVar("F", bound=Callable[..., Any])

_TERMS = ("from", "to", "cc", "subject", "before", "after", "larger", "smaller")
_HELP = {
    "from": ("TEXT", "Messages whose From holds TEXT."),
    "to": ("TEXT", "Messages whose To holds TEXT."),
    "cc": ("TEXT", "Messages whose Cc holds TEXT."),
    "subject": ("TEXT", "Messages whose Subject holds TEXT."),
    "before": ("DATE", "Messages dated before DATE (2026-01-31, 2026-01-31T10:00, or 30d: ago)."),
    "after": ("DATE", "Messages dated DATE or later."),
    "larger": ("SIZE", "Messages of more than SIZE octets (4096, 512K, 10M)."),
    "smaller": ("SIZE", "Messages of less than SIZE octets."),
}


def select_options(function: F) -> F:
    """Add ``-q EXPR``, ``--from X`` and the like; all that are given must match.

    `predicate_of` reads their values.
    """
    for name in reversed(_TERMS):
        metavar, text = _HELP[name]
        function = click.option(f"--{name}", f"select_{name}", metavar=metavar, multiple=True, help=text)(
            function
        )
    return click.option(
        "-q",
        "expressions",
        metavar="EXPR",
        multiple=True,
        help="Select messages by EXPR, such as 'from:alice and not subject:spam'.",
    )(function)


def predicate_of(options: dict[str, Any], extra: str = "") -> "Predicate | None":
    """Return one predicate for the SELECT options and the expression *extra*, or None if there are none.

    The SELECT options are removed from *options*. Raises UsageError.
    """
    terms = [(name, value) for name in _TERMS for value in options.pop(f"select_{name}")]
    expressions = [expression for expression in (*options.pop("expressions"), extra) if expression.strip()]
    if not terms and not expressions:
        return None
    from mailtools.services.filters import query

    now = time.time()
    try:
        chosen = [query.term(name, value, now) for name, value in terms]
        chosen += [query.parse(expression, now) for expression in expressions]
    except query.SelectError as error:
        raise click.UsageError(str(error)) from None
    return query.conjunction(chosen)


def source_names(given: tuple[str, ...]) -> list[str]:
    """Return the sources *given*, else stdin; refuse to wait for a person to type an mbox."""
    if given:
        return list(given)
    if sources_.stdin_is_terminal():
        raise click.UsageError(
            "no SOURCE given, and standard input is a terminal; name an mbox file, or - to type one"
        )
    return [sources_.STDIN]


class Complaints:
    """Reports each source that cannot be read, as grep does, and keeps the exit code for the end."""

    def __init__(self) -> None:
        self.codes: list[int] = []

    def __call__(self, source: str, error: MailError | OSError) -> None:
        code = exits.code_for(error)
        self.codes.append(exits.SOFTWARE if code is None else code)
        name = "standard input" if source == sources_.STDIN else source
        sentence = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        sys.stdout.flush()
        warn(f"{name}: {sentence}")

    def exit(self, matched: bool) -> None:
        """Exit with the code of the worst error, else with whether anything was found."""
        code = exits.worst(self.codes) or (exits.OK if matched else exits.NOTHING)
        if code:
            sys.stdout.flush()
            raise SystemExit(code)


class Progress:
    """A progress bar on stderr for work of more than a second, only on a terminal.

    Call it with the octets read.
    """

    def __init__(self, sources: list[str]) -> None:
        self.total = sources_.size_of(sources) if sys.stderr.isatty() else None
        self.began = time.monotonic()
        self.done = 0
        self.bar: Any = None

    @property
    def watch(self) -> Callable[[int], None] | None:
        """Return what the sources call, or None if nobody would see a bar."""
        # Rows on the same terminal show the progress, and would be overwritten.
        return self._note if self.total and not sys.stdout.isatty() else None

    def _note(self, octets: int) -> None:
        self.done += octets
        if self.bar is not None:
            self.bar.update(octets)
        elif time.monotonic() - self.began > 1:
            self.bar = click.progressbar(length=self.total or 0, label="reading", file=sys.stderr)
            self.bar.__enter__()
            self.bar.update(self.done)

    def finish(self) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.__exit__(None, None, None)
            self.bar = None
