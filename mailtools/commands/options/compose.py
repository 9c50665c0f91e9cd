"""The options that compose a message: they make a draft, read its text, and perhaps start an editor."""

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from mailtools.core.errors import BadDataError, ConfigurationError
from mailtools.system.files import sources

if TYPE_CHECKING:
    from mailtools.core.message.address import Address
    from mailtools.core.message.compose import Draft
    from mailtools.services.submission.drafts import KeptDraft

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

# the names of an option, and its settings for Click
_OPTIONS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("-s", "--subject"), {"metavar": "TEXT", "help": "Compose a message with this subject."}),
    (("--to",), {"metavar": "A", "multiple": True, "help": "A recipient; the arguments ADDR are added."}),
    (("--cc",), {"metavar": "A", "multiple": True, "help": "A recipient of a copy."}),
    (
        ("--bcc",),
        {"metavar": "A", "multiple": True, "help": "A recipient of a copy whom the others do not see."},
    ),
    (
        ("--from", "from_"),
        {"metavar": "A", "envvar": "MAILTOOLS_SEND_FROM", "help": "The author.  [default: $EMAIL]"},
    ),
    (("--reply-to",), {"metavar": "A", "help": "The address for replies."}),
    (
        ("--header", "headers"),
        {"metavar": "'NAME: VALUE'", "multiple": True, "help": "Add a header field; repeatable."},
    ),
    (
        ("-b", "text"),
        {"metavar": "TEXT|@FILE", "help": "The text, or a file with the text.  [default: stdin]"},
    ),
    (("-a", "--attach"), {"metavar": "FILE", "multiple": True, "help": "Attach a file; repeatable."}),
    (("--html",), {"metavar": "FILE", "help": "The text as HTML, in addition to the plain text."}),
    (
        ("--edit",),
        {
            "is_flag": True,
            "help": "Write the message in $VISUAL or $EDITOR; its lines 'Attach: FILE' attach files.",
        },
    ),
    (("--draft",), {"metavar": "FILE", "help": "Send a kept draft; with --edit, edit it first."}),
    (("--reply-to-message",), {"metavar": "MBOX:N", "help": "Reply to message N of an mbox, and quote it."}),
    (("--reply-all",), {"is_flag": True, "help": "With --reply-to-message: reply to all recipients."}),
    (("--forward",), {"metavar": "MBOX:N", "help": "Forward message N of an mbox as an attachment."}),
)
_MAKING = (
    "subject", "to", "cc", "bcc", "headers", "text", "attach", "html", "edit", "draft", "reply_to_message",
    "forward",
)  # fmt: skip
_ABSENT = (None, (), False)  # stands for an option that was not given


def compose_options(function: F) -> F:
    """Add the options that compose a message, under the names that `composed` reads."""
    for names, settings in reversed(_OPTIONS):
        function = click.option(*names, **settings)(function)
    return function


class Composed:
    """A composed message, and its draft if there is one on disk.

    A context manager: if the block ends before `sent` was called, the user is told where the draft is.
    """

    def __init__(self, octets: bytes, kept: "KeptDraft | None" = None) -> None:
        self.octets = octets  # LF, with Bcc
        self._kept = kept

    def sent(self) -> None:
        """Note that the message is sent or queued to all recipients: remove the draft."""
        if self._kept is not None:
            self._kept.remove()
            self._kept = None

    def __enter__(self) -> "Composed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept is not None:
            from mailtools.commands.output import editor

            editor.tell(self._kept)


def composed(options: dict[str, Any], ctx: click.Context) -> Composed | None:
    """Return the message that the options describe; None if stdin is the message.

    *options*: those of `compose_options`, and ``recipients``, the arguments ADDR. With ``--edit`` the
    editor runs here. Raises click's UsageError and Exit, MailError, OSError.
    """
    if all(options[name] in _ABSENT for name in _MAKING):
        _refuse_alone(options, ctx)
        return None
    _check(options)
    if options["edit"]:
        return _in_the_editor(options)
    from mailtools.services.submission import drafts

    draft = _draft(options)
    if not draft.has_recipients:
        raise click.UsageError("no recipients; name them as arguments, or with --to, --cc or --bcc")
    if options["draft"] is not None:
        return Composed(drafts.octets_of(_retold(draft, options)), drafts.kept_at(options["draft"]))
    if _is_to_be_typed(options):
        return _typed(draft)
    draft = _with_text(draft, _read_body(options))
    return Composed(drafts.octets_of(draft))


def _refuse_alone(options: dict[str, Any], ctx: click.Context) -> None:
    """Refuse options that have no effect on a message that is sent as it is, unless the configuration file
    gives them.
    """
    for name, flag in (("from_", "--from"), ("reply_to", "--reply-to"), ("reply_all", "--reply-all")):
        if options[name] and ctx.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            with_ = "--reply-to-message MBOX:N" if name == "reply_all" else "-s SUBJECT or --edit"
            raise click.UsageError(f"{flag} belongs to a composed message; give {with_} with it")


def _check(options: dict[str, Any]) -> None:
    bases = [
        f"--{name.replace('_', '-')}" for name in ("draft", "reply_to_message", "forward") if options[name]
    ]
    if len(bases) > 1:
        raise click.UsageError(f"{' and '.join(bases)} exclude each other")
    if options["reply_all"] and not options["reply_to_message"]:
        raise click.UsageError("--reply-all needs --reply-to-message MBOX:N")
    if options.get("mbox"):
        raise click.UsageError("--mbox sends existing messages; leave out the options that compose one")
    if options["edit"] and not sources.stdin_is_terminal():
        raise click.UsageError("--edit needs a terminal on stdin; give the text with -b @FILE instead")


# -- the draft -----------------------------------------------------------------------------------------------


def _usage(make: Callable[..., T], *arguments: Any) -> T:
    """Turn errors of option values into usage errors."""
    try:
        return make(*arguments)
    except BadDataError as error:
        raise click.UsageError(str(error)) from error


def _draft(options: dict[str, Any]) -> "Draft":
    """Return the draft without the text that is still to be read."""
    from mailtools.core.message import compose, encode
    from mailtools.services.submission import drafts

    draft = _base(options)
    for key in ("to", "cc", "bcc"):
        given = [(f"--{key}", text) for text in options[key]]
        if key == "to":
            given += [("ADDR", text) for text in options["recipients"]]
        found = [one for what, text in given for one in _usage(compose.mailboxes, what, text)]
        draft = draft.plus(key, found)
    if options["reply_to"]:
        draft = draft._replace(reply_to=_usage(compose.mailboxes, "--reply-to", options["reply_to"]))
    if options["subject"] is not None:
        draft = draft._replace(subject=_usage(encode.plain, "--subject", options["subject"]))
    for line in options["headers"]:
        draft = _usage(drafts.with_header, draft, line)
    if options["html"] is not None:
        draft = draft._replace(html=drafts.html(options["html"]))
    return draft._replace(attachments=(*draft.attachments, *map(drafts.attachment, options["attach"])))


def _base(options: dict[str, Any]) -> "Draft":
    from mailtools.core.message import reply
    from mailtools.core.message.compose import Draft
    from mailtools.services.submission import drafts

    if options["draft"] is not None:
        draft = drafts.opened(options["draft"])
        return draft._replace(from_=(_writer(options),)) if options["from_"] else draft
    me = _writer(options)
    if options["reply_to_message"] is not None:
        original = drafts.message_of(options["reply_to_message"])
        return reply.reply(original, me, options["reply_all"], drafts.own_specs())
    if options["forward"] is not None:
        return reply.forward(drafts.message_of(options["forward"]), me)
    return Draft(from_=(me,))


def _writer(options: dict[str, Any]) -> "Address":
    from mailtools.core.message import compose, encode
    from mailtools.services.submission import drafts

    if options["from_"]:
        people = _usage(compose.mailboxes, "--from", options["from_"])
        if len(people) != 1:
            raise click.UsageError("--from: a message has one writer; write one address")
        return people[0]
    me = drafts.own_address()
    if not encode.is_spec(me.spec):
        raise ConfigurationError(f"{me.spec!r} is not a valid address for From; give --from, or set $EMAIL")
    return me


# -- the text ------------------------------------------------------------------------------------------------


def _with_text(draft: "Draft", text: str) -> "Draft":
    """Return *draft* with *text* below its quote; if it has only HTML, with the text of the HTML."""
    from mailtools.services.submission import drafts

    if draft.html and not text.strip():
        text = drafts.text_of_html(draft.html)
    return draft._replace(text=f"{draft.text}{text}")


def _is_to_be_typed(options: dict[str, Any]) -> bool:
    return options["text"] is None and options["html"] is None and sources.stdin_is_terminal()


def _read_body(options: dict[str, Any]) -> str:
    """Return the text of -b, else of stdin."""
    from mailtools.services.submission import drafts

    given: str | None = options["text"]
    if given is None:
        if options["edit"] or options["draft"] or sources.stdin_is_terminal():
            return ""
        return _stdin()
    if given == "@-":
        return _stdin()
    if given.startswith("@"):
        return drafts.body(drafts.read_file(given[1:]))
    return drafts.body(os.fsencode(given))


def _stdin() -> str:
    from mailtools.services.submission import drafts

    octets = sys.stdin.buffer.read(drafts.MAX_FILE + 1)
    if len(octets) > drafts.MAX_FILE:
        raise BadDataError(f"standard input: more than {drafts.MAX_FILE >> 20} MiB of text; send a link")
    return drafts.body(octets)


def _retold(draft: "Draft", options: dict[str, Any]) -> "Draft":
    """Return a draft that has its text, or gets it from -b."""
    return draft if options["text"] is None else draft._replace(text=_read_body(options))


def _typed(draft: "Draft") -> Composed:
    """Read the text that a person types. It is kept until the message is sent."""
    from mailtools.commands.output import editor
    from mailtools.services.submission import drafts

    click.echo("Type the text; a line of one dot, or Ctrl-D, ends it.", err=True)
    lines: list[bytes] = []
    try:
        while (line := sys.stdin.buffer.readline()) and line.strip(b"\r\n") != b".":
            lines.append(line)
    except KeyboardInterrupt:
        if lines:
            editor.tell(drafts.keep(_with_text(draft, drafts.body(b"".join(lines)))))
        raise
    kept = drafts.keep(_with_text(draft, drafts.body(b"".join(lines))))
    with editor.told(kept):
        return Composed(drafts.octets_of(kept.read()), kept)


def _in_the_editor(options: dict[str, Any]) -> Composed:
    from mailtools.commands.output import editor
    from mailtools.services.submission import drafts

    if options["draft"] is None:
        kept = drafts.keep(_with_text(_draft(options), _read_body(options)))
    else:
        kept = drafts.kept_at(options["draft"]) or drafts.copied(options["draft"])
        # The draft's header may be broken: it is parsed only if an option changes it.
        others = {*_MAKING, "recipients", "from_", "reply_to"} - {"draft", "edit"}
        if any(options[name] not in _ABSENT for name in others):
            kept.write(_retold(_draft(options), options))
    with editor.told(kept):
        return Composed(editor.edited(kept), kept)
