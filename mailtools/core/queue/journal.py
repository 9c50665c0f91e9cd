"""The journal of a queued message: the envelope, then one JSON line per event.

Parses the lines into a `QueueEntry`, the work still to be done. Knows no file. A truncated or unknown line is
ignored: at worst a recipient is tried again or a sender is told again; no recipient is forgotten.
"""

from collections.abc import Iterable, Iterator, Sequence

from mailtools.core.lean import Any, NamedTuple
from mailtools.core.queue import envelope as envelopes
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.schedule import step

DUE, SENT, FAILED = "due", "sent", "failed"  # what a recipient's state can be
DEFERRED = "deferred"  # the result of an attempt after which it is due again
DELAYED = "delayed"  # a kind of DSN that a sender was sent
_NUMBERS = (int, float)


class Result(NamedTuple):
    """The result of an attempt, common to some recipients."""

    recipients: tuple[int, ...]  # their numbers in the envelope
    result: str  # SENT, FAILED, DEFERRED
    reply: str  # the server's reply, or our sentence
    status: str = ""  # the enhanced status code
    remote: str = ""  # the server that gave the result; "" for this host
    final: bool = False  # sent, and no later server sends DSNs for it


class RecipientState(NamedTuple):
    """The state of one recipient and its last attempt."""

    state: str = DUE
    last: Result | None = None
    at: float = 0.0  # of the last attempt, seconds since the epoch
    told: frozenset[str] = frozenset()  # what its sender was told: FAILED, SENT, DELAYED


class QueueEntry(NamedTuple):
    """One queued message: its envelope and the state of each recipient."""

    envelope: QueueEnvelope
    recipients: tuple[RecipientState, ...]
    attempts: int = 0
    due: float = 0.0  # seconds since the epoch; 0: now
    waited: float = 0.0  # seconds until `seen`
    seen: float = 0.0  # when the journal was written last
    is_torn: bool = False  # the last line was cut short

    @property
    def pending(self) -> tuple[int, ...]:
        """The numbers of the recipients that are still due."""
        return tuple([n for n, recipient in enumerate(self.recipients) if recipient.state == DUE])

    def untold(self, state: str, event: str) -> tuple[int, ...]:
        """The recipients in *state* for which the sender wants a DSN of *event* and was not sent one yet."""
        return tuple(
            n
            for n, recipient in enumerate(self.recipients)
            if recipient.state == state
            and state not in recipient.told
            and self.envelope.wants(n, event)
            and (state != SENT or (recipient.last is not None and recipient.last.final))
        )

    @property
    def is_hurried(self) -> bool:
        """Tell whether an operator asked for an immediate retry."""
        return self.attempts > 0 and not self.due

    def age(self, now: float) -> float:
        """Seconds that the message has waited, without clock jumps (core/queue/schedule)."""
        return self.waited + step(self.seen, now)


def parse(octets: bytes) -> QueueEntry:
    """The journal's entry. Raises BadDataError where the envelope cannot be used."""
    first, end, rest = octets.partition(b"\n")
    envelope = envelopes.decode(first if end else b"")
    entry = QueueEntry(envelope, (RecipientState(),) * len(envelope.recipients), seen=envelope.arrived)
    if not rest:
        return entry
    return _after(entry, records(octets))._replace(is_torn=not rest.endswith(b"\n"))


def records(octets: bytes) -> Iterator[dict[str, Any]]:
    """What the whole lines behind the envelope tell, one by one; {} for a line that no line of ours is."""
    for line in octets.decode("utf-8", "surrogateescape").split("\n")[1:-1]:
        try:
            record = envelopes.load(line)
        except (ValueError, RecursionError):
            record = None
        yield record if isinstance(record, dict) else {}


def apply(entry: QueueEntry, *told: dict[str, Any]) -> QueueEntry:
    """*entry* with the records *told* applied; unknown records change nothing."""
    return _after(entry, told)


def _after(entry: QueueEntry, told: Iterable[dict[str, Any]]) -> QueueEntry:
    """Apply *told*. The recipients are copied once, not per record, which would be quadratic."""
    envelope, recipients, attempts, due, waited, seen, is_torn = entry
    each = list(recipients)
    for record in told:
        at: Any = record.get("at")
        if not is_time(at):
            continue
        waited, seen = waited + step(seen, at), at
        kind = record.get("event")
        if kind == "attempt":
            _attempted(each, record, at)
        elif kind == "scheduled" and is_time(record.get("due")):
            due, attempts = record["due"], attempts + 1
        elif kind == "retry":
            due = 0.0
        elif kind == "told" and isinstance(record.get("of"), str):
            of = record["of"]
            for number in _numbers(each, record):
                each[number] = each[number]._replace(told=each[number].told | {of})
    return QueueEntry(envelope, tuple(each), attempts, due, waited, seen, is_torn)


def _attempted(recipients: list[RecipientState], record: dict[str, Any], at: float) -> None:
    result = record.get("result")
    if result not in (SENT, FAILED, DEFERRED):
        return
    last = Result(
        _numbers(recipients, record),
        result,
        _text(record.get("reply")),
        _text(record.get("status")),
        _text(record.get("remote")),
        record.get("final") is True,
    )
    state = DUE if result == DEFERRED else result
    for number in last.recipients:
        recipients[number] = RecipientState(state, last, at, recipients[number].told)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _numbers(recipients: Sequence[RecipientState], record: dict[str, Any]) -> tuple[int, ...]:
    numbers = record.get("recipients")
    if not isinstance(numbers, list):
        return ()
    return tuple([n for n in numbers if type(n) is int and 0 <= n < len(recipients)])


def is_time(value: object) -> bool:
    """Tell whether *value* can be seconds since the epoch."""
    return type(value) in _NUMBERS and 0 <= value < 1e12  # type: ignore[operator]


# -- lines --------------------------------------------------------------------------------------------------


def attempt(at: float, result: Result) -> dict[str, Any]:
    """The record of an attempt with the result *result*; *at*: seconds since the epoch."""
    its = {**result._asdict(), "recipients": list(result.recipients)}
    return {"at": round(at, 3), "event": "attempt", **its}


def scheduled(at: float, due: float) -> dict[str, Any]:
    """The record that ends a round of attempts; the next is at *due* (seconds since the epoch)."""
    return {"at": round(at, 3), "event": "scheduled", "due": round(due, 3)}


def told(at: float, of: str, recipients: Sequence[int], identity: str) -> dict[str, Any]:
    """The record of a DSN: the sender was told *of* FAILED, SENT or DELAYED recipients by *identity*."""
    return {"at": round(at, 3), "event": "told", "of": of, "recipients": list(recipients), "dsn": identity}


def event(at: float, name: str, by: str = "") -> dict[str, Any]:
    """The record of an operator's action: hold, release, retry."""
    return {"at": round(at, 3), "event": name, **({"by": by} if by else {})}


def encode(records: Iterable[dict[str, Any]]) -> bytes:
    """The records as lines of JSON, in ASCII."""
    import json  # not at the top: adding a message must not import it (see envelope)

    return b"".join([json.dumps(record, ensure_ascii=True).encode() + b"\n" for record in records])
