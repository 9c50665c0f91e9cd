"""``mailtools mbox show``: prints services/filters/render, or the octets of a message or part."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

from mailtools.commands.mbox import _select
from mailtools.commands.mbox._text import wrapped
from mailtools.commands.options.common import json_option
from mailtools.commands.output.print import json_line
from mailtools.core.errors import BadDataError
from mailtools.core.wire.visible import visible_lines
from mailtools.services.filters import listing
from mailtools.services.filters.entries import MboxEntry

_NUMBERS = re.compile(r"[0-9]{1,18}(?:-[0-9]{1,18})?")
_MOST = 128 << 20  # octets of a message that are read for a part; a few KiB of gzip can hold a gigabyte


@click.command()
@_select.select_options
@click.option(
    "--raw", is_flag=True, help="Print the message octet for octet, as it was before it was quoted."
)
@click.option("--headers", is_flag=True, help="Print only the header fields, decoded.")
@click.option("--part", metavar="N.N", help="Print the decoded content of this part.")
@click.option("--html", is_flag=True, help="Print the HTML of the message as UTF-8.")
@json_option
@click.argument("arguments", metavar="[SOURCE]... [N]...", nargs=-1)
def command(
    raw: bool,
    headers: bool,
    part: str | None,
    html: bool,
    as_json: bool,
    arguments: tuple[str, ...],
    **options: Any,
) -> None:
    """Show messages, decoded for reading: main header fields, text, and a list of what is attached.

    N is a number as `list` shows it, or a range, 3-5; a file of that name is a SOURCE. Exits 1 if nothing
    matched. On a terminal the text goes through $PAGER.

    \b
        mailtools mbox show inbox.mbox 3
        mailtools mbox show --part 2 inbox.mbox 3 > picture.png
        mailtools mbox show -q 'from:alice and subject:lunch' inbox.mbox
    """
    if sum((raw, headers, part is not None, html, as_json)) > 1:
        raise click.UsageError("--raw, --headers, --part, --html and --json exclude each other")
    numbers = [argument for argument in arguments if _is_number(argument)]
    names = _select.source_names(tuple(argument for argument in arguments if not _is_number(argument)))
    predicate = _select.predicate_of(options)
    complaints = _select.Complaints()
    fields = listing.JSON_FIELDS if as_json else ("from",)
    found = _Counter(_numbered(listing.selected(names, predicate, fields, complaints), numbers))
    if raw or part is not None or html:
        _write_octets(found, _octets_of(raw, part))
    elif as_json:
        from mailtools.services.filters import render

        for entry in found:
            row = listing.as_json(listing.full_row(entry.settled()))
            shown = {**row, **render.as_json(entry.message()), "truncated": entry.is_cut}
            sys.stdout.write(json_line(shown) + "\n")
    else:
        _write_text(_texts(found, headers))
    complaints.exit(found.count > 0)


def _is_number(argument: str) -> bool:
    return bool(_NUMBERS.fullmatch(argument)) and not os.path.exists(argument)


class _Counter:
    """Passes entries on and counts them."""

    def __init__(self, entries: Iterable[MboxEntry]) -> None:
        self.entries = entries
        self.count = 0

    def __iter__(self) -> Iterator[MboxEntry]:
        for entry in self.entries:
            self.count += 1
            yield entry


def _numbered(found: Iterable[MboxEntry], numbers: list[str]) -> Iterator[MboxEntry]:
    """Yield the entries whose number is in *numbers* ("3", "3-5"); all if none is given."""
    if not numbers:
        yield from found
        return
    pairs = [number.partition("-") for number in numbers]
    ranges = [(int(first), int(last or first)) for first, _, last in pairs]
    end = max(last for _, last in ranges)
    for entry in found:
        if any(first <= entry.number <= last for first, last in ranges):
            yield entry
        if entry.number >= end:
            return


def _octets_of(raw: bool, part: str | None) -> Callable[[MboxEntry], Iterable[bytes]]:
    from mailtools.services.filters import render

    if raw:
        return lambda entry: entry.record.message_chunks()
    if part is not None:
        return lambda entry: [render.part_content(_whole(entry), part)]
    return lambda entry: [render.html_of(_whole(entry)) or b""]


def _whole(entry: MboxEntry) -> bytes:
    """Return the message. Raises BadDataError if it is too large."""
    message = entry.message(_MOST)
    if len(message) >= _MOST:
        limit = f"{_MOST >> 20} MiB"
        raise BadDataError(f"message {entry.number} is larger than {limit}: take it with --raw")
    return message


def _write_octets(found: Iterable[MboxEntry], octets_of: Callable[[MboxEntry], Iterable[bytes]]) -> None:
    """Write octets: to a pipe or file unchanged, to a terminal with controls made visible."""
    if sys.stdout.isatty():
        from mailtools.core.message.charsets import decode_raw

        click.echo_via_pager(visible_lines(decode_raw(b"".join(octets_of(entry)))) for entry in found)
        return
    for entry in found:
        for chunk in octets_of(entry):
            sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _texts(found: Iterable[MboxEntry], headers: bool) -> Iterator[str]:
    from mailtools.services.filters import render

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    first = True
    for entry in found:
        message = entry.settled().message()
        text = visible_lines((render.all_headers if headers else render.rendered)(message))
        if entry.is_cut:
            text += f"\n[only the first {len(message)} of {entry.size} octets; --raw prints all of them]\n"
        text = wrapped(text, width) if width else text
        yield text if first else "\n" + text
        first = False


def _write_text(texts: Iterator[str]) -> None:
    if sys.stdout.isatty():
        click.echo_via_pager(texts)
        return
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
    for text in texts:
        sys.stdout.write(text)
