"""Harnesses that feed octets nobody would send: sessions, handshakes and files that were mutated."""
