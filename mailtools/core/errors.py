"""The errors that mailtools raises; one class for each way in which a caller can react.

Every message is one sentence for a person: what happened and what to do next. ``commands/output/exits.py``
maps classes to exit codes; this module does not know them.
"""

from mailtools.core.lean import Self


class MailError(Exception):
    """The base of all errors that mailtools raises on purpose."""

    status = ""  # the enhanced status code (RFC 3463), or ""

    def coded(self, status: str) -> Self:
        """Set the enhanced status code (RFC 3463) and return the error itself."""
        self.status = status
        return self


class BadDataError(MailError):
    """The message itself cannot be used, or was permanently refused after DATA."""


class MissingInputError(MailError):
    """A file or stream to read from is not there."""


class UnknownRecipientError(MailError):
    """A recipient was permanently refused."""


class UnknownHostError(MailError):
    """A host name does not resolve."""


class RefusedError(MailError):
    """The peer refused permanently, for a reason other than the message or a recipient."""


class CannotWriteError(MailError):
    """An mbox or spool cannot be created or written."""


class DiskFullError(CannotWriteError):
    """No room for the octets: a full disk, a quota, a file size limit."""


class TemporaryError(MailError):
    """A transient failure: the caller should try again later."""


class LockTimeoutError(TemporaryError):
    """Another program kept the mbox locked for longer than we wait."""


class ProtocolError(MailError):
    """The peer broke the protocol."""


class PolicyError(MailError):
    """Login or policy refused."""


class ConfigurationError(MailError):
    """The options or the configuration file ask for something impossible."""


class CommandError(Exception):
    """A client's command that a server refuses; it never leaves the protocol's engine, which answers it."""
