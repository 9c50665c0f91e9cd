"""The entry point: a lazy table of commands, the options that all of them share, and the exit code.

A command's module is imported only when the command runs, because start-up is part of the run time.
"""

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn

# Imports create objects that stay. To collect garbage among them takes 8 % of a short command's run time.
gc.set_threshold(50_000, 20, 50)

import click  # noqa: E402

from mailtools import __version__  # noqa: E402
from mailtools.commands.lazy_group import LazyGroup  # noqa: E402
from mailtools.commands.output import exits  # noqa: E402

# Name -> module and short help. The help is here so that `mailtools --help` imports no command.
COMMANDS = {
    "fetch": ("mailtools.commands.fetch", "Fetch mail over POP3 or IMAP into an mbox."),
    "mbox": ("mailtools.commands.mbox.group", "Read and filter mbox files."),
    "queue": ("mailtools.commands.queue.group", "Look at queued mail, change it, deliver it."),
    "send": ("mailtools.commands.send", "Send a message, or every message of an mbox, over SMTP."),
    "sendmail": ("mailtools.commands.sendmail.command", "Take a message as /usr/sbin/sendmail does."),
    "serve-imap": ("mailtools.commands.serve_imap", "Let mail programs read and order mbox files over IMAP."),
    "serve-pop3": ("mailtools.commands.serve_pop3", "Let mail programs read mbox files over POP3."),
    "serve-smtp": ("mailtools.commands.serve_smtp", "Receive mail over SMTP into mbox files."),
    "user": ("mailtools.commands.user", "Add, change, delete, list and check users."),
}


def _load_config(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    from mailtools.commands.options.config import load

    ctx.default_map = load(ctx, value)
    return value


@click.command(
    cls=LazyGroup,
    table=COMMANDS,
    context_settings={
        "auto_envvar_prefix": "MAILTOOLS",
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
    },
)
@click.option("-C", "config", metavar="FILE", callback=_load_config, help="Read the configuration from FILE.")
@click.option("-v", "verbose", count=True, help="Say more; twice: with tracebacks.")
@click.option("-q", "quiet", is_flag=True, help="Say only what went wrong.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="Colour on a terminal; NO_COLOR is obeyed.",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="The form of a server's log lines on stderr.",
)
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def command(
    ctx: click.Context, config: str | None, verbose: int, quiet: bool, color: str, log_format: str
) -> None:
    """E-mail as Unix commands over plain mbox files."""
    ctx.color = {"always": True, "never": False}.get(color)
    if ctx.color is None and os.environ.get("NO_COLOR"):
        ctx.color = False
    ctx.obj = {"verbosity": -1 if quiet else verbose, "log_format": log_format}


def main(args: list[str] | None = None) -> NoReturn:
    """Run one command line and exit with its code; only ``-vv`` shows a traceback."""
    argv = sys.argv[1:] if args is None else args
    _open_closed_streams()
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        code = _closed_pipe()
    except (KeyboardInterrupt, click.Abort):
        code = exits.INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = exits.USAGE
    except Exception as error:
        code = _report(error, traceback="-vv" in argv)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open /dev/null for streams that the caller closed (``>&-``): else an mbox or socket would get their
    numbers.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - as long as the process


def run() -> NoReturn:
    """Run `main` as a process: flush the output, then exit without dismantling the interpreter.

    That would take 8 ms, a sixth of a short command. The system closes files, and threads that write are
    joined by their users.
    """
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else exits.OK
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _run(argv: list[str]) -> int:
    """Do what `command.main` does, which would treat a closed pipe as a failure."""
    if "_MAILTOOLS_COMPLETE" in os.environ:
        command.main(argv, prog_name="mailtools")
    try:
        with command.make_context("mailtools", argv) as ctx:
            command.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    return exits.OK


def _closed_pipe() -> int:
    """Exit quietly when the reader of our output has enough, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.OK


def _report(error: Exception, traceback: bool) -> int:
    if traceback:
        import traceback as tb

        tb.print_exception(error)
    from mailtools.commands.output.print import warn

    code = exits.code_for(error)
    if code is None:
        warn(f"a bug: {type(error).__name__}: {error} (run again with -vv for the traceback)")
        return exits.SOFTWARE
    warn(exits.sentence_for(error))
    return code
