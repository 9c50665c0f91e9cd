"""``mailtools queue list``: prints services/queue/listing as a table, tab-separated lines, JSON or mailq."""

import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import click

from mailtools.commands.options.common import json_option
from mailtools.commands.output.print import json_line, print_rows
from mailtools.commands.queue import _select
from mailtools.core.queue.store import Listed
from mailtools.core.wire.visible import visible
from mailtools.services.queue import listing

_REASON = listing.COLUMNS.index("reason")
_RIGHT = (3, 6)  # columns of numbers


@click.command("list")
@_select.select_options
@click.option("--mailq", is_flag=True, help="Print in the form of Postfix's mailq; exits 0.")
@json_option
def command(mailq: bool, as_json: bool, **options: Any) -> None:
    """List messages, one per line: all, unless an ID or an option selects some.

    Columns: id, state, arrived, size (octets), sender, recipients who wait, attempts, due, reason. A queue
    that is not there is empty. Exits 1 if nothing matched, 66 for an unknown ID.

    \b
        mailtools queue list --site example.com --older 4h
        mailtools queue list --json | jq -r '.recipients[].delay_reason' | sort | uniq -c
    """
    if mailq and as_json:
        raise click.UsageError("--mailq and --json: give one of them")
    selection = _select.selection(options)
    unknown = _select.Unknown()
    if hasattr(sys.stdout, "reconfigure"):
        # a letter that the locale's encoding lacks is no error
        sys.stdout.reconfigure(errors="backslashreplace")
    if mailq:
        _print_mailq(selection, unknown)
        unknown.exit(True)
    if as_json:
        some = _print(_rendered(selection, unknown, _json))
    elif sys.stdout.isatty():
        some = _print_table(selection.listed(unknown))
    else:
        some = _print(_rendered(selection, unknown, _tabbed))
    unknown.exit(some)


@cache
def _encoder() -> Callable[[object], str]:
    """Return the JSON encoder, made once: making it takes longer than encoding a line."""
    import json

    return json.JSONEncoder(ensure_ascii=False).encode


def _json(listed: Listed) -> str:
    record = listing.as_json(listed)
    line = _encoder()(record)
    return (line if line.isprintable() else json_line(record)) + "\n"


def _tabbed(listed: Listed) -> str:
    line = "\t".join(listing.row(listed))
    if not line.replace("\t", "").isprintable():
        line = "\t".join(map(visible, listing.row(listed)))
    return line + "\n"


def _rendered(
    selection: _select.Selection, unknown: _select.Unknown, render: Callable[[Listed], str]
) -> Iterator[str]:
    if selection.ids is not None:
        return map(render, selection.listed(unknown))
    return listing.rendered(selection.spool, selection.filter.predicate(), render)


def _print(texts: Iterable[str]) -> bool:
    write = sys.stdout.write
    some = False
    for text in texts:
        if text:
            some = True
            write(text)
    return some


def _print_table(found: Iterable[Listed]) -> bool:
    rows = [
        [visible(cell) for cell in listing.row(listed)]
        for listed in sorted(found, key=lambda listed: listed.entry.envelope.arrived)
    ]
    heads = [f"{name}  " for name in listing.COLUMNS]  # tabulate makes a headline two cells wider
    taken = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    room = max(20, shutil.get_terminal_size().columns - sum(taken[:_REASON]) - 2 * _REASON)
    for row in rows:
        if len(row[_REASON]) > room:
            row[_REASON] = row[_REASON][: room - 1] + "…"
    print_rows(listing.COLUMNS, rows, _RIGHT)
    return bool(rows)


def _print_mailq(selection: _select.Selection, unknown: _select.Unknown) -> None:
    """Print texts in mailq's form. Each text begins with its number of octets, for the sum."""

    def render(listed: Listed) -> str:
        return f"{listed.entry.envelope.size}\n{listing.mailq(listed, visible)}\n"

    write = sys.stdout.write
    octets = count = 0
    for text in _rendered(selection, unknown, render):
        for one in text.split("\n\n")[:-1]:
            size, _, lines = one.partition("\n")
            if not count:
                write(listing.MAILQ_HEAD + "\n")
            write(lines + "\n\n")
            octets, count = octets + int(size), count + 1
    write((listing.mailq_end(octets, count) if count else listing.MAILQ_EMPTY) + "\n")
