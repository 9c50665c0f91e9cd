"""``mailtools queue run``: deliver what is due."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from mailtools.commands import _exits
from mailtools.commands._options import DURATION, root_option, spool_option, spool_path

F = TypeVar("F", bound=Callable[..., Any])


class Durations(click.ParamType[tuple[float, ...]]):
    """``1m,5m,1h`` to seconds."""

    name = "durations"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(DURATION.convert(text.strip(), param, ctx) for text in str(value).split(","))


def relay_options(function: F) -> F:
    """How mail leaves: what `queue run` and `serve-smtp --relay` share."""
    options = [
        click.option(
            "--route",
            "routes",
            metavar="[DOMAIN=]URL",
            multiple=True,
            help="The next hop of all mail, or of a domain's: smtp://HOST:PORT, mx: ...  [default: mx:]",
        ),
        click.option(
            "--retry",
            metavar="LIST",
            type=Durations(),
            help="Try again after these times, the last one over and over.  [default: 1m, doubled up to 4h]",
        ),
        click.option(
            "--expire",
            metavar="DUR",
            type=DURATION,
            default="5d",
            show_default=True,
            help="Give up after DUR.",
        ),
        click.option(
            "--warn-after",
            metavar="DUR",
            type=DURATION,
            default="4h",
            show_default=True,
            help="Tell the sender of a delay after DUR.",
        ),
        click.option(
            "--concurrency",
            metavar="N",
            type=click.IntRange(1, 200),
            default=20,
            show_default=True,
            help="Deliver over N connections at a time.",
        ),
        click.option(
            "--per-site",
            metavar="N",
            type=click.IntRange(1, 100),
            default=5,
            show_default=True,
            help="N of them to one site.",
        ),
        click.option(
            "--resolver",
            metavar="ADDR[:PORT]",
            default="",
            help="Ask this nameserver.  [default: the system's]",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def leaving(options: dict[str, Any], timeout: float) -> Any:
    """What the options say of how mail leaves."""
    from mailtools.core.queue.schedule import Schedule
    from mailtools.services.deliver import Orders
    from mailtools.services.queue_service import Leaving

    schedule = Schedule(options["retry"] or (), expire=options["expire"], warn=options["warn_after"])
    orders = Orders(
        schedule, options["concurrency"], options["per_site"], (options.get("site") or "").lower()
    )
    return Leaving(options["routes"], options["resolver"], timeout=timeout, orders=orders)


@click.command("run")
@root_option
@spool_option
@click.option("--once", is_flag=True, help="Deliver what is due now, and end.")
@click.option("--site", metavar="DOMAIN", help="Only mail for this domain.")
@relay_options
@click.option("--domain", "domains", metavar="NAME", multiple=True, help="A domain of ours; repeatable.")
@click.option("--users", metavar="FILE", help="Who has mail here.  [default: ROOT/users if it exists]")
@click.option("--aliases", metavar="FILE", default="", help="Aliases, in the form of /etc/aliases.")
@click.option("--alias-commands", is_flag=True, help="Aliases may pipe mail into programs.")
@click.option(
    "--timeout",
    metavar="DUR",
    type=DURATION,
    default="5m",
    show_default=True,
    help="Give a server up that says nothing for DUR.",
)
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Deliver queued mail: what is due now, and what becomes due.

    Goes on until it is stopped; with --once it ends when everything that was due had its turn, with 75 where
    mail stays in the queue. Any number of runs may work on one queue.

    \b
    Examples:
      mailtools queue run --once
      mailtools queue run --route smtp://relay.example:587
    """
    from mailtools.commands._logging import set_up
    from mailtools.services import queue_service
    from mailtools.system.spool import Spool
    from mailtools.system.stopping import on_stop

    log = set_up(ctx.obj["verbosity"], ctx.obj["log_format"])
    spool = Spool(spool_path(options), log.warning)
    addressing = queue_service.open_local(
        queue_service.Local(
            options["root"],
            options["users"],
            options["domains"],
            options["aliases"],
            options["alias_commands"],
        ),
        log.warning,
    )
    runner = queue_service.make_runner(
        spool, addressing, leaving(options, options["timeout"]), log.info, log.warning
    )
    on_stop(runner.stop)
    stays = runner.run(options["once"])
    ctx.exit(_exits.TEMP_FAIL if stays and options["once"] else _exits.OK)
