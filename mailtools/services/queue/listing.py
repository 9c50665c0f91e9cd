"""Select queued messages and format them: table rows, JSON, the listing of `mailq`, and the journal.

Takes entries of the store and returns cells, text or JSON values. Changes nothing (services/queue/actions
does) and prints nothing: the function that makes text safe for a terminal is an argument. The forms of
`postqueue -p` and `postqueue -j` are those of Postfix 3.7.

Invariants: memory does not grow with the number of messages; the texts in an entry come from strangers and
are not trusted.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Any, NamedTuple

from mailtools.core.errors import BadDataError
from mailtools.core.queue import journal
from mailtools.core.queue.envelope import QueueEnvelope
from mailtools.core.queue.journal import DUE, QueueEntry
from mailtools.core.queue.store import ACTIVE, BAD, HOLD, Listed
from mailtools.system import clock
from mailtools.system.spool.spool import Spool

Clean = Callable[[str], str]
Render = Callable[[Listed], str]

_BATCH = 256  # messages that a process formats at a time
_ISO = "%04d-%02d-%02dT%02d:%02d:%02d%s"
_LARGEST_HEADER = 16 << 20  # octets
_WORTH_IT = 4096  # messages; with fewer, forking costs as much time as it saves
COLUMNS = ("id", "state", "arrived", "size", "sender", "recipients", "attempts", "due", "reason")


class Filter(NamedTuple):
    """The conditions that select messages; a message must meet all of them. Patterns are globs."""

    sender: str | None = None
    recipient: str | None = None  # matches a pending recipient
    site: str = ""  # the domain of a pending recipient
    state: str = ""
    older: float = 0.0  # seconds since the message arrived, at least

    def predicate(self) -> Callable[[Listed], bool]:
        """Return a function that tells whether a message meets all conditions."""
        tests: list[Callable[[Listed], bool]] = []
        if self.sender is not None:
            matches = _glob("" if self.sender == "<>" else self.sender)
            tests.append(lambda listed: matches(listed.entry.envelope.reverse_path))
        if self.recipient is not None:
            to = _glob(self.recipient)
            tests.append(lambda listed: any(map(to, waiting(listed.entry))))
        if self.site:
            site = self.site.lower().removesuffix(".")
            tests.append(lambda listed: any(site_of(a) == site for a in waiting(listed.entry)))
        if self.state:
            tests.append(lambda listed: listed.state == self.state)
        if self.older:
            latest = clock.now() - self.older
            tests.append(lambda listed: listed.entry.envelope.arrived <= latest)
        return lambda listed: all(test(listed) for test in tests)


def _glob(pattern: str) -> Callable[[str], bool]:
    from fnmatch import translate

    match = re.compile(translate(pattern.lower())).match
    return lambda address: match(address.lower()) is not None


def waiting(entry: QueueEntry) -> Iterator[str]:
    """Yield the addresses of the pending recipients."""
    recipients = entry.envelope.recipients
    return (recipients[number].address for number in entry.pending)


def site_of(address: str) -> str:
    """Return the domain of *address*, in lower case, without a final dot."""
    return address.rpartition("@")[2].lower().removesuffix(".")


# -- many messages -----------------------------------------------------------------------------------------


def rendered(spool: Spool, wanted: Callable[[Listed], bool], render: Render) -> Iterator[str]:
    """Yield the texts that *render* makes of the messages *wanted*, many in one string.

    Several processes format a large queue; the order is that of the spool.
    """

    def text(places: Iterable[tuple[str, str]]) -> str:
        return "".join([render(listed) for listed in spool.look(places) if wanted(listed)])

    return mapped(spool, text)


def mapped(spool: Spool, work: Callable[[Iterable[tuple[str, str]]], str]) -> Iterator[str]:
    """Yield the result of *work* for each batch of places in the spool, in order.

    From 4096 messages on, several processes work at the same time.
    """
    places = spool.places()
    first = list(islice(places, _WORTH_IT))
    from mailtools.system.process.pipes import workers

    if len(first) < _WORTH_IT or workers() < 2:
        return map(work, _batches(chain(first, places)))
    from mailtools.system.process.fanout import in_order

    def work_on(batch: bytes) -> bytes:
        names = batch.decode().split()
        return work(zip(names[::2], names[1::2], strict=True)).encode("utf-8", "surrogatepass")

    packed = (" ".join(chain(*batch)).encode() for batch in _batches(chain(first, places)))
    return (result.decode("utf-8", "surrogatepass") for result in in_order(packed, work_on, workers()))


def _batches(places: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    while batch := list(islice(places, _BATCH)):
        yield batch


# -- one message -------------------------------------------------------------------------------------------


def row(listed: Listed) -> tuple[str, ...]:
    """Return the cells of a message in the order of `COLUMNS`; "-" stands for an empty cell."""
    entry, state, why = listed
    envelope = entry.envelope
    pending = entry.pending
    recipients = envelope.recipients[pending[0]].address if pending else "-"
    if len(pending) > 1:
        recipients += f" (+{len(pending) - 1})"
    return (
        envelope.identity,
        state,
        iso(envelope.arrived),
        str(envelope.size),
        envelope.reverse_path or "<>",
        recipients,
        str(entry.attempts),
        due_text(listed),
        why or reason(entry) or "-",
    )


def due_text(listed: Listed) -> str:
    """Return the time of the next attempt, "now", or "-" for a message on hold or set aside."""
    if listed.state in (HOLD, BAD):
        return "-"
    if listed.state == ACTIVE:
        return "now"
    return "now" if listed.entry.due <= clock.now() else iso(listed.entry.due)


def reason(entry: QueueEntry) -> str:
    """Return the last reply about the first pending recipient that has one; "" if none has.

    If no recipient is pending, all recipients count.
    """
    for number in entry.pending or range(len(entry.recipients)):
        last = entry.recipients[number].last
        if last and last.reply:
            return last.reply
    return ""


def reasons(entry: QueueEntry) -> Iterator[str]:
    """Yield the last reply about each pending recipient that has one."""
    for number in entry.pending:
        last = entry.recipients[number].last
        if last and last.reply:
            yield last.reply


def iso(seconds: float) -> str:
    """Format *seconds* since the epoch as ISO 8601, in local time with its offset."""
    t = time.localtime(seconds)
    return _ISO % (*t[:6], _offset(t.tm_gmtoff))


@lru_cache(maxsize=8)
def _offset(seconds: int) -> str:
    sign, minutes = "-" if seconds < 0 else "+", abs(seconds) // 60
    return f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"


def as_json(listed: Listed) -> dict[str, Any]:
    """Return a message as a JSON object: the keys of `postqueue -j`, followed by our own."""
    entry, state, why = listed
    envelope = entry.envelope
    waits: list[dict[str, Any]] = []
    done: list[dict[str, Any]] = []
    for recipient, standing in zip(envelope.recipients, entry.recipients, strict=True):
        its: dict[str, Any] = {"address": recipient.address}
        last = standing.last
        if last and last.reply:
            its["delay_reason" if standing.state == DUE else "reply"] = last.reply
        its["state"] = "deferred" if standing.state == DUE and last else standing.state
        if last:
            its |= {"status": last.status, "remote": last.remote, "last_attempt": int(standing.at)}
        (waits if standing.state == DUE else done).append(its)
    return {
        "queue_name": state,
        "queue_id": envelope.identity,
        "arrival_time": int(envelope.arrived),
        "message_size": envelope.size,
        "forced_expire": False,
        "sender": envelope.reverse_path or "MAILER-DAEMON",
        "recipients": waits,
        "done": done,
        "reverse_path": envelope.reverse_path,
        "attempts": entry.attempts,
        "due": int(entry.due),
        "envid": envelope.envid,
        "ret": envelope.ret,
        "origin": envelope.origin,
        "route": envelope.route,
        "tls": envelope.tls,
        "account": envelope.account,
        "reason": why,
    }


# -- for `show` and `log` -----------------------------------------------------------------------------------


def told(listed: Listed) -> Iterator[tuple[str, str]]:
    """Yield (name, text) for each field of the envelope, then one for each recipient with its state."""
    entry, state, why = listed
    envelope = entry.envelope
    yield "id", envelope.identity
    yield "state", state
    if why:
        yield "reason", why
    yield "arrived", iso(envelope.arrived)
    yield "sender", envelope.reverse_path or "<>"
    yield "size", str(envelope.size)
    yield "attempts", str(entry.attempts)
    yield "due", due_text(listed)
    for name in ("ret", "envid", "origin", "route", "tls", "account"):
        if text := getattr(envelope, name):
            yield name, text
    if wants := [name for name in ("8bit", "utf8") if getattr(envelope, f"needs_{name}")]:
        yield "needs", ", ".join(wants)
    for recipient, standing in zip(envelope.recipients, entry.recipients, strict=True):
        last = standing.last
        text = f"{recipient.address} {'deferred' if standing.state == DUE and last else standing.state}"
        if recipient.notify:
            text += f" notify={recipient.notify}"
        if recipient.orcpt:
            text += f" orcpt={recipient.orcpt}"
        yield "recipient", text + (f" ({last.reply})" if last and last.reply else "")


def message(spool: Spool, listed: Listed, head: bool, body: bool) -> Iterator[bytes]:
    """Yield the queued message in blocks: its header, its body, or both.

    The header alone comes without the empty line. Raises BadDataError.
    """
    blocks = spool.message(listed.entry.envelope)
    if head and body:
        yield from blocks
        return
    octets = b""
    for block in blocks:
        octets += block
        end = 0 if octets.startswith(b"\n") else octets.find(b"\n\n") + 1
        if end or octets.startswith(b"\n"):
            yield octets[:end] if head else octets[end + 1 :]
            break
        if len(octets) > _LARGEST_HEADER:
            raise BadDataError(f"{listed.entry.envelope.identity}: its header is larger than any of ours")
    else:
        yield octets if head else b""
    if body:
        yield from blocks


class Event(NamedTuple):
    """An event in the life of a message; *recipient* is "" if the event concerns the whole message."""

    at: float  # seconds since the epoch
    id: str
    event: str
    recipient: str = ""
    status: str = ""
    remote: str = ""
    text: str = ""


def history(spool: Spool, listed: Listed) -> Iterator[Event]:
    """Yield the events of the journal. If the message has left the queue, only its arrival is known."""
    envelope = listed.entry.envelope
    identity = envelope.identity
    origin = f" from {envelope.origin}" if envelope.origin else ""
    yield Event(envelope.arrived, identity, "arrived", text=f"{envelope.size} octets{origin}")
    try:
        records = spool.records(identity)
    except FileNotFoundError:
        return
    for record in records:
        yield from _events(envelope, record)


def _events(envelope: QueueEnvelope, record: dict[str, Any]) -> Iterator[Event]:
    at: Any = record.get("at")
    kind = record.get("event")
    if not journal.is_time(at) or not isinstance(kind, str):
        yield Event(0.0, envelope.identity, "unreadable")
        return
    event = Event(at, envelope.identity, kind)
    numbers = record.get("recipients")
    addresses = [
        envelope.recipients[n].address
        for n in (numbers if isinstance(numbers, list) else ())
        if type(n) is int and 0 <= n < len(envelope.recipients)
    ]
    if kind == "attempt":
        result, status, remote, reply = (_text(record.get(key)) for key in _SAID)
        yield from (Event(at, event.id, result, address, status, remote, reply) for address in addresses)
    elif kind == "told":
        text = f"{_text(record.get('of'))}: DSN {_text(record.get('dsn'))}"
        yield from (event._replace(recipient=address, text=text) for address in addresses)
    elif kind == "scheduled" and journal.is_time(record.get("due")):
        yield event._replace(text=f"next attempt at {iso(record['due'])}")
    else:
        by = _text(record.get("by"))
        yield event._replace(text=_text(record.get("text")) or (f"by {by}" if by else ""))


_SAID = ("result", "status", "remote", "reply")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


# -- as `postqueue -p` -------------------------------------------------------------------------------------

MAILQ_EMPTY = "Mail queue is empty"
MAILQ_HEAD = "----Queue ID----- --Size-- ---Arrival Time---- --Sender/Recipient------"
_MARKS = {ACTIVE: "*", HOLD: "!", BAD: "!"}
_REASON_ENDS = 76  # column where a reason ends; it is right-aligned


def mailq(listed: Listed, clean: Clean) -> str:
    """Format a message as `postqueue -p` does: its pending recipients, each group under its reason."""
    entry, state, bad_because = listed
    envelope = entry.envelope
    arrived = time.asctime(time.localtime(envelope.arrived))[:19]
    sender = clean(envelope.reverse_path) or "MAILER-DAEMON"
    lines = [f"{envelope.identity + _MARKS.get(state, ''):<17} {envelope.size:8d} {arrived} {sender}"]
    said = ""
    if bad_because and not entry.pending:
        lines.append(_mailq_reason(clean(bad_because)))
    for number in entry.pending:
        last = entry.recipients[number].last
        why = bad_because or (last.reply if last else "") or (said and "reason unavailable")
        if why != said:
            said = why
            lines.append(_mailq_reason(clean(why)))
        lines.append(f"{'':46} {clean(envelope.recipients[number].address)}")
    return "\n".join(lines) + "\n"


def _mailq_reason(text: str) -> str:
    return f"{'':{max(0, _REASON_ENDS - len(text))}}({text})"


def mailq_end(octets: int, count: int) -> str:
    """Return the last line of the listing: the sum of *octets*, and the *count* of messages."""
    return f"-- {octets // 1024} Kbytes in {count} Request{'' if count == 1 else 's'}."
