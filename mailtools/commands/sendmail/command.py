"""``mailtools sendmail``: passes its arguments to commands/sendmail/main; click only prints the help."""

from typing import Any

import click

from mailtools.commands.options.common import root_option, spool_option
from mailtools.commands.options.local import local_options, users_option


class _AsSendmail(click.Command):
    """Leaves all arguments to the parser of sendmail(8); its options are for help and configuration."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args[:1] in (["--help"], ["-h"]) and len(args) == 1:
            return super().parse_args(ctx, ["--help"])
        ctx.args = list(args)
        return []


@click.command("sendmail", cls=_AsSendmail, options_metavar="[OPTION]...")
@click.argument("arguments", metavar="[ADDR]...", nargs=-1)
@root_option
@spool_option
@local_options
@users_option
@click.option(
    "--origin",
    metavar="NAME",
    default="",
    help="The domain for addresses without one.  [default: the host's name]",
)
@click.option(
    "--submit",
    metavar="URL",
    default="",
    help="Give every message to this server: unix:PATH, smtp://HOST:PORT or lmtp://HOST:PORT.",
)
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Take the message on stdin as sendmail(8) does, for cron, mutt, git send-email and others.

    Mail for local users is delivered at once, other mail through the queue. Accepts the options of
    sendmail(8), among them -t -i -oi -f ADDR -F NAME -bp -bs -bv -q -odi -odq. The program
    `mailtools-sendmail` does the same, and starts faster.

    \b
    Examples:
      printf 'Subject: hello\\n\\nHi\\n' | mailtools sendmail -i "$(id -un)"
    """
    from mailtools.commands.options.config import accounts
    from mailtools.commands.sendmail.main import main
    from mailtools.commands.sendmail.options import HAS_NEXT_HOPS

    configured = {name.replace("_", "-"): value for name, value in (ctx.default_map or {}).items()}
    if domains := configured.pop("domains", None):
        configured["domain"] = [domains] if isinstance(domains, str) else domains
    defaults = ctx.find_root().default_map or {}
    configured[HAS_NEXT_HOPS] = bool(accounts(ctx) or defaults.get("send"))
    config = ctx.find_root().params.get("config") or ""
    program = ctx.find_root().command
    ctx.exit(main(ctx.args, "mailtools-sendmail", lambda: program, configured, config))
