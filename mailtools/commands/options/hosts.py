"""How the hosts of a domain are found: the options of `send`, `queue run` and `serve-smtp --relay`."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mailtools.core.smtp.mx import Network
    from mailtools.system.dns.resolver import Resolver


class NetworkType(click.ParamType["Network"]):
    """Converts ``192.168.0.0/16`` or ``2001:db8::1`` to a network."""

    name = "network"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Network":
        import ipaddress

        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        try:
            return ipaddress.ip_network(value)
        except ValueError as error:
            self.fail(f"{error}; write it as 192.168.0.0/16", param, ctx)


def host_options() -> list[Callable[[Any], Any]]:
    """Return the options."""
    return [
        click.option(
            "--resolver",
            metavar="ADDR[:PORT]",
            default="",
            help="Ask this nameserver for MX records and hosts.  [default: the system's]",
        ),
        click.option(
            "--mx-network",
            "mx_networks",
            metavar="NET",
            type=NetworkType(),
            multiple=True,
            help="MX records may lead to this network, though it is not public; repeatable.",
        ),
    ]


def resolver_of(options: Mapping[str, Any]) -> "Resolver":
    """Return the resolver that the options ask for. Raises ConfigurationError."""
    from mailtools.system import clock
    from mailtools.system.dns.resolver import Resolver, surroundings

    return Resolver(options["resolver"], surroundings=surroundings(clock.host_name(), options["mx_networks"]))
