"""``mailtools mbox cat``: copies the records that services/filters/entries reads and query selects."""

import sys
from typing import Any

import click

from mailtools.commands.mbox import _select
from mailtools.services.filters import listing

_BLOCK = 1 << 18  # octets in one write


@click.command()
@_select.select_options
@click.argument("source", nargs=-1)
def command(source: tuple[str, ...], **options: Any) -> None:
    """Copy selected messages, as an mbox, octet for octet.

    Exits 1 if nothing matched.

    \b
        zcat 2019.mbox.gz | mailtools mbox cat -q 'from:alice and after:2019-06-01' > alice.mbox
    """
    predicate = _select.predicate_of(options)
    names = _select.source_names(source)
    complaints = _select.Complaints()
    progress = _select.Progress(names)
    write = sys.stdout.buffer.write
    waiting: list[bytes] = []
    octets = 0
    matched = False
    for chunk in listing.cat(listing.selected(names, predicate, (), complaints, progress.watch)):
        matched = True
        waiting.append(chunk)
        octets += len(chunk)
        if octets >= _BLOCK:
            write(b"".join(waiting))
            waiting.clear()
            octets = 0
    write(b"".join(waiting))
    sys.stdout.buffer.flush()
    progress.finish()
    complaints.exit(matched)
