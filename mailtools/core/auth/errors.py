"""How a login fails."""


class AuthenticationError(Exception):
    """The credentials are not right; why is for the log, never for the peer."""


class MalformedError(Exception):
    """What the client said is not in the mechanism's form."""


class CancelledError(Exception):
    """The client gave up in the middle, with "*"."""
