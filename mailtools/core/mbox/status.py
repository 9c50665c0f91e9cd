"""Flags of a message, from the fields in which an mbox keeps them.

Owns the unwritten standard of Status, X-Status, X-Keywords (Alpine, mutt, Dovecot), X-Mozilla-Status and
X-Gmail-Labels. It
does not decide whether to trust them: in an mbox the owner set them, in an arriving message the sender did.

Invariant: never raises on any octets.
"""

READ = "read"
ANSWERED = "answered"
FLAGGED = "flagged"
DELETED = "deleted"
DRAFT = "draft"

# the order of `flags`' arguments
FIELDS = ("status", "x-status", "x-keywords", "x-mozilla-status", "x-gmail-labels")

# Status: R read, O seen in the list (no flag of IMAP), D deleted (Alpine)
_STATUS = {82: READ, 68: DELETED}
_X_STATUS = {65: ANSWERED, 70: FLAGGED, 84: DRAFT, 68: DELETED}
_KEYWORDS = {
    b"\\seen": READ, b"\\answered": ANSWERED, b"\\flagged": FLAGGED, b"\\deleted": DELETED, b"\\draft": DRAFT
}  # fmt: skip
_MOZILLA = ((0x1, READ), (0x2, ANSWERED), (0x4, FLAGGED), (0x8, DELETED))
# Labels of Google Takeout
_GMAIL = {"opened": READ, "starred": FLAGGED, "drafts": DRAFT, "draft": DRAFT, "trash": DELETED}
_NONE: frozenset[str] = frozenset()


def flags(
    status: bytes | None,
    x_status: bytes | None,
    keywords: bytes | None,
    mozilla: bytes | None,
    labels: bytes | None = None,
) -> frozenset[str]:
    """The flags that the values of `FIELDS` give (None: no such field)."""
    if not (status or x_status or keywords or mozilla or labels):
        return _NONE
    found = {_STATUS[octet] for octet in (status or b"")[:32] if octet in _STATUS}
    found |= {_X_STATUS[octet] for octet in (x_status or b"")[:32] if octet in _X_STATUS}
    found |= {_KEYWORDS[word] for word in (keywords or b"")[:1000].lower().split() if word in _KEYWORDS}
    if mozilla:
        try:
            bits = int(mozilla[:8], 16)
        except ValueError:
            bits = 0
        found |= {name for bit, name in _MOZILLA if bits & bit}
    if labels:
        names = {label.strip(b' "').lower() for label in labels[:4000].split(b",")}
        found |= {flag for name, flag in _GMAIL.items() if name.encode() in names}
    return frozenset(found)
