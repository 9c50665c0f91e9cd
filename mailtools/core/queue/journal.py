"""The journal of a queued message: the envelope, then a JSON line for whatever happened to it.

Lines in, an `Entry` out: what is still to be done. Knows no file. A line that was cut short, or says what no
line of ours says, is passed over: at worst a recipient is tried again, or told again, never forgotten.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue.envelope import Envelope
from mailtools.core.queue.schedule import step

DUE, SENT, FAILED = "due", "sent", "failed"  # what a recipient's state can be
DEFERRED = "deferred"  # the result of an attempt after which it is due again
DELAYED = "delayed"  # of what a sender was told


class Result(NamedTuple):
    """What an attempt came to, for some recipients alike."""

    recipients: tuple[int, ...]  # their numbers in the envelope
    result: str  # SENT, FAILED, DEFERRED
    reply: str  # as the server said it, or our sentence
    status: str = ""  # the enhanced status code
    remote: str = ""  # the server that said so; "" where it was us
    final: bool = False  # sent, and nobody further on makes DSNs for it


class Recipient(NamedTuple):
    """Where one recipient stands."""

    state: str = DUE
    last: Result | None = None
    at: float = 0.0  # of the last attempt, seconds since the epoch
    told: frozenset[str] = frozenset()  # what its sender was told: FAILED, SENT, DELAYED


class Entry(NamedTuple):
    """One queued message: its envelope and where each recipient stands."""

    envelope: Envelope
    recipients: tuple[Recipient, ...]
    attempts: int = 0
    due: float = 0.0  # seconds since the epoch; 0: now
    waited: float = 0.0  # seconds until `seen`
    seen: float = 0.0  # when the journal was written last
    is_torn: bool = False  # the last line was cut short

    @property
    def pending(self) -> tuple[int, ...]:
        """The numbers of the recipients who still wait."""
        return tuple([n for n, recipient in enumerate(self.recipients) if recipient.state == DUE])

    def untold(self, state: str, event: str) -> tuple[int, ...]:
        """Who ended in *state*, and whose sender wants to hear of *event* and did not yet."""
        return tuple(
            n
            for n, recipient in enumerate(self.recipients)
            if recipient.state == state
            and state not in recipient.told
            and self.envelope.wants(n, event)
            and (state != SENT or (recipient.last is not None and recipient.last.final))
        )

    def age(self, now: float) -> float:
        """Seconds it has waited."""
        return self.waited + step(self.seen, now)


def parse(octets: bytes) -> Entry:
    """The journal's entry. Raises BadDataError where the envelope cannot be used."""
    first, end, rest = octets.partition(b"\n")
    envelope = envelopes.decode(first if end else b"")
    entry = Entry(envelope, (Recipient(),) * len(envelope.recipients), seen=envelope.arrived)
    if not rest:
        return entry
    *lines, tail = rest.split(b"\n")
    for line in lines:
        entry = apply(entry, _record(line))
    return entry._replace(is_torn=bool(tail))


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def apply(entry: Entry, record: dict[str, Any]) -> Entry:
    """*entry* after what *record* tells; unchanged by what it does not understand."""
    at: Any = record.get("at")
    if not _is_time(at):
        return entry
    entry = entry._replace(waited=entry.age(at), seen=at)
    kind = record.get("event")
    if kind == "attempt":
        return _attempted(entry, record, at)
    if kind == "scheduled" and _is_time(record.get("due")):
        return entry._replace(due=record["due"], attempts=entry.attempts + 1)
    if kind == "retry":
        return entry._replace(due=0.0)
    if kind == "told" and isinstance(record.get("of"), str):
        return _told(entry, record)
    return entry


def _attempted(entry: Entry, record: dict[str, Any], at: float) -> Entry:
    result = record.get("result")
    if result not in (SENT, FAILED, DEFERRED):
        return entry
    texts = {key: str(record.get(key, "")) for key in ("reply", "status", "remote")}
    last = Result(_numbers(entry, record), result, final=record.get("final") is True, **texts)
    state = DUE if result == DEFERRED else result
    return _each(entry, last.recipients, lambda old: old._replace(state=state, last=last, at=at))


def _told(entry: Entry, record: dict[str, Any]) -> Entry:
    of = record["of"]
    return _each(entry, _numbers(entry, record), lambda old: old._replace(told=old.told | {of}))


def _each(entry: Entry, numbers: Iterable[int], change: Any) -> Entry:
    recipients = list(entry.recipients)
    for number in numbers:
        recipients[number] = change(recipients[number])
    return entry._replace(recipients=tuple(recipients))


def _numbers(entry: Entry, record: dict[str, Any]) -> tuple[int, ...]:
    numbers = record.get("recipients")
    if not isinstance(numbers, list):
        return ()
    return tuple(n for n in numbers if type(n) is int and 0 <= n < len(entry.recipients))


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e12


# -- lines --------------------------------------------------------------------------------------------------


def attempt(at: float, result: Result) -> dict[str, Any]:
    """An attempt's record."""
    its = {**result._asdict(), "recipients": list(result.recipients)}
    return {"at": round(at, 3), "event": "attempt", **its}


def scheduled(at: float, due: float) -> dict[str, Any]:
    """The end of a round of attempts: the next is at *due*."""
    return {"at": round(at, 3), "event": "scheduled", "due": round(due, 3)}


def told(at: float, of: str, recipients: Sequence[int], identity: str) -> dict[str, Any]:
    """The sender was told *of* FAILED, SENT or DELAYED recipients, by the DSN *identity*."""
    return {"at": round(at, 3), "event": "told", "of": of, "recipients": list(recipients), "dsn": identity}


def event(at: float, name: str, by: str = "") -> dict[str, Any]:
    """What somebody did: hold, release, retry."""
    return {"at": round(at, 3), "event": name, **({"by": by} if by else {})}


def encode(records: Iterable[dict[str, Any]]) -> bytes:
    """Lines of JSON."""
    return b"".join([json.dumps(record, ensure_ascii=True).encode() + b"\n" for record in records])
