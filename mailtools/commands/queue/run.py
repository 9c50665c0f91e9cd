"""``mailtools queue run``: delivers what is due with services/queue/runner."""

from typing import Any

import click

from mailtools.commands.options.common import DURATION, root_option, spool_option, spool_path
from mailtools.commands.options.leaving import leaving, leaving_options
from mailtools.commands.options.local import local_options, users_option
from mailtools.commands.output import exits


@click.command("run")
@root_option
@spool_option
@click.option("--once", is_flag=True, help="Deliver what is due now, then exit.")
@click.option("--site", metavar="DOMAIN", help="Deliver only mail for this domain.")
@leaving_options
@local_options
@users_option
@click.option(
    "--timeout",
    metavar="DUR",
    type=DURATION,
    default="5m",
    show_default=True,
    help="Close a connection that makes no progress for DUR.",
)
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Deliver queued mail: what is due now, and what becomes due.

    Runs until it is stopped. With --once it exits after one attempt at everything that is due, with 75 if
    mail stays in the queue. Any number of runs may work on one queue.

    \b
    Examples:
      mailtools queue run --once
      mailtools queue run --once --route smtp://127.0.0.1:2525
    """
    from mailtools.commands.output.logging import set_up
    from mailtools.services.delivery.addressing import AddressingSettings, open_addressing
    from mailtools.services.queue import service
    from mailtools.system import clock
    from mailtools.system.files.home import owner_of
    from mailtools.system.process.signals import on_stop
    from mailtools.system.spool.spool import Spool

    log = set_up(ctx.obj["verbosity"], ctx.obj["log_format"])
    spool = Spool(spool_path(options), log.warning)
    addressing = open_addressing(
        AddressingSettings(
            options["root"],
            options["users"],
            options["domains"],
            options["aliases"],
            options["alias_commands"],
            options["catch_all"],
            options["plus_delimiter"],
            owner=owner_of(options["root"]),
        ),
        clock.host_name(),
        log.warning,
    )
    runner = service.make_runner(
        spool, addressing, leaving(ctx, options, options["timeout"]), log.info, log.warning
    )
    on_stop(runner.stop)
    stays = runner.run(options["once"])
    ctx.exit(exits.TEMP_FAIL if stays and options["once"] else exits.OK)
