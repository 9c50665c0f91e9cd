"""What can go wrong, in the field's words; one class for each way a caller can go on.

Every message is one sentence for a person: what happened and what to do next. Which exit code a class
becomes is the door's affair (``commands/output/exits.py``), not known here.
"""

from mailtools.core.lean import Self


class MailError(Exception):
    """The base of all errors that mailtools raises on purpose."""

    status = ""  # an enhanced status code (RFC 3463), where what happened has one

    def coded(self, status: str) -> Self:
        """The same error, with its enhanced status code."""
        self.status = status
        return self


class BadDataError(MailError):
    """The message itself cannot be used, or was refused after DATA for good."""


class MissingInputError(MailError):
    """A file or stream to read from is not there."""


class UnknownRecipientError(MailError):
    """A recipient was refused for good."""


class UnknownHostError(MailError):
    """A host name does not resolve."""


class RefusedError(MailError):
    """The peer refused for good, for another reason than message or recipient."""


class CannotWriteError(MailError):
    """An mbox or spool cannot be created or written."""


class DiskFullError(CannotWriteError):
    """No room for the octets: a full disk, a quota, a file size limit."""


class TemporaryError(MailError):
    """It may work later: the caller should try again."""


class LockTimeoutError(TemporaryError):
    """Another program kept the mbox locked for longer than we wait."""


class ProtocolError(MailError):
    """The peer broke the protocol."""


class PolicyError(MailError):
    """Login or policy refused."""


class ConfigurationError(MailError):
    """The options or the configuration file ask for something that cannot be."""
