"""POP3 (RFC 1939), both halves: octets in, events out."""
