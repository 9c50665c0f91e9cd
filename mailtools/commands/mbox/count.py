"""``mailtools mbox count``: counts what services/filters selects, in several processes for a large mbox."""

import sys
from typing import Any

import click

from mailtools.commands.mbox import _select
from mailtools.commands.output.print import print_rows
from mailtools.services.filters import listing


@click.command()
@_select.select_options
@click.option("-u", "unread", is_flag=True, help="Count only unread messages.")
@click.argument("source", nargs=-1)
def command(unread: bool, source: tuple[str, ...], **options: Any) -> None:
    """Count messages.

    Prints one number; for several SOURCEs a line each, name and number, as grep -c does. Exits 1 if there are
    none.

    \b
        mailtools mbox count -u inbox.mbox
        mailtools mbox count --from alice 2024.mbox.gz 2025.mbox.gz
    """
    predicate = _select.predicate_of(options, "is:unread" if unread else "")
    names = _select.source_names(source)
    complaints = _select.Complaints()
    progress = _select.Progress(names)
    counts = listing.count(names, predicate, complaints, progress.watch)
    total = 0
    if len(names) == 1:
        for _, number in counts:
            total += number
            progress.finish()
            sys.stdout.write(f"{number}\n")
    else:
        found = list(counts)
        progress.finish()
        total = sum(number for _, number in found)
        print_rows(("source", "messages"), found, right=(1,))
    complaints.exit(total > 0)
