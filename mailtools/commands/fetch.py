"""``mailtools fetch``: makes a target for each account and runs services/fetch/run for it."""

import os
import re
import stat
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailtools.commands.options.common import DURATION, SIZE, json_option, root_option
from mailtools.commands.options.source import FetchSource, source_options, sources
from mailtools.commands.output import exits
from mailtools.commands.output.print import warn
from mailtools.core.errors import ConfigurationError
from mailtools.system.files.home import expand, login_name

if TYPE_CHECKING:
    from mailtools.commands.output.fetched import FetchReport
    from mailtools.services.fetch.remote import FetchWishes
    from mailtools.services.fetch.sinks import Sink

F = TypeVar("F", bound=Callable[..., Any])


class Since(click.ParamType[float]):
    """Converts a day (``2026-01-31``) or an age (``30d``) to seconds since the epoch."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        from datetime import UTC, datetime

        from mailtools.system import clock

        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", str(value)):
            try:
                return datetime.fromisoformat(str(value)).replace(tzinfo=UTC).timestamp()
            except ValueError:
                self.fail(f"{value!r} is not a day of the calendar", param, ctx)
        return clock.now() - DURATION.convert(value, param, ctx)


def destination_options(function: F) -> F:
    """Add the options that say where messages go."""
    options = [
        click.option(
            "--to",
            metavar="FILE|-",
            default="",
            help="Append to this mbox; - writes an mbox to stdout.  [default: ROOT/USER/INBOX.mbox]",
        ),
        click.option("--to-dir", metavar="DIR", default="", help="Append each mailbox to DIR/MAILBOX.mbox."),
        click.option(
            "--pipe",
            metavar="CMD",
            default="",
            help="Run CMD with each message on stdin; exit code 0 accepts it.",
        ),
        root_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


def wish_options(function: F) -> F:
    """Add the options that say which messages are fetched, and what happens to them on the server."""
    options = [
        click.option("--keep", is_flag=True, help="Leave messages on the server; fetch new ones.  [default]"),
        click.option("--delete", is_flag=True, help="Delete messages on the server once they are on disk."),
        click.option(
            "--delete-after",
            metavar="DUR",
            type=DURATION,
            help="Delete messages on the server DUR after they were fetched.",
        ),
        click.option(
            "--mailbox",
            "patterns",
            metavar="NAME",
            multiple=True,
            help="Fetch from this mailbox (IMAP); * and ? are wildcards; repeatable.  [default: INBOX]",
        ),
        click.option(
            "--since",
            metavar="DATE",
            type=Since(),
            help="Only messages since DATE: 2026-01-31, or 30d for the last 30 days.",
        ),
        click.option("--max-size", metavar="SIZE", type=SIZE, help="Leave larger messages on the server."),
        click.option("--limit", metavar="N", type=click.IntRange(1), help="Fetch at most N messages."),
        click.option("--mark-seen", is_flag=True, help="Mark fetched messages as read on the server (IMAP)."),
        click.option("--idle", is_flag=True, help="Stay connected, and fetch mail as it comes (IMAP)."),
        click.option("--dry-run", is_flag=True, help="Print what would be fetched, and fetch nothing."),
        json_option,
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.command("fetch")
@source_options
@destination_options
@wish_options
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Fetch mail over POP3 or IMAP into an mbox.

    New messages are fetched. They stay on the server; with --delete they are deleted there once they are on
    disk. Prints nothing except on a terminal. Exits 1 if there is no new mail.

    \b
    Examples:
      mailtools fetch --pop3 --host 127.0.0.1 --port 1110 --user bob --password-file pw --to inbox.mbox
      mailtools fetch --pop3 --host 127.0.0.1 --port 1110 --user bob --password-file pw --to - --limit 1
    """
    from mailtools.commands.output.fetched import FetchReport

    _check(options)
    found = sources(ctx)
    _check_sources(options, found)
    report = FetchReport(options, ctx.obj["verbosity"], several=len(found) > 1)
    if options["idle"]:
        _until_stopped()
    codes: list[int] = []
    if len(found) == 1:
        _fetch(found[0], options, report)
    else:
        codes = _all_at_once(found, options, report)
    ctx.exit(report.end(codes))


def _check(options: dict[str, Any]) -> None:
    for names in (("to", "to_dir", "pipe"), ("keep", "delete", "delete_after")):
        given = [f"--{name.replace('_', '-')}" for name in names if options[name]]
        if len(given) > 1:
            raise click.UsageError(f"{given[0]} and {given[1]} exclude each other")
    writers = {
        "--to -": options["to"] == "-",
        "--json": options["as_json"],
        "--transcript -": options["transcript"] == "-",
    }
    to_stdout = [option for option, is_given in writers.items() if is_given]
    if len(to_stdout) > 1:
        raise click.UsageError(f"{to_stdout[0]} and {to_stdout[1]} would both write to stdout")
    if options["idle"] and options["dry_run"]:
        raise click.UsageError("--idle and --dry-run exclude each other")


def _check_sources(options: dict[str, Any], found: list[FetchSource]) -> None:
    if any(source.target.protocol == "pop3" for source in found):
        for name in ("patterns", "idle", "mark_seen"):
            if options[name]:
                shown = {"patterns": "--mailbox"}.get(name, f"--{name.replace('_', '-')}")
                raise click.UsageError(f"{shown} is for IMAP only: POP3 has one mailbox and no flags")
    patterns = [_patterns(source, options) for source in found]
    if options["idle"] and any(len(names) > 1 for names in patterns):
        raise click.UsageError("--idle watches one mailbox; run one fetch for each mailbox")
    several = [len(names) > 1 or bool(set("*?%") & set("".join(names))) for names in patterns]
    is_homeless = any(some and not source.to for some, source in zip(several, found, strict=True))
    if is_homeless and not (options["to_dir"] or options["pipe"] or options["to"]):
        raise click.UsageError(
            "several mailboxes: give --to-dir DIR for one mbox each, --to FILE or --pipe CMD"
        )


def _patterns(source: FetchSource, options: dict[str, Any]) -> Sequence[str]:
    usual = source.wishes.mailboxes if source.wishes is not None else ()
    return options["patterns"] or usual or ("INBOX",)


def _wishes(source: FetchSource, options: dict[str, Any]) -> "FetchWishes":
    """Return what is wanted; an option goes before the key of the account."""
    from mailtools.services.fetch.remote import FetchWishes
    from mailtools.services.submission.next_hop import Fetching

    usual = source.wishes or Fetching()
    is_told = options["keep"] or options["delete"] or options["delete_after"] is not None
    return FetchWishes(
        since=options["since"] or 0.0,
        max_size=options["max_size"] or 0,
        limit=options["limit"] or usual.limit,
        delete=options["delete"] or (not is_told and usual.delete),
        delete_after=usual.delete_after if not is_told else options["delete_after"],
        mark_seen=options["mark_seen"],
    )


def _all_at_once(found: list[FetchSource], options: dict[str, Any], report: "FetchReport") -> list[int]:
    """Fetch from all accounts at once, with a thread for each; return the exit codes of those that failed."""
    codes: list[int] = []

    def fetch(source: FetchSource) -> None:
        try:
            _fetch(source, options, report)
        except Exception as error:
            code = exits.code_for(error)
            if code is None:
                raise
            warn(f"{source.account}: {exits.sentence_for(error)}")
            codes.append(code)

    threads = [threading.Thread(target=fetch, args=(source,)) for source in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return codes


def _fetch(source: FetchSource, options: dict[str, Any], report: "FetchReport") -> None:
    """Fetch from one server. Raises MailError, OSError."""
    from mailtools.services.fetch import run

    order = run.Order(
        source.target,
        _state_target(source, options),
        _wishes(source, options),
        lambda mailbox: _sink(source, options, mailbox),
        _patterns(source, options),
        _until_stopped() if options["idle"] else None,
        options["dry_run"],
    )
    run.fetch(order, report.watch(source.account))


@cache
def _until_stopped() -> Callable[[], bool]:
    """Return a function that is True after a signal. Call this first in the main thread, which alone may
    install signal handlers.
    """
    from mailtools.system.process.signals import on_stop

    asked = threading.Event()
    on_stop(asked.set)
    return asked.is_set


def _sink(source: FetchSource, options: dict[str, Any], mailbox: str) -> "Sink":
    from mailtools.services.fetch import sinks

    if options["pipe"]:
        return sinks.PipeSink(options["pipe"])
    if options["to"] == "-":
        return sinks.StreamSink(sys.stdout.buffer.write, sys.stdout.buffer.flush, _sync_of_stdout())
    if options["to_dir"]:
        return sinks.MboxSink(sinks.beside(_mbox_in(options["to_dir"], mailbox)))
    return sinks.MboxSink(sinks.beside(_mbox(source, options)))


def _sync_of_stdout() -> Callable[[], object] | None:
    """Return what makes stdout durable if it is a file: messages are noted and deleted only then."""
    try:
        number = sys.stdout.fileno()
        is_file = stat.S_ISREG(os.fstat(number).st_mode)
    except (OSError, ValueError):
        return None
    return (lambda: os.fsync(number)) if is_file else None


def _mbox(source: FetchSource, options: dict[str, Any]) -> str:
    """Return the mbox for a source. Raises MailError."""
    path = options["to"] or source.to
    if path:
        return os.path.realpath(expand(path))
    from mailtools.system.mbox.mailroot import MailRoot

    return MailRoot(options["root"]).inbox(login_name())


def _mbox_in(folder: str, mailbox: str) -> str:
    """Return DIR/NAME.mbox; names with a hierarchy become folders. Raises ConfigurationError."""
    from mailtools.system.mbox.mailroot import file_name

    name = mailbox or "INBOX"
    try:
        parts = [file_name(part) for part in name.split("/")] if all(name.split("/")) else [file_name(name)]
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return os.path.join(os.path.realpath(expand(folder)), *parts) + ".mbox"


def _state_target(source: FetchSource, options: dict[str, Any]) -> str:
    """Return the path beside which the fetch state is kept. Raises MailError."""
    from mailtools.services.fetch.sinks import beside

    if options["to_dir"]:
        return beside(os.path.join(os.path.realpath(expand(options["to_dir"])), ""))
    if options["pipe"] or options["to"] == "-":
        inbox = _mbox(source._replace(wishes=None), dict(options) | {"to": ""})
        return os.path.join(os.path.dirname(inbox), "pipe" if options["pipe"] else "stdout")
    return beside(_mbox(source, options))
