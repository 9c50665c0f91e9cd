"""Runs `mailtools sendmail` and the program `mailtools-sendmail`: takes arguments, returns an exit code.

services/submission/sendmail stores the message in an mbox or the spool. This module imports neither click nor
anything else that storing a message does not need, because cron and php wait for every start. For the list of
the queue and a queue run it executes another command of mailtools.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from mailtools.commands.output import exits
from mailtools.commands.sendmail.options import HAS_NEXT_HOPS, Options, UsageError, gathered, parse
from mailtools.core.errors import BadDataError, MailError, MissingInputError
from mailtools.core.lean import Any, NoReturn

_PERSONALITIES = {"mailq": "p", "newaliases": "i"}
_BLOCK = 256 << 10


def main(
    arguments: list[str],
    program: str,
    mailtools: Callable[[], Any],
    configured: Mapping[str, Any] | None = None,
    config: str = "",
) -> int:
    """Run one command line of sendmail(8); return the exit code.

    *mailtools*: returns the click command `mailtools`, whose import takes time. *configured*: the options of
    the configuration, if they were read before; *config*: their file.
    """
    has_stdin = _open_closed_streams()
    try:
        options = parse(arguments)
        options.mode = _PERSONALITIES.get(os.path.basename(program), options.mode)
        found = gathered(options, configured)
        options.config = options.config or config
        return _run(options, found, has_stdin, mailtools)
    except UsageError as error:
        _say(str(error))
        return exits.USAGE
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        return exits.IO_ERROR
    except Exception as error:
        code = exits.code_for(error)
        if code is None:
            _say(f"a bug: {type(error).__name__}: {error}")
            return exits.SOFTWARE
        _say(exits.sentence_for(error))
        return code


def _open_closed_streams() -> bool:
    """Open closed standard streams as /dev/null, so that no file opened later gets their number.

    Returns True if stdin was open.
    """
    has_stdin = sys.stdin is not None
    for number, stream in enumerate((sys.stdin, sys.stdout, sys.stderr)):
        if stream is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)
    return has_stdin


def _say(text: str) -> None:
    """Print one line on stderr, without characters that act on a terminal (promise C1)."""
    shown = "".join([char if char.isprintable() else "?" for char in text])
    with suppress(OSError):
        os.write(2, f"mailtools-sendmail: {shown}\n".encode("utf-8", "replace"))


def _run(options: Options, found: dict[str, Any], has_stdin: bool, mailtools: Callable[[], Any]) -> int:
    if options.mode in ("d", "D"):
        raise UsageError("a server is another command: mailtools serve-smtp")
    if options.mode == "i":
        return exits.OK  # there is no alias database to build: the aliases file is read directly
    from mailtools.services.submission.names import SendmailSettings
    from mailtools.services.submission.sendmail import Post, no_choice

    settings = SendmailSettings(
        root=found.get("root", "~/Mail"),
        spool=found.get("spool", ""),
        domains=tuple(found.get("domain", ())),
        users=found.get("users", ""),
        aliases=found.get("aliases", ""),
        alias_commands=found.get("alias-commands", False),
        catch_all=found.get("catch-all", ""),
        plus_delimiter=found.get("plus-delimiter", ""),
        origin=found.get("origin", ""),
        submit=found.get("submit", ""),
    )
    choose = _chooser(options, mailtools) if found.get(HAS_NEXT_HOPS) else no_choice
    post = Post(settings, _user(), _say, choose)
    if options.mode == "p":
        _become(options, "queue", "list", "--mailq", *_places(post))
    if options.mode == "q":
        _become(options, "queue", "run", "--once", *_places(post), *_local(settings))
    if options.mode == "v":
        return _verify(options, post)
    if options.mode == "s":
        return _session(options, post)
    return _submit(options, post, has_stdin)


def _chooser(options: Options, mailtools: Callable[[], Any]) -> Any:
    """Return a function that reads the accounts when it has to choose one."""

    def choose(author: str) -> Any:
        from mailtools.commands.sendmail.hops import chooser

        return chooser(mailtools(), options.config)(author)

    return choose


# -- a message ----------------------------------------------------------------------------------------------


def _submit(options: Options, post: Any, has_stdin: bool) -> int:
    from mailtools.services.submission.sendmail import Submission, read_message

    try:
        recipients, bad = post.names.sorted_addresses(options.addresses)
        if bad and not recipients and not options.from_header:
            post.names.addresses(bad[0].text)  # raises: the caller reads the error, so send nothing
        given = Submission(
            recipients,
            bad,
            from_header=options.from_header,
            sender=_sender(options.sender, post),
            full_name=options.full_name,
            notify=options.notify,
            ret=options.ret,
            envid=options.envid,
        )
    except BadDataError as error:
        raise UsageError(str(error)) from None
    if not given.recipients and not given.from_header:
        raise UsageError("no recipients: name them as arguments, or take them from the header with -t")
    if not has_stdin:
        raise MissingInputError("no message: stdin is closed")
    message = read_message(_stdin(), until_dot=not options.ignore_dots)
    accepted = post.accept(message, given)
    if accepted.is_queued:
        _start_queue(options, post)
    return exits.OK


def _stdin() -> Iterator[bytes]:
    while block := os.read(0, _BLOCK):
        yield block


def _sender(text: str | None, post: Any) -> str | None:
    if text is None:
        return None
    text = text.strip()
    if text in ("", "<>"):
        return ""
    found = post.names.addresses(text)
    if len(found) != 1:
        raise BadDataError("-f takes one address")
    return str(found[0])


def _user() -> Any:
    from mailtools.services.submission.names import User

    number = os.getuid()
    try:
        import pwd

        entry = pwd.getpwuid(number)
    except KeyError:  # a uid without a name, as in containers
        return User(
            number, _plain(os.environ.get("LOGNAME") or os.environ.get("USER") or "") or f"uid{number}"
        )
    name = _plain(entry.pw_name) or f"uid{number}"
    return User(number, name, entry.pw_gecos.partition(",")[0].replace("&", name.capitalize()))


def _plain(name: str) -> str:
    """Return *name* if it can be a local part without quotes, else ""."""
    return name if name.isascii() and name.translate(_MARKS).isalnum() and name[0] != "." != name[-1] else ""


_MARKS = str.maketrans("._-", "aaa")


def _session(options: Options, post: Any) -> int:
    from mailtools.services.submission.sendmail_smtp import SendmailSession

    session = SendmailSession(post)
    try:
        session.run(lambda size: os.read(0, size), _write)
    finally:
        if session.queued:
            _start_queue(options, post)
    return exits.OK


def _write(octets: bytes) -> None:
    while octets:
        octets = octets[os.write(1, octets) :]


def _verify(options: Options, post: Any) -> int:
    """Print where mail for each address goes (-bv)."""
    from mailtools.services.delivery.failures import explained

    code = exits.OK
    if not options.addresses:
        raise UsageError("-bv: name the addresses to look at")
    for text in options.addresses:
        try:
            for address in post.names.addresses(text):
                if post.settings.submit:
                    line = f"{address}... deliverable: by the server at {post.settings.submit}"
                elif post.names.is_local(address):
                    places = post.names.addressing.places(address)
                    how = ", ".join([" ".join(map(str, place)) for place in places]) or "thrown away"
                    line = f"{address}... deliverable: local, {how}"
                else:
                    line = f"{address}... deliverable: by the queue"
                _write(_printable(line))
        except MailError as error:
            _write(_printable(f"{text}... undeliverable: {explained(error)}"))
            code = exits.NO_USER
    return code


def _printable(line: str) -> bytes:
    return ("".join([c if c.isprintable() else "?" for c in line]) + "\n").encode("utf-8", "replace")


# -- the queue ----------------------------------------------------------------------------------------------


def _places(post: Any) -> list[str]:
    root = post.settings.root  # as written: one that begins with ~ has the caller as its only user
    return ["--root", root if root.startswith("~") else post.names.root, "--spool", post.spool.path]


def _local(settings: Any) -> list[str]:
    words = [word for domain in settings.domains for word in ("--domain", domain)]
    for name in ("users", "aliases", "catch_all", "plus_delimiter"):
        if value := getattr(settings, name):
            words += [f"--{name.replace('_', '-')}", value]
    return words + ["--alias-commands"] * settings.alias_commands


def _command(options: Options, *words: str) -> list[str]:
    # -P: a folder "mailtools" in the caller's working directory must not be imported.
    before = ["-C", options.config] if options.config else []
    return [sys.executable, "-P", "-m", "mailtools", *before, *words]


def _become(options: Options, *words: str) -> NoReturn:
    """Replace this process by another command of mailtools."""
    command = _command(options, *words)
    os.execv(command[0], command)


def _start_queue(options: Options, post: Any) -> None:
    """Deliver what was queued: at once (-odi), in the background (-odb), or not here (-odq)."""
    if options.delivery == "q":
        return
    has_runner = getattr(post.spool, "has_runner", None)
    if options.delivery == "b" and has_runner is not None and has_runner():
        return
    words = ["queue", "run", "--once", *_places(post), *_local(post.settings)]
    in_front = options.delivery == "i"
    try:
        number = _spawn(_command(options, *words), is_apart=not in_front)
        if in_front:
            os.waitpid(number, 0)
    except OSError as error:  # not fatal: the next queue run finds the message in the spool
        _say(f"queued, but no delivery could be started: {error.strerror}")


def _spawn(command: list[str], is_apart: bool) -> int:
    """Start *command* with /dev/null as stdin and stdout; return its process id.

    *is_apart*: also as stderr, and in a session of its own, so that no caller waits for it. Other inherited
    descriptors are not passed on, because a pipe of cron would stay open until the delivery ends.
    """
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        if int(name) > 2:
            try:
                os.set_inheritable(int(name), False)
            except OSError:  # the closed descriptor of listdir
                continue
    actions = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
    if not is_apart:
        del actions[2]  # the caller sees the errors on stderr
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=is_apart)
