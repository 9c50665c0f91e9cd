"""Parses the command line of sendmail(8), as cron, mutt, git and php write it.

It does not use click, whose import takes longer than the delivery of a message. Options end at the first
address, or at ``--``, so that an address that begins with a dash is not read as an option. Options of other
sendmails that mailtools does not need are ignored; unknown options are errors.
"""

import os
from collections.abc import Callable, Mapping

from mailtools.core.errors import ConfigurationError
from mailtools.core.lean import Any
from mailtools.system.files.home import find

# Short options by kind. Those that do not affect delivery are accepted and ignored.
_WITH_VALUE = frozenset("ABCDFLMNORTVXbefhopr")
_WITHOUT = frozenset("GIUcimnstvx")
_WITH_OPTIONAL = frozenset("dq")  # the value, if any, is attached
_MODES = frozenset("mspivdD")
# Long options: name, and type of the value.
LONG: dict[str, type] = {
    "root": str, "spool": str, "domain": list, "users": str, "aliases": str, "alias-commands": bool,
    "catch-all": str, "plus-delimiter": str, "origin": str,
    "submit": str,
}  # fmt: skip


# Keys of the configuration that may say where mail for other servers goes next.
_NEXT_HOPS = frozenset(("account", "send", "host", "route"))
HAS_NEXT_HOPS = "has-next-hops"  # in what `gathered` returns: the configuration has one of these keys


class UsageError(Exception):
    """The command line is wrong."""


class Options:
    """The parsed command line of sendmail(8)."""

    def __init__(self) -> None:
        self.mode = "m"  # the letter of -b, or q for -q
        self.addresses: list[str] = []
        self.from_header = False
        self.sender: str | None = None
        self.full_name = ""
        self.notify = ""
        self.ret = ""
        self.envid = ""
        self.ignore_dots = False
        self.delivery = "b"  # the letter of -od: b in the background, i now, q queue only
        self.verbose = False
        self.config = ""
        self.long: dict[str, Any] = {}


def parse(arguments: list[str]) -> Options:
    """Read *arguments*. Raises UsageError."""
    options = Options()
    words = iter(arguments)
    for word in words:
        if word == "--":
            options.addresses += words
        elif word.startswith("--"):
            _long(options, word[2:], words)
        elif word.startswith("-") and word != "-":
            _short(options, word[1:], words)
        else:
            options.addresses += [word, *_addresses(words)]
    return options


def _addresses(words: Any) -> list[str]:
    rest = list(words)
    if rest[:1] == ["--"]:
        del rest[0]
    for word in rest:
        if word.startswith("-"):
            raise UsageError(f"{word}: options stand before addresses, and -- between them")
    return rest


def _long(options: Options, text: str, words: Any) -> None:
    name, equals, value = text.partition("=")
    kind = LONG.get(name)
    if kind is None:
        raise UsageError(f"--{name}: no such option")
    if kind is bool:
        if equals:
            raise UsageError(f"--{name} takes no value")
        options.long[name] = True
        return
    if not equals:
        following = next(words, None)
        if following is None:
            raise UsageError(f"--{name} needs a value")
        value = str(following)
    if kind is list:
        options.long.setdefault(name, []).append(value)
    else:
        options.long[name] = value


def _short(options: Options, cluster: str, words: Any) -> None:
    for at, letter in enumerate(cluster):
        rest = cluster[at + 1 :]
        if letter in _WITHOUT:
            _flag(options, letter)
        elif letter in _WITH_OPTIONAL:
            if letter == "q":
                options.mode = "q"
            return
        elif letter in _WITH_VALUE:
            value = rest or next(words, None)
            if value is None:
                raise UsageError(f"-{letter} needs a value")
            setter = _SETTERS.get(letter)
            if setter is not None:
                setter(options, value)
            return
        else:
            raise UsageError(f"-{letter}: no such option")


def _flag(options: Options, letter: str) -> None:
    if letter == "t":
        options.from_header = True
    elif letter == "i":
        options.ignore_dots = True
    elif letter == "v":
        options.verbose = True
    elif letter == "I":
        options.mode = "i"


def _mode(options: Options, value: str) -> None:
    if value == "a":  # -ba, ARPANET mode, is an old name for -bs
        value = "s"
    if value not in _MODES:
        raise UsageError(f"-b{value}: not supported")
    options.mode = value


def _sender(options: Options, value: str) -> None:
    options.sender = value


def _full_name(options: Options, value: str) -> None:
    options.full_name = value


def _config(options: Options, value: str) -> None:
    options.config = value


def _old(options: Options, value: str) -> None:
    """Apply -o, which has the letter of an option and its value."""
    if value == "i":
        options.ignore_dots = True
    elif value[:1] == "d":
        _delivery(options, value[1:2])


def _new(options: Options, value: str) -> None:
    """Apply -O, which has the name of an option and its value."""
    name, _, its = value.partition("=")
    name = name.strip().lower()
    if name == "deliverymode":
        _delivery(options, its.strip()[:1])
    elif name == "ignoredots":
        options.ignore_dots = its.strip().lower() in ("", "true", "t", "yes", "y", "1")


def _delivery(options: Options, letter: str) -> None:
    if letter in ("b", "i", "q"):
        options.delivery = letter
    elif letter == "d":  # deferred: queue without DNS lookups
        options.delivery = "q"


def _notify(options: Options, value: str) -> None:
    words = value.upper().replace(" ", "").split(",")
    if words != ["NEVER"] and not set(words) <= {"SUCCESS", "FAILURE", "DELAY"}:
        raise UsageError(f"-N {value}: write never, or some of success,failure,delay")
    options.notify = ",".join(dict.fromkeys(words))


def _ret(options: Options, value: str) -> None:
    if value.upper() not in ("FULL", "HDRS"):
        raise UsageError(f"-R {value}: write full or hdrs")
    options.ret = value.upper()


def _envid(options: Options, value: str) -> None:
    if not value.isascii() or not value.isprintable():
        raise UsageError("-V: an envelope id is printable ASCII")
    text = "".join([c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in value])
    if len(text) > 100:
        raise UsageError("-V: an envelope id has at most 100 characters")
    options.envid = text


_SETTERS: dict[str, Callable[[Options, str], None]] = {
    "b": _mode, "f": _sender, "r": _sender, "F": _full_name, "C": _config, "o": _old, "O": _new,
    "N": _notify, "R": _ret, "V": _envid,
}  # fmt: skip


# -- options from the environment and the configuration -----------------------------------------------------


def gathered(options: Options, configured: Mapping[str, Any] | None) -> dict[str, Any]:
    """Merge the long options of command line, environment and configuration. Raises ConfigurationError."""
    found = dict(_from_file(options.config) if configured is None or options.config else configured)
    for name, kind in LONG.items():
        upper = name.replace("-", "_").upper()
        value = os.environ.get(f"MAILTOOLS_SENDMAIL_{upper}")
        if value is None and name in ("root", "spool"):
            value = os.environ.get(f"MAILTOOLS_{upper}")
        if value:
            found[name] = value.split() if kind is list else _is_true(value) if kind is bool else value
    return found | options.long


def _is_true(value: str) -> bool:
    return value.lower() in ("1", "true", "t", "yes", "y", "on")


def _from_file(given: str) -> dict[str, Any]:
    """Read the options for sendmail from *given*, or from the user's and the system's configuration."""
    home = os.environ.get("XDG_CONFIG_HOME") or find("~/.config")
    usual = ["/etc/mailtools/config.toml", *([f"{home}/mailtools/config.toml"] if home else [])]
    found: dict[str, Any] = {}
    for path in [given] if given else usual:
        try:
            with open(path, "rb") as file:
                octets = file.read()
        except FileNotFoundError:
            if given:
                raise ConfigurationError(f"{path}: no such file") from None
            continue
        except OSError as error:
            if given or not isinstance(error, PermissionError | NotADirectoryError):
                raise ConfigurationError(f"{path}: {error.strerror}") from error
            continue  # cron and su may leave the home of another user in $HOME
        found |= _chosen(path, octets)
    return found


def _chosen(path: str, octets: bytes) -> dict[str, Any]:
    import tomllib

    try:
        values = tomllib.loads(octets.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    own = values.get("sendmail", {})
    if not isinstance(own, dict):
        raise ConfigurationError(f"{path}: 'sendmail' is a table: write [sendmail]")
    for key in own:
        if key not in LONG:
            raise ConfigurationError(_unknown(path, key, octets))
    # A key at the top serves every command that has the option.
    found = {key: value for key, value in (values | own).items() if key in LONG}
    for key, value in found.items():
        kind = LONG[key]
        if kind is list and isinstance(value, str):
            found[key] = [value]
        elif not isinstance(value, kind):
            raise ConfigurationError(f"{path}: {key}: not a {_KINDS[kind]}")
    if not _NEXT_HOPS.isdisjoint(values):
        found[HAS_NEXT_HOPS] = True
    return found


_KINDS: dict[type, str] = {str: "string", bool: "true or false", list: "list of strings"}


def _unknown(path: str, key: str, octets: bytes) -> str:
    from difflib import get_close_matches

    near = get_close_matches(key, LONG, 1)
    hint = f"; did you mean '{near[0]}'?" if near else ""
    lines = octets.decode().splitlines()
    start = next((n for n, line in enumerate(lines) if line.strip().startswith("[sendmail]")), 0)
    number = next(
        (n for n, line in enumerate(lines[start:], start + 1) if line.strip().startswith(key)), start + 1
    )
    return f"{path}: line {number}: unknown key 'sendmail.{key}'{hint}"
