"""How queued mail is delivered: the options that `queue run` and `serve-smtp --relay` share."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailtools.commands.options.common import DURATION
from mailtools.commands.options.hosts import host_options

if TYPE_CHECKING:
    from mailtools.services.queue.service import Leaving

F = TypeVar("F", bound=Callable[..., Any])


class Durations(click.ParamType[tuple[float, ...]]):
    """Converts ``1m,5m,1h`` to seconds."""

    name = "durations"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(DURATION.convert(text.strip(), param, ctx) for text in str(value).split(","))


def leaving_options(function: F) -> F:
    """Add the options that say how mail leaves."""
    options = [
        click.option(
            "--route",
            "routes",
            metavar="[DOMAIN=]URL",
            multiple=True,
            help="The next hop of all mail, or of mail for DOMAIN: smtp://HOST:PORT, mx: ...  [default: mx:]",
        ),
        click.option(
            "--retry",
            metavar="LIST",
            type=Durations(),
            help="Wait so long between attempts; the last time repeats.  [default: 1m, doubled up to 4h]",
        ),
        click.option(
            "--expire",
            metavar="DUR",
            type=DURATION,
            default="5d",
            show_default=True,
            help="Return mail to its sender after DUR without success.",
        ),
        click.option(
            "--warn-after",
            metavar="DUR",
            type=DURATION,
            default="4h",
            show_default=True,
            help="Report a delay to the sender after DUR.",
        ),
        click.option(
            "--concurrency",
            metavar="N",
            type=click.IntRange(1, 200),
            default=20,
            show_default=True,
            help="Deliver over at most N connections at a time.",
        ),
        click.option(
            "--per-site",
            metavar="N",
            type=click.IntRange(1, 100),
            default=5,
            show_default=True,
            help="At most N of these connections go to one site (a domain or next hop).",
        ),
        *host_options(),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def leaving(ctx: click.Context, options: Mapping[str, Any], timeout: float = 300.0) -> "Leaving":
    """Turn the options and the configured accounts into the settings of the queue runner."""
    from mailtools.commands.options import config
    from mailtools.commands.options.dial import by_account
    from mailtools.core.queue.schedule import Schedule
    from mailtools.services.queue.runner import Orders
    from mailtools.services.queue.service import Leaving

    schedule = Schedule(options["retry"] or (), expire=options["expire"], warn=options["warn_after"])
    orders = Orders(
        schedule, options["concurrency"], options["per_site"], (options.get("site") or "").lower()
    )
    return Leaving(
        options["routes"],
        options["resolver"],
        timeout=timeout,
        orders=orders,
        accounts=by_account(config.accounts(ctx)),
        networks=options["mx_networks"],
    )
