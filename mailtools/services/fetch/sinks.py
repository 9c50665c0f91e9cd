"""Where fetched messages are stored: an mbox, a stream, a program.

A sink stores a batch whole or fails. An mbox can also tell after a kill or a power failure whether a batch
was stored: by its length and its digest, for the beginning alone proves nothing of the rest.
"""

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, Protocol

from mailtools.core.errors import CannotWriteError
from mailtools.services.fetch.remote import Fetched
from mailtools.services.transit import mbox_form
from mailtools.system.files.durable import make_folders
from mailtools.system.mbox import appending, index
from mailtools.system.mbox.appending import NewRecord

_BATCH = 1000  # messages in a batch
_BEGINNING = 2048  # octets; enough to hold the trace fields, whose ids make a message unique


class Sink(Protocol):
    """Where fetched messages are stored: an mbox, a stream or a program."""

    beside: str  # a path; large messages are buffered in its folder
    batch: int  # messages that one call of store takes

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Store *messages* durably; return "" for each, or why it was not stored. Raises MailError."""

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        """Return JSON values by which `has` tells later whether *messages* were stored; [] if it cannot."""

    def has(self, mark: list[Any]) -> bool:
        """Tell whether the messages that *mark* stands for were stored. Raises MailError."""


class MboxSink:
    """Appends messages to an mbox."""

    batch = _BATCH

    def __init__(self, path: str) -> None:
        self.beside = path

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Append *messages* with one lock, one write and one sync."""
        records = [mbox_form.fetched_record(message.body, message.arrived) for message in messages]
        appending.append_waiting(self.beside, records)
        return [""] * len(messages)

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        """Return the mbox's size, and beginning, length and digest of the records that will be appended."""
        try:
            end = os.stat(self.beside).st_size
        except OSError:
            end = 0
        blocks = _record_blocks(messages)
        beginning = next(blocks)
        while len(beginning) < _BEGINNING and (block := next(blocks, b"")):
            beginning += block
        digest, length = blake2b(digest_size=16), 0
        for block in chain((beginning,), blocks):
            digest.update(block)
            length += len(block)
        return [end, beginning[:_BEGINNING].hex(), length, digest.hexdigest()]

    def has(self, mark: list[Any]) -> bool:
        """Tell whether all records of *mark* stand behind the end that the mbox had; make them durable."""
        try:
            end, beginning, length, digest = mark
            first, where, octets = bytes.fromhex(beginning), int(end), int(length)
        except (TypeError, ValueError):
            return False  # it proves nothing: the messages are fetched again
        start = index.find(self.beside, where, first)
        return start >= 0 and index.digest(self.beside, start, octets) == digest


def _record_blocks(messages: Sequence[Fetched]) -> Iterator[bytes]:
    for message in messages:
        yield from mbox_form.record_blocks(mbox_form.fetched_record(message.body, message.arrived))


class _Forgetful:
    """A sink that cannot tell later which messages it stored."""

    def mark(self, messages: Sequence[Fetched]) -> list[Any]:
        """Return [], for `has` cannot tell."""
        return []

    def has(self, mark: list[Any]) -> bool:
        """Return False: a stream or program keeps nothing to look in."""
        return False


class StreamSink(_Forgetful):
    """Writes messages to a stream, in mbox format. *sync*: makes what was flushed durable, if it can be."""

    def __init__(
        self,
        write: Callable[[bytes], object],
        flush: Callable[[], object],
        sync: Callable[[], object] | None = None,
    ) -> None:
        self.beside = ""
        self.batch = _BATCH if sync else 1  # a reader of a pipe gets each message at once
        self._write = write
        self._flush = flush
        self._sync = sync

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Write *messages* and flush the stream. Raises BrokenPipeError."""
        for block in _record_blocks(messages):
            self._write(block)
        self._flush()
        if self._sync is not None:
            self._sync()
        return [""] * len(messages)


class PipeSink(_Forgetful):
    """Runs a program for each message, on its stdin; exit code 0 means that the message was stored."""

    batch = 1

    def __init__(self, command: str) -> None:
        self.beside = ""
        self._command = command

    def store(self, messages: Sequence[Fetched]) -> list[str]:
        """Run the program once for each message; its stdout goes to our stderr."""
        return [self._run(mbox_form.fetched_record(message.body, message.arrived)) for message in messages]

    def _run(self, record: NewRecord) -> str:
        process = subprocess.Popen(["/bin/sh", "-c", self._command], stdin=subprocess.PIPE, stdout=2)
        assert process.stdin is not None
        try:
            for block in mbox_form.message_blocks(record):
                process.stdin.write(block)
            process.stdin.close()
        except BrokenPipeError:
            pass  # the program stopped reading; its exit code tells whether it took the message
        code = process.wait()
        return f"{self._command}: failed ({code})" if code else ""


def beside(target: str) -> str:
    """Make the folder of *target* if it is missing; return *target*. Raises CannotWriteError."""
    folder = os.path.dirname(target)
    try:
        make_folders(folder)
    except OSError as error:
        raise CannotWriteError(f"{folder}: {error.strerror}") from error
    return target
