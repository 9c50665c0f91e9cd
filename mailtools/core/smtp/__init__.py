"""SMTP (RFC 5321): grammar, events, server engine, client engine."""
