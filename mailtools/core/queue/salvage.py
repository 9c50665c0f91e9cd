"""Reads what is left of a journal that cannot be used, so that people see whose mail it is and why.

The addresses found this way are shown, and the sender is sent a DSN; the message itself goes to nobody on the
strength of them. Never raises. Knows no file.
"""

import re

from mailtools.core.errors import BadDataError
from mailtools.core.lean import Any
from mailtools.core.message.recipient import Recipient
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue import journal
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import QueueEntry, RecipientState

SET_ASIDE = "set-aside"  # the event of a journal that says why its message is in bad/
_LONGEST = 1 << 20  # octets of the envelope that are searched
_MOST_RECIPIENTS = 1000  # shown of a damaged envelope
_STRING = r'"{}": ?("(?:[^"\\]|\\.)*")'
_NUMBER = r'"{}": ?(\d{{1,12}}(?:\.\d{{1,9}})?)'
_REVERSE_PATH = re.compile(_STRING.format("reverse_path"))
_ADDRESS = re.compile(_STRING.format("address"))
_ARRIVED = re.compile(_NUMBER.format("arrived"))
_STORED = re.compile(_NUMBER.format("stored"))
_SIZE = re.compile(_NUMBER.format("size"))


def set_aside(at: float, why: str) -> dict[str, Any]:
    """The record of a message that was moved into bad/; *at*: seconds since the epoch."""
    return {"at": round(at, 3), "event": SET_ASIDE, "text": why}


def why_of(octets: bytes) -> str:
    """Return the reason in the last record of a message set aside; "" if there is none."""
    reasons = [r.get("text") for r in journal.records(octets) if r.get("event") == SET_ASIDE]
    last = reasons[-1] if reasons else ""
    return last if isinstance(last, str) else ""


def entry_of(octets: bytes, identity: str, arrived: float) -> QueueEntry:
    """Return the entry of a journal, or what can be read of it.

    *arrived*: seconds since the epoch, if the journal does not say it. A journal that names no sender has the
    null reverse-path; one that names no recipient has none.
    """
    try:
        entry = journal.parse(octets)
        if entry.envelope.identity == identity:
            return entry
    except BadDataError:
        pass
    first = octets.partition(b"\n")[0][:_LONGEST].decode("ascii", "replace")
    addresses = [_loaded(found[1]) for found in _ADDRESS.finditer(first)][:_MOST_RECIPIENTS]
    envelope = QueueEnvelope(
        identity,
        _number(_ARRIVED, first, arrived),
        next((_loaded(found[1]) for found in _REVERSE_PATH.finditer(first)), ""),
        tuple([Recipient(address) for address in addresses if address]),
        stored=int(_number(_STORED, first)),
        size=int(_number(_SIZE, first)),
    )
    states = (RecipientState(),) * len(envelope.recipients)
    entry = QueueEntry(envelope, states, seen=envelope.arrived)
    return journal.apply(entry, *journal.records(octets))


def _loaded(string: str) -> str:
    """Return the address in a JSON string; "" if no command could hold it."""
    try:
        text = envelopes.load(string)
    except (ValueError, RecursionError):
        return ""
    return text if isinstance(text, str) and envelopes.is_safe(text) else ""


def _number(pattern: re.Pattern[str], line: str, otherwise: float = 0.0) -> float:
    found = pattern.search(line)
    return float(found[1]) if found else otherwise
