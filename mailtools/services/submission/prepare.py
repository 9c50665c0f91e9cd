"""Messages to send, read from stdin or an mbox and made ready with their envelopes."""

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

_BLOCK = 256 << 10  # octets a read


class Unsendable(NamedTuple):
    """A message that could not be made ready, or the rest of a source that could not be read."""

    name: str
    error: MailError | OSError


def default_sender() -> str:
    """The sender if neither an option nor the header names one: $EMAIL, else user and host."""
    for spec in address.addr_specs(os.environ.get("EMAIL", "")):
        if grammar.is_mailbox(spec):
            return spec
    spec = f"{os.environ.get('USER') or 'root'}@{clock.host_name()}"
    return spec if outgoing.is_address(spec) else f"uid{os.getuid()}@{clock.host_name()}"


@contextmanager
def open_messages(mbox: str | None, wishes: Wishes) -> Iterator[Iterator[Outgoing | Unsendable]]:
    """The message on stdin, or every message of *mbox* (``-``: stdin), each made ready when it is asked for.

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
    """Errors name the mbox they come from."""
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
    from mailtools.core.mbox import scan  # one message on stdin needs none of it

    try:
        for record in scan.records(source.read):
            yield made_ready(f"{source.name}: message {record.number}", record.message_chunks(), wishes)
    except (MailError, OSError) as error:
        # An item of its own, since the message before it may still be on its way.
        yield Unsendable(source.name, type(error)(f"{source.name}: {error}"))


def made_ready(
    name: str, blocks: Iterable[bytes], wishes: Wishes, drops_postmark: bool = False
) -> Outgoing | Unsendable:
    """Make one message ready, stamped with the time and a new Message-ID. *name*: what errors call it."""
    now = int(clock.now())
    stamps = Stamps(clock.date_field(now), f"<{clock.identity()}@{clock.host_name()}>")
    try:
        return outgoing.prepare(name, blocks, wishes, stamps, drops_postmark)
    except BadDataError as error:
        return Unsendable(name, error)
