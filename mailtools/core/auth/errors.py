"""The ways in which a login fails."""


class AuthenticationError(Exception):
    """The credentials are wrong. The reason is for the log, never for the peer."""


class MalformedError(Exception):
    """The peer's message is not in the form of the mechanism."""


class CancelledError(Exception):
    """The client cancelled the exchange with "*"."""
