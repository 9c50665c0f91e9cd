"""Logging in: password entries, SASL mechanisms."""
