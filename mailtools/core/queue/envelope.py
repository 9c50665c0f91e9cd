"""The envelope of a queued message, as the first line of its journal: one JSON object.

Knows no file and no clock. A file is never trusted: every field is checked, and an invalid envelope is
refused whole (21Nails: a queue file must not be able to say anything that a peer could not).

A usual envelope is written without `json` and `re`, whose import would take most of the time in which
sendmail puts a message into the spool: 2.7 times a bare start of Python with them, 2.1 without.
"""

from collections.abc import Callable
from functools import cache
from operator import attrgetter

from mailtools.core.errors import BadDataError
from mailtools.core.lean import Any, NamedTuple
from mailtools.core.message.recipient import Recipient
from mailtools.core.patterns import lazy

VERSION = 1
# Characters that no address may hold: they would break a command, a header or a terminal.
_UNSAFE = lazy("[\x00-\x20<>\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSAFE_VALUE = lazy("[\x00-\x20\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_QUOTED = lazy(r'"(?:[^"\\]|\\.)*"')
_IN_QUOTES = str.maketrans("", "", " <>")  # RFC 5321 §4.1.2: qtextSMTP
_LONGEST_IDENTITY = 64  # characters
_LONGEST_PARAMETER = 2000  # characters; an ORCPT of 500 octets has three times as many in xtext
_MOST_RECIPIENTS = 100_000
_LARGEST = 1 << 60  # octets


class QueueEnvelope(NamedTuple):
    """Everything stored about a queued message except its octets."""

    identity: str
    arrived: float  # seconds since the epoch
    reverse_path: str  # "" is the null reverse-path <>
    recipients: tuple[Recipient, ...]
    stored: int = 0  # octets of the message as stored in the spool, LF
    size: int = 0  # octets as sent, dots not stuffed
    needs_8bit: bool = False
    needs_utf8: bool = False
    may_recode: bool = True  # whether it may be re-encoded for a 7-bit server
    ret: str = ""  # "", FULL or HDRS
    envid: str = ""  # in xtext
    origin: str = ""  # the submitter, to be shown to people
    route: str = ""  # the next hop requested; "": the runner's default
    tls: str = ""  # the TLS mode requested for that hop: off, opportunistic, starttls, implicit
    account: str = ""  # the configured account to send with

    def wants(self, number: int, event: str) -> bool:
        """Does the sender want to hear of *event* (SUCCESS, FAILURE, DELAY) for recipient *number*?

        RFC 3461 §4.1: without NOTIFY, failures are reported, and delays may be.
        """
        notify = self.recipients[number].notify
        return event in notify.split(",") if notify else event != "SUCCESS"


def is_identity(text: str) -> bool:
    """Tell whether *text* can be a queue id: it becomes a file name."""
    plain = text.replace("-", "").replace("_", "")
    is_short = 0 < len(text) <= _LONGEST_IDENTITY
    return is_short and text.isascii() and plain.isalnum() and text[0] not in "-_"


def encode(envelope: QueueEnvelope) -> bytes:
    """One line of JSON, in ASCII: octet for octet what `json.dumps` writes."""
    fields = [f'"{name}": {_WRITERS[type(value)](value)}' for name, value in envelope._asdict().items()]
    return f'{{"version": {VERSION}, {", ".join(fields)}}}\n'.encode()


def _written(recipients: tuple[Recipient, ...]) -> str:
    """The recipients as a JSON list of objects, without their empty members."""
    objects = [
        ", ".join([f'"{name}": {_quoted(value)}' for name, value in recipient._asdict().items() if value])
        for recipient in recipients
    ]
    return "[" + ", ".join([f"{{{fields}}}" for fields in objects]) + "]"


def _quoted(text: str) -> str:
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    import json

    return json.dumps(text)


_WRITERS: dict[type, Callable[[Any], str]] = {
    str: _quoted,
    bool: lambda value: "true" if value else "false",
    int: repr,
    float: repr,
    tuple: _written,
}


@cache
def _scanner() -> Callable[[str, int], tuple[Any, int]]:
    """The scanner inside json.loads: calling it directly halves the time for a short line."""
    import json

    return json.JSONDecoder().scan_once  # type: ignore[attr-defined,no-any-return]


def load(line: str) -> Any:
    """Parse one line of JSON. Raises ValueError, RecursionError."""
    try:
        value, end = _scanner()(line, 0)
    except StopIteration:
        end = -1
    if end == len(line):
        return value
    import json

    return json.loads(line)


def decode(line: bytes) -> QueueEnvelope:
    """Parse and check the envelope in *line*. Raises BadDataError if a field is missing or invalid."""
    try:
        record = load(line.decode())
    except (ValueError, RecursionError):
        raise BadDataError("the envelope is no JSON") from None
    if not isinstance(record, dict):
        raise BadDataError("the envelope is no JSON object")
    if record.pop("version", None) != VERSION:
        raise BadDataError("the envelope is of another version")
    try:
        recipients = tuple([Recipient(**recipient) for recipient in record.pop("recipients")])
        envelope = QueueEnvelope(recipients=recipients, **record)
    except (TypeError, KeyError):
        raise BadDataError("the envelope lacks a field, or has one too many") from None
    check(envelope)
    return envelope


def check(envelope: QueueEnvelope) -> None:
    """Check that `decode` can read what `encode` writes. Raises BadDataError."""
    problem = _problem(envelope)
    if problem:
        raise BadDataError(f"the envelope {problem}").coded("5.1.3")


_KINDS = {
    "identity": str, "arrived": float, "reverse_path": str, "stored": int, "size": int,
    "needs_8bit": bool, "needs_utf8": bool, "may_recode": bool, "ret": str, "envid": str, "origin": str,
    "route": str, "tls": str, "account": str,
}  # fmt: skip
_ALL_KINDS = tuple(_KINDS.values())
_values = attrgetter(*_KINDS)


def _problem(envelope: QueueEnvelope) -> str:
    if tuple(map(type, _values(envelope))) != _ALL_KINDS and (wrong := _of_wrong_kind(envelope)):
        return f"has no usable {wrong}"
    if not is_identity(envelope.identity):
        return "has no usable identity"
    if not (0 <= envelope.arrived < 1e12 and 0 <= envelope.stored < _LARGEST > envelope.size >= 0):
        return "has numbers out of range"
    if not 0 < len(envelope.recipients) <= _MOST_RECIPIENTS:
        return "has no recipients, or too many"
    if not is_safe(envelope.reverse_path) or envelope.ret not in ("", "FULL", "HDRS"):
        return "has no usable reverse-path"
    if not _is_parameter(envelope.envid):
        return "has no usable envid"
    bad = next((one for one in envelope.recipients if not is_recipient(one)), None)
    return f"has a recipient that cannot be used: {bad.address!r}" if bad is not None else ""


def _of_wrong_kind(envelope: QueueEnvelope) -> str:
    """The first field of a wrong type, or "". An int is accepted for a float."""
    for name, kind in _KINDS.items():
        found = type(getattr(envelope, name))
        if found is not kind and not (found is int and kind is float):
            return name
    return ""


def is_recipient(recipient: Recipient) -> bool:
    """Return True if the queue can keep *recipient*."""
    address, notify, orcpt = recipient
    return (
        type(address) is type(notify) is type(orcpt) is str
        and bool(address)
        and is_safe(address)
        and _is_parameter(notify)
        and _is_parameter(orcpt.replace("=", ""))
    )


def _is_parameter(value: str) -> bool:
    """Return True if *value* can be a parameter (RFC 3461 §4, RFC 6533 §3): no controls, spaces, "="."""
    if len(value) > _LONGEST_PARAMETER or "=" in value:
        return False
    is_plain = value.isascii() and value.isprintable() and " " not in value
    return is_plain or not _UNSAFE_VALUE.search(value)


def is_safe(address: str) -> bool:
    """Return True if *address* can stand in a command: no controls; spaces and <> only in quotes."""
    is_plain = address.isascii() and address.isprintable()
    if is_plain and " " not in address and "<" not in address and ">" not in address:
        return True  # without `re`, see above
    if not _UNSAFE.search(address):
        return True
    return not _UNSAFE.search(_QUOTED.sub(lambda m: m[0].translate(_IN_QUOTES), address))
