"""``mailtools mbox list``: prints services/filters/listing as a table, tab-separated lines or JSON."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import click

from mailtools.commands.mbox import _select
from mailtools.commands.mbox._text import clean, fit, write_lines
from mailtools.commands.options.common import json_option
from mailtools.commands.output.print import json_line
from mailtools.services.filters import listing
from mailtools.services.filters import threads as threads_
from mailtools.services.filters.entries import Clock
from mailtools.services.filters.listing import ListRow

_LETTERS = (("answered", "A"), ("flagged", "F"), ("deleted", "D"), ("draft", "T"))
_FIXED = (6, 16, 5, 6)  # cells of number, date, flags, size
_NARROW = 64  # cells of a terminal
_RIGHT = (True, False, False, False, False, True)
_WRITTEN = "%04d-%02d-%02d %02d:%02d"  # twice as fast as str.format
TAB = "\t"
_MAX_INDENT = 20  # levels of a thread


@click.command()
@_select.select_options
@click.option(
    "--sort", "sort", type=click.Choice(listing.SORTS), help="Sort by this.  [default: the order in the mbox]"
)
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--threads", is_flag=True, help="Show replies below the messages they answer.")
@click.option("--limit", type=click.IntRange(0), metavar="N", help="List at most N messages.")
@json_option
@click.argument("source", nargs=-1)
def command(
    sort: str | None,
    reverse: bool,
    threads: bool,
    limit: int | None,
    as_json: bool,
    source: tuple[str, ...],
    **options: Any,
) -> None:
    """List messages, a line each: number, date, flags, from, subject, size.

    The number counts messages over all SOURCEs, from 1; the date is that of the sender's clock. Flags: N
    unread, A answered, F flagged, D deleted, T draft. Exits 1 if nothing matched.

    \b
        mailtools mbox list inbox.mbox
        mailtools mbox list --from alice --sort date --limit 10 inbox.mbox
        mailtools mbox list --json inbox.mbox | jq -r .subject
    """
    predicate = _select.predicate_of(options)
    names = _select.source_names(source)
    complaints = _select.Complaints()
    progress = _select.Progress(names)
    fields = listing.JSON_FIELDS if as_json else listing.ROW_FIELDS
    if threads:
        fields = (*fields, *threads_.THREAD_FIELDS)
    if len(names) == 1 and not (threads or sort or reverse or limit is not None or sys.stdout.isatty()):
        lines = _parallel(names[0], predicate, as_json, progress.watch)
        if lines is not None:
            matched = write_lines(lines)
            progress.finish()
            complaints.exit(matched)
            return
    found = listing.selected(names, predicate, fields, complaints, progress.watch)
    make = listing.full_row if as_json else listing.row
    rows: Iterable[ListRow]
    if threads:
        rows = threads_.in_threads(found, make, sort, reverse)
    elif sort or reverse:
        rows = listing.order(map(make, found), sort, reverse)
    else:
        rows = map(make, found)
    matched = write_lines(_lines(islice(rows, limit), as_json))
    progress.finish()
    complaints.exit(matched)


def _parallel(source: str, predicate: Any, as_json: bool, progress: listing.Progress) -> Iterator[str] | None:
    """Yield the lines of a large mbox. Its processes do not know the numbers, so these are added here."""
    fields, make = (
        (listing.JSON_FIELDS, lambda entry: _json(listing.full_row(entry)))
        if as_json
        else (listing.ROW_FIELDS, lambda entry: _tabbed(listing.row(entry)))
    )
    made = listing.parallel_lines(source, predicate, fields, make, progress)
    if made is None:
        return None
    if as_json:  # {"number": 1, "date": ...: the text behind the first comma
        return (f'{{"number": {number}, {line.partition(", ")[2]}' for number, line in made)
    return (f"{number}\t{line.partition(TAB)[2]}" for number, line in made)


def _json(row: ListRow) -> str:
    return json_line(listing.as_json(row))


def _lines(rows: Iterable[ListRow], as_json: bool) -> Iterator[str]:
    if as_json:
        return map(_json, rows)
    if sys.stdout.isatty():
        return _table(rows, shutil.get_terminal_size().columns)
    return map(_tabbed, rows)


def _tabbed(row: ListRow) -> str:
    number, clock, flags, sender, subject, size, depth, _ = row
    if depth:
        subject = "  " * min(depth, _MAX_INDENT) + subject
    if not (sender.isprintable() and subject.isprintable()):
        sender, subject = clean(sender), clean(subject)
    written = _WRITTEN % clock[:5] if clock else "-"
    return f"{number}\t{written}\t{_flags(flags) if flags else 'N'}\t{sender}\t{subject}\t{size}"


def _table(rows: Iterable[ListRow], width: int) -> Iterator[str]:
    """Yield lines that fit a terminal of *width* cells, with a headline.

    A narrow one has no room for the time, the flags and the size.
    """
    is_narrow = width < _NARROW
    number, date, flags, size = (_FIXED[0], 10, 0, 0) if is_narrow else _FIXED
    columns = (0, 1, 3, 4) if is_narrow else range(6)
    room = max(width - (number + date + flags + size) - 2 * (len(columns) - 1), 16)
    senders = min(max(room // 3, 8), 24)
    widths = (number, date, flags, senders, room - senders, size)
    head = ("number", "date", "flags", "from", "subject", "size")
    first = True
    for row in rows:
        values = (
            str(row.number),
            _date(row.clock)[:date],
            _flags(row.flags),
            clean(row.sender),
            row.subject,
            _short(row.size),
        )
        for line in (head, values) if first else (values,):
            subject = clean(line[4])
            if line is values and row.depth:
                subject = "  " * min(row.depth - 1, _MAX_INDENT) + "└ " + subject
            cells = (*line[:4], subject, line[5])
            yield "  ".join([fit(cells[i], widths[i], _RIGHT[i]) for i in columns])
        first = False


def _date(clock: Clock | None) -> str:
    return _WRITTEN % clock[:5] if clock else "-"


def _flags(flags: frozenset[str]) -> str:
    if not flags:
        return "N"
    letters = "" if "read" in flags else "N"
    return letters + "".join([letter for name, letter in _LETTERS if name in flags]) or "-"


def _short(size: int) -> str:
    """Return *size* for people, in at most six cells."""
    if size < 10_000:
        return str(size)
    for unit in "KMGT":
        size /= 1024  # type: ignore[assignment]
        if size < 1000:
            return f"{size:.1f}{unit}" if size < 100 else f"{size:.0f}{unit}"
    return f"{size:.0f}P"
