"""The mbox format (RFC 4155, mboxrd)."""
