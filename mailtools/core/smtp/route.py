"""Routes: how the next hop of a message is written, such as ``smtp://host:25``.

Parses a text into a `Route`. Knows no connection and no DNS.
"""

import re
from typing import NamedTuple

from mailtools.core.errors import ConfigurationError

_PORTS = {"smtp": 25, "smtps": 465, "lmtp": 24}
_FORMS = "smtp://HOST:PORT, smtps://HOST:PORT, lmtp://HOST:PORT, unix:PATH, mx: or mbox:PATH"
_HOST = re.compile(r"(?:\[(?P<literal>[^\[\]\s/]+)\]|(?P<name>[^\[\]\s/:]+))(?::(?P<port>[0-9]{1,5}))?/?")


class Route(NamedTuple):
    """One next hop. *scheme*: smtp, smtps, lmtp, unix, mx, or mbox."""

    scheme: str
    host: str = ""  # smtp, smtps, lmtp: a name or address without brackets
    port: int = 0  # of smtp, smtps, lmtp; of mx: the port of the domain's hosts
    path: str = ""  # unix, mbox

    def __str__(self) -> str:
        """Return the route as it is written."""
        if self.path:
            return f"{self.scheme}:{self.path}"
        if self.scheme == "mx":
            return "mx:" if self.port == _PORTS["smtp"] else f"mx:{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse(text: str) -> Route:
    """Parse a route. Raises ConfigurationError. ``mx:2525`` is mx on another port, for one's own network."""
    scheme, _, rest = text.partition(":")
    if scheme in ("unix", "mbox") and rest and "\0" not in rest:
        return Route(scheme, path=rest)
    if scheme == "mx" and re.fullmatch("[0-9]{0,5}", rest):
        return Route("mx", port=_port(text, rest, _PORTS["smtp"]))
    match = _HOST.fullmatch(rest[2:]) if rest.startswith("//") else None
    if scheme in _PORTS and match:
        host = match["literal"] or match["name"]
        return Route(scheme, host, _port(text, match["port"] or "", _PORTS[scheme]))
    raise ConfigurationError(f"{text}: not a route; write {_FORMS}")


def _port(text: str, digits: str, default: int) -> int:
    port = int(digits) if digits else default
    if not 0 < port < 1 << 16:
        raise ConfigurationError(f"{text}: a port is a number from 1 to 65535")
    return port
