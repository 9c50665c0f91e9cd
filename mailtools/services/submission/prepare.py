"""Reads the messages to send from stdin or an mbox, and makes them ready with their envelopes."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

from mailtools.core.errors import BadDataError, MailError, MissingInputError
from mailtools.core.message import address
from mailtools.core.smtp import grammar
from mailtools.services.transit import outgoing
from mailtools.services.transit.outgoing import Outgoing, Stamps, Wishes
from mailtools.system import clock
from mailtools.system.files import sources

_BLOCK = 256 << 10  # octets read at once


class Unsendable(NamedTuple):
    """A message that could not be made ready, or a source that could not be read to its end."""

    name: str
    error: MailError | OSError


def default_sender() -> str:
    """Return the sender if neither an option nor the header names one: $EMAIL, else user and host."""
    for spec in address.addr_specs(os.environ.get("EMAIL", "")):
        if grammar.is_mailbox(spec):
            return spec
    spec = f"{os.environ.get('USER') or 'root'}@{clock.host_name()}"
    return spec if outgoing.is_address(spec) else f"uid{os.getuid()}@{clock.host_name()}"


@contextmanager
def open_messages(mbox: str | None, wishes: Wishes) -> Iterator[Iterator[Outgoing | Unsendable]]:
    """Open stdin or an mbox (``-``: stdin) and yield the iterator of its messages, each made ready when it
    is asked for.

    Raises MissingInputError, BadDataError.
    """
    if mbox in (None, sources.STDIN) and sources.stdin_is_terminal():
        raise MissingInputError(
            "no message: stdin is the terminal; redirect it, as in: mailtools send < msg.eml"
        )
    with _named(mbox), sources.Source(mbox or sources.STDIN) as source:
        yield _from_mbox(source, wishes) if mbox else _from_stream(source, wishes)


@contextmanager
def _named(mbox: str | None) -> Iterator[None]:
    """Put the name of the mbox into errors."""
    try:
        yield
    except (MissingInputError, BadDataError) as error:
        raise type(error)(f"{mbox}: {error}") if mbox else error from error


def _from_stream(source: sources.Source, wishes: Wishes) -> Iterator[Outgoing | Unsendable]:
    first = source.read(_BLOCK)
    if not first:
        raise MissingInputError("no message: stdin is empty; redirect it, as in: mailtools send < msg.eml")
    blocks = chain([first], iter(lambda: source.read(_BLOCK), b""))
    yield made_ready("standard input", blocks, wishes, drops_postmark=True)


def _from_mbox(source: sources.Source, wishes: Wishes) -> Iterator[Outgoing | Unsendable]:
    from mailtools.core.mbox import scan  # a single message on stdin needs none of it

    try:
        for record in scan.records(source.read):
            yield made_ready(f"{source.name}: message {record.number}", record.message_chunks(), wishes)
    except (MailError, OSError) as error:
        # yielded instead of raised: the message before may still be on its way
        yield Unsendable(source.name, type(error)(f"{source.name}: {error}"))


def made_ready(
    name: str, blocks: Iterable[bytes], wishes: Wishes, drops_postmark: bool = False
) -> Outgoing | Unsendable:
    """Make one message ready, with the time and a new Message-ID. *name*: its name in errors."""
    now = int(clock.now())
    stamps = Stamps(clock.date_field(now), f"<{clock.identity()}@{clock.host_name()}>")
    try:
        return outgoing.prepare(name, blocks, wishes, stamps, drops_postmark)
    except BadDataError as error:
        return Unsendable(name, error)
