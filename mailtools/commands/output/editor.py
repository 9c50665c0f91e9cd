"""A draft in the writer's editor: edit, look, then send, edit again, keep or drop.

The draft is on disk before the editor begins, and stays there until it was sent or dropped: whatever ends
this program, a signal, the terminal's end or a kill, the text is where it was, and its path is told if there
is anybody to tell.
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
from mailtools.commands.output.print import visible, warn
from mailtools.core.errors import BadDataError, ConfigurationError, MissingInputError
from mailtools.core.message.compose import Draft
from mailtools.services.submission import drafts
from mailtools.services.submission.drafts import KeptDraft

_PLAIN = re.compile(
    r"[\w./ +@%,:-]+"
)  # words of a command: no quotes, no assignments, nothing of the shell's
_FALLBACKS = ("vi", "nano")
_PATIENCE = 2.0  # seconds that an editor has to end when we are told to


def edited(kept: KeptDraft) -> bytes:
    """Let the writer edit *kept* until it is to be sent; the message.

    Raises click's Exit where it is not: 1, nothing was sent.
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
            _say("the draft has changed since; look again")
        else:
            if choice == "d":
                kept.remove()
                _say("draft removed")
            raise click.exceptions.Exit(exits.NOTHING)


def _looked_at(kept: KeptDraft) -> tuple[Draft | None, bytes | None]:
    """What *kept* says, told in short, and the message; None for what it does not yield, told why."""
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
    """Tell whether *kept* says what was looked at: some editors return at once and write later."""
    try:
        return kept.read() == draft
    except (BadDataError, MissingInputError):
        return False


def tell(kept: KeptDraft) -> None:
    """Say where the draft is, if it still is anywhere and there is anybody to hear it."""
    if os.path.exists(kept.path):
        path = kept.path if kept.path.isprintable() and " " not in kept.path else repr(kept.path)
        with suppress(OSError):
            _say(f"the draft is kept: {kept.path}\ngo on with it: mailtools send --edit --draft {path}")


@contextmanager
def told(kept: KeptDraft) -> Iterator[None]:
    """Whatever ends the block before its end, the draft's path is told. SIGTERM and SIGHUP end it, too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup's wish stands
            signal.signal(number, _leave)
    try:
        yield
    except BaseException:
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
    """One of *letters*; the end of input keeps the draft."""
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
    """Run the editor on *path*, as the shell reads its name: it may have options. ConfigurationError."""
    editor = _editor()
    # Ctrl-C and Ctrl-\ at the terminal are the editor's: we hear them and go on. They are not
    # ignored, for the editor would inherit that.
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
        except BaseException:
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
    """What the shell runs: where it can, the shell gives way, for our signals to reach the editor itself."""
    return f'exec {editor} "$@"' if _PLAIN.fullmatch(editor) else f'trap : INT QUIT; {editor} "$@"'


def _pass(number: int, frame: FrameType | None) -> None:
    """Hear a signal and go on."""
