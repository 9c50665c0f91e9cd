"""The message: header fields, addresses, dates, encoded words, parts (RFC 5322, RFC 2045-2047)."""
