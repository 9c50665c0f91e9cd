"""IMAP sessions over the mailboxes of a user."""
