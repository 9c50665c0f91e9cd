"""The stairs: events and store to decisions; plain functions and classes that never await."""
