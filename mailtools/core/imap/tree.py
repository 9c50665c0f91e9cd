"""The parts of a message as IMAP counts them.

Owns RFC 9051 §6.4.5.1 (part numbers), over what `mime.parse` found. That module reads for people: it knows
files inside a text, and leaves a broken multipart or a message that it does not open without children. Here
a text has no children, a multipart has at least one, and a message/rfc822 has exactly one: a text/plain part
with all of the content stands in for what was not opened. (Dovecot gives an empty part there, so a client
shows nothing of a message whose boundary is wrong.)

Invariants: both the structure of a message and its sections come from `children`, so each part in the
structure can be fetched; nothing raises; nothing here is recursive.
"""

from mailtools.core.message.mime import Part


def is_multipart(part: Part) -> bool:
    """Whether IMAP shows *part* as a multipart."""
    return part.type.startswith("multipart/")


def is_message(part: Part) -> bool:
    """Whether IMAP shows *part* with an envelope and a structure of its own."""
    return part.type == "message/rfc822"


def children(part: Part) -> list[Part]:
    """Return the parts of a multipart, or the message that a message/rfc822 is; of others nothing."""
    if is_multipart(part):
        return part.children or [_stand_in(part, part.body)]
    if is_message(part):
        return part.children or [_stand_in(part, part.end)]
    return []


def find(root: Part, path: tuple[int, ...]) -> Part | None:
    """Return the part with the number *path*, as (1, 2) for 1.2; None if there is none."""
    counted = children(root) if is_multipart(root) else [root]
    part = None
    for number in path:
        if not 0 < number <= len(counted):
            return None
        part = counted[number - 1]
        counted = children(part)
        if is_message(part) and is_multipart(counted[0]):  # it adds no level
            counted = children(counted[0])
    return part


def _stand_in(part: Part, header_end: int) -> Part:
    """Return a text/plain part for the content of *part*, whose header ends at *header_end* at the latest."""
    found = Part(part.octets, part.body, header_end, part.number, "text/plain")
    found.type, found.params, found.end, found.parent = "text/plain", {}, part.end, part
    return found
