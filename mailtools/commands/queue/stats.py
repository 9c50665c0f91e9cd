"""``mailtools queue stats``: prints services/queue/statistics."""

import sys
from typing import Any

import click

from mailtools.commands.options.common import json_option
from mailtools.commands.output.print import json_line, print_rows
from mailtools.commands.queue import _select
from mailtools.services.queue import statistics
from mailtools.services.queue.listing import iso

_HEAD = ("", "messages", "octets", "oldest", "next due")
_ON_A_TERMINAL = 20  # sites


@click.command("stats")
@_select.select_options
@json_option
def command(as_json: bool, **options: Any) -> None:
    """Count messages by state, by site, and by what delays them; all without an ID or an option that selects.

    In a pipe the columns are: state, site or total; its name; messages; octets; when the oldest arrived;
    when the next is due. And for what delays them: reason; the reply; messages. A message with recipients
    at several sites counts at each. Exits 1 if nothing matched, 66 for an unknown ID.

    \b
        mailtools queue stats --older 1h
    """
    selection = _select.selection(options)
    unknown = _select.Unknown()
    if selection.ids is None:
        stats = statistics.of_spool(selection.spool, selection.filter.predicate())
    else:
        stats = statistics.of(selection.listed(unknown))
    if as_json:
        click.echo(json_line(stats.as_json()))
    elif sys.stdout.isatty():
        _print_tables(stats)
    else:
        rows = [("state", *row) for row in _rows(stats.states)]
        rows += [("site", *row) for row in _rows(stats.sites)]
        rows += [("total", *row) for row in _rows({"-": stats.total})] if stats.total.messages else []
        print_rows(_HEAD, rows)
        print_rows(_HEAD, [("reason", text, str(count)) for text, count in stats.reasons])
    unknown.exit(bool(stats.total.messages))


def _rows(groups: dict[str, statistics.Group]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            str(group.messages),
            str(group.octets),
            iso(group.oldest),
            "-" if group.due is None else iso(group.due) if group.due else "now",
        )
        for name, group in groups.items()
    ]


def _print_tables(stats: statistics.Stats) -> None:
    if not stats.total.messages:
        return
    print_rows(("state", *_HEAD[1:]), _rows(stats.states | {"all": stats.total}), (1, 2))
    sites = _rows(stats.sites)
    print()
    print_rows(("site", *_HEAD[1:]), sites[:_ON_A_TERMINAL], (1, 2))
    if len(sites) > _ON_A_TERMINAL:
        print(f"and {len(sites) - _ON_A_TERMINAL} other sites")
    if stats.reasons:
        print()
        print_rows(("messages", "reason"), [(str(count), text) for text, count in stats.reasons], (0,))
