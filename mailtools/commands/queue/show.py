"""``mailtools queue show`` and ``mailtools queue log``: print a message, its envelope and its journal."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any

import click

from mailtools.commands.options.common import json_option, root_option, spool_option
from mailtools.commands.output import exits
from mailtools.commands.output.print import json_line, print_rows, warn
from mailtools.commands.queue import _select
from mailtools.core.errors import BadDataError
from mailtools.core.queue.store import Listed
from mailtools.core.wire.visible import visible, visible_lines
from mailtools.services.queue import listing
from mailtools.system.spool.spool import Spool


@click.command("show")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@click.option("--headers", is_flag=True, help="Only the header.")
@click.option("--body", is_flag=True, help="Only the body.")
@click.option("--envelope", is_flag=True, help="Only the envelope.")
@root_option
@spool_option
@json_option
def show(headers: bool, body: bool, envelope: bool, as_json: bool, **options: Any) -> None:
    """Show messages and their envelopes; - reads ids from standard input.

    First the envelope, a line for each thing said, then the message as it lies in the queue. With --headers,
    --body and --envelope only what is named; --json prints envelopes alone. In a pipe header and body are
    the octets themselves. Exits 66 for an unknown ID.
    """
    some = headers or body or envelope
    spool = _select.spool_of(options)
    unknown = _select.Unknown()
    code = exits.OK
    for listed in _named(spool, options, unknown):
        if as_json:
            click.echo(json_line(listing.as_json(listed)))
            continue
        if envelope or not some:
            click.echo("".join(f"{visible(name)}: {visible(text)}\n" for name, text in listing.told(listed)))
        try:
            if headers or body or not some:
                _write(listing.message(spool, listed, headers or not body, body or not headers))
        except BadDataError as error:
            warn(str(error))
            code = exits.DATA
    unknown.exit(True, code)


@click.command("log")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@root_option
@spool_option
@json_option
def log(as_json: bool, **options: Any) -> None:
    """Show all delivery attempts and their results: a line for each event and recipient.

    Columns: time, id, event (arrived, sent, deferred, failed, scheduled, told, hold, release, retry),
    recipient, enhanced status code, the server that said it, its reply. - reads ids from standard input.
    Exits 66 for an unknown ID.
    """
    spool = _select.spool_of(options)
    unknown = _select.Unknown()
    events = (event for listed in _named(spool, options, unknown) for event in listing.history(spool, listed))
    if as_json:
        for event in events:
            click.echo(json_line(event._asdict() | {"at": round(event.at, 3)}))
    else:
        print_rows(listing.Event._fields, (_cells(event) for event in events))
    unknown.exit(True)


def _cells(event: listing.Event) -> list[str]:
    return [listing.iso(event.at), *(text or "-" for text in event[1:])]


def _named(spool: Spool, options: dict[str, Any], unknown: _select.Unknown) -> Iterator[Listed]:
    for identity in _select.ids_of(options["ids"]):
        found = next(spool.query([identity]), None)
        if found:
            yield found
        else:
            unknown(identity)


def _write(blocks: Iterable[bytes]) -> None:
    """Write octets; on a terminal as text with controls made visible."""
    sys.stdout.flush()
    if not sys.stdout.isatty():
        for block in blocks:
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return
    from codecs import getincrementaldecoder

    decoder = getincrementaldecoder("utf-8")("replace")
    for block in blocks:
        sys.stdout.write(visible_lines(decoder.decode(block)))
    sys.stdout.write(visible_lines(decoder.decode(b"", True)))
