"""A draft in the user's editor: edit, check, then send, edit again, keep or drop.

The draft is on disk before the editor starts, and stays there until it is sent or dropped. Whatever ends
this program (a signal, the end of the terminal, a kill), the text is still there; if possible, the user is
told where.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import click

from mailtools.commands.output import exits
from mailtools.commands.output.print import warn
from mailtools.core.errors import BadDataError, ConfigurationError, MissingInputError
from mailtools.core.message.compose import Draft
from mailtools.core.wire.visible import visible
from mailtools.services.submission import drafts
from mailtools.services.submission.drafts import KeptDraft

_PLAIN = re.compile(
    r"[\w./ +@%,:-]+"
)  # words of a plain command: no quotes, no assignments, nothing special to the shell
_FALLBACKS = ("vi", "nano")
_PATIENCE = 2.0  # seconds that an editor has to end when we are told to end


def edited(kept: KeptDraft) -> bytes:
    """Let the user edit *kept* until it is to be sent; return the message.

    Raises click's Exit with 1 if nothing is sent.
    """
    _edit(kept.path)
    while True:
        draft, octets = _looked_at(kept)
        choice = _choice("sekd" if octets is not None else "ekd")
        if choice == "e":
            _edit(kept.path)
        elif choice == "s" and octets is not None:
            if _is_still(kept, draft):
                return octets
            _say("the draft has changed meanwhile; look at it again")
        else:
            if choice == "d":
                kept.remove()
                _say("draft removed")
            raise click.exceptions.Exit(exits.NOTHING)


def _looked_at(kept: KeptDraft) -> tuple[Draft | None, bytes | None]:
    """Read *kept* and print a summary, or what is wrong with it. Return the draft and the message.

    Either is None if it could not be made.
    """
    draft = None
    try:
        draft = kept.read()
        octets = drafts.octets_of(draft)
    except (BadDataError, MissingInputError) as error:
        warn(str(error))
        return draft, None
    _say(_summary(draft, octets))
    return draft, octets


def _is_still(kept: KeptDraft, draft: Draft | None) -> bool:
    """Return True if *kept* is what was shown: some editors return at once and write later."""
    try:
        return kept.read() == draft
    except (BadDataError, MissingInputError):
        return False


def tell(kept: KeptDraft) -> None:
    """Tell the user where the draft is, if it still exists."""
    if os.path.exists(kept.path):
        path = kept.path if kept.path.isprintable() and " " not in kept.path else repr(kept.path)
        with suppress(OSError):
            _say(f"the draft is kept: {kept.path}\ngo on with it: mailtools send --edit --draft {path}")


@contextmanager
def told(kept: KeptDraft) -> Iterator[None]:
    """Print where the draft is if an exception, SIGTERM or SIGHUP ends the block."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup asked to ignore SIGHUP
            signal.signal(number, _leave)
    try:
        yield
    except BaseException:  # Ctrl-C and SIGTERM too
        tell(kept)
        raise


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _say(text: str) -> None:
    click.echo("\n".join(visible(line) for line in text.split("\n")), err=True)


def _summary(draft: Draft, octets: bytes) -> str:
    everybody = [one.spec for one in (*draft.to, *draft.cc, *draft.bcc)]
    others = f" and {len(everybody) - 5} more" if len(everybody) > 5 else ""
    lines = [
        f"To: {', '.join(everybody[:5])}{others}",
        f"Subject: {draft.subject}" if draft.subject else "no subject",
    ]
    if not draft.text.strip():
        lines.append("no text")
    lines += [f"Attached: {one.name}, {one.type}, {len(one.octets)} octets" for one in draft.attachments]
    return "\n".join([*lines, f"{len(octets)} octets"])


_CHOICES = {"s": "[s]end", "e": "[e]dit again", "k": "[k]eep", "d": "[d]rop"}


def _choice(letters: str) -> str:
    """Ask for one of *letters*; the end of input keeps the draft."""
    question = ", ".join(_CHOICES[letter] for letter in letters) + "? "
    while True:
        click.echo(question, nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            click.echo(err=True)
            return "k"
        answer = line.strip().lower()
        for letter in letters:
            if answer and _CHOICES[letter].replace("[", "").replace("]", "").startswith(answer):
                return letter


def _editor() -> str:
    from shutil import which

    named = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    found = named or next((name for name in _FALLBACKS if which(name)), None)
    if not found:
        raise ConfigurationError("no editor here; set $VISUAL or $EDITOR to one")
    return found


def _edit(path: str) -> None:
    """Run the editor, whose name is a shell command, on *path*. Raises ConfigurationError."""
    editor = _editor()
    # Ctrl-C and Ctrl-\ at the terminal are for the editor: we catch them and continue. Ignoring them would
    # be inherited by the editor.
    before: list[tuple[signal.Signals, Any]] = [
        (number, signal.signal(number, _pass)) for number in (signal.SIGINT, signal.SIGQUIT)
    ]
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _line(editor), editor, path],
            stdout=None if sys.stdout.isatty() else sys.stderr.fileno(),
        )
        try:
            code = process.wait()
        except BaseException:  # SIGTERM too: the editor must not outlive us
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            raise
    finally:
        for number, handler in before:
            signal.signal(number, handler)
    if code:
        how = f"ended with {code}" if code > 0 else f"was ended by signal {-code}"
        raise ConfigurationError(f"the editor {editor!r} {how}; is $VISUAL or $EDITOR right?")


def _line(editor: str) -> str:
    """Return the command line for the shell.

    If possible the shell execs the editor, so that our signals reach the editor itself.
    """
    return f'exec {editor} "$@"' if _PLAIN.fullmatch(editor) else f'trap : INT QUIT; {editor} "$@"'


def _pass(number: int, frame: FrameType | None) -> None:
    """Catch a signal and continue."""
