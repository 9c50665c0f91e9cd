"""``mailtools queue add``: puts a message into the spool with services/queue/spooled."""

from typing import Any

import click

from mailtools.commands.options.common import root_option, spool_option, spool_path
from mailtools.commands.output import exits
from mailtools.commands.output.print import json_line
from mailtools.core.smtp import grammar


@click.command("add")
@click.argument("recipients", metavar="ADDR...", nargs=-1, required=True)
@click.option("-f", "sender", metavar="ADDR", help="The envelope sender; '' or '<>' is the null sender.")
@root_option
@spool_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Put the message on stdin into the queue, and print its queue id.

    The message is on the disk when the id is printed. Bcc is removed; Date and Message-ID are added if
    missing.

    \b
    Examples:
      mailtools queue add -f alice@example.org bob@example.com < msg.eml
    """
    from mailtools.services.queue.spooled import into_spool
    from mailtools.services.submission import prepare
    from mailtools.services.transit import outgoing
    from mailtools.system.spool.spool import Spool

    for recipient in options["recipients"]:
        if not grammar.is_mailbox(recipient):
            raise click.UsageError(f"not an address: {recipient!r}; write local@domain")
    wishes = outgoing.Wishes(
        recipients=options["recipients"], sender=options["sender"], fallback_sender=prepare.default_sender()
    )
    with prepare.open_messages(None, wishes) as messages:
        message = next(messages)
    if isinstance(message, prepare.Unsendable):
        raise message.error
    kept = into_spool(Spool(spool_path(options)), message, "queue add")
    if options["as_json"]:
        click.echo(json_line({"queue_id": kept.identity, "message_size": kept.size}))
    else:
        click.echo(kept.identity)
    ctx.exit(exits.OK)
