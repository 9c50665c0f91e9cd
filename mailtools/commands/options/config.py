"""The configuration file: TOML, a table for each command, a key for each option.

``root = "/srv/mail"`` at the top applies to every command that has the option; ``[send] host = "..."`` to
one command; ``[mbox.list] sort = "date"`` to a command in a group; ``[account.NAME]`` is an account to send
by. An unknown key is an error that names its line and the nearest known name.
"""

import os
import re
from typing import TYPE_CHECKING, Any

import click

from mailtools.commands.options.common import DURATION
from mailtools.core.errors import ConfigurationError
from mailtools.system.files.home import find

if TYPE_CHECKING:
    from mailtools.services.submission.next_hop import Account

ACCOUNTS = "mailtools.accounts"  # key of Context.meta


def load(ctx: click.Context, path: str | None) -> dict[str, Any]:
    """Read the configuration; return Click's default_map.

    *path*: the only file that is read. Without it: the user's file and the system's; a key or an account of
    the user's comes before that of the system's. Raises ConfigurationError if a file cannot be read, is no
    TOML, or has an unknown key.
    """
    found: dict[str, Any] = {}
    known: dict[str, Account] = {}
    for place in reversed([path] if path else list(filter(os.path.exists, _places()))):
        values, raw = _parsed(place)
        reader = _Reader(place, raw)
        known |= reader.accounts(values.pop("account", {}))
        found = _merged(found, reader.group(ctx.command, ctx, values, ()))
    ctx.meta[ACCOUNTS] = known
    return found


def _parsed(path: str) -> tuple[dict[str, Any], str]:
    """Return the values in a file, and its text. Raises ConfigurationError."""
    import tomllib

    try:
        with open(path, "rb") as file:
            raw = file.read().decode()
        return tomllib.loads(raw), raw
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error


def _merged(usual: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return *usual* with the values of *given* in place of its own, table by table."""
    merged = usual | given
    for key, value in given.items():
        if isinstance(value, dict) and isinstance(usual.get(key), dict):
            merged[key] = _merged(usual[key], value)
    return merged


def accounts(ctx: click.Context) -> dict[str, "Account"]:
    """Return the accounts of the configuration, by name."""
    found: dict[str, Account] = ctx.meta.get(ACCOUNTS, {})
    return found


def _places() -> list[str]:
    home = os.environ.get("XDG_CONFIG_HOME") or find("~/.config")
    return [*([f"{home}/mailtools/config.toml"] if home else []), "/etc/mailtools/config.toml"]


_LISTS = ("from", "mailbox")  # keys of an account with one or several texts
_FETCH_KEYS: dict[str, click.ParamType[Any]] = {
    "fetch": click.STRING, "fetch-to": click.STRING, "limit": click.IntRange(1), "delete": click.BOOL,
    "delete-after": DURATION,
}  # fmt: skip


class _Reader:
    """Reads one file: checks its names against the commands and applies the common keys to them."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.lines = text.splitlines()

    def group(
        self, group: click.Command, ctx: click.Context, values: dict[str, Any], where: tuple[str, ...]
    ) -> dict[str, Any]:
        assert isinstance(group, click.Group)
        names = group.list_commands(ctx)
        common = {key: value for key, value in values.items() if not isinstance(value, dict)}
        result: dict[str, Any] = {}
        commands = {name: group.get_command(ctx, name) for name in names} if values else {}
        known = _keys(group) | set().union(*(_all_keys(c, ctx) for c in commands.values() if c))
        for key in common:
            self._check(key, known, where)
        result.update({_param(group, key): common[key] for key in common if key in _keys(group)})
        for key, value in values.items():
            if isinstance(value, dict):
                self._check(key, set(names), where, table=True)
        for name, command in commands.items():
            if command is None:
                continue
            own = values.get(name)
            own = own if isinstance(own, dict) else {}  # `mbox` is both a table of commands and an option
            usable = {key: common[key] for key in common if key in _all_keys(command, ctx)} | own
            if isinstance(command, click.Group):
                result[name] = self.group(command, ctx, usable, (*where, name))
                continue
            for key in own:
                self._check(key, _keys(command), (*where, name))
            result[name] = {_param(command, key): usable[key] for key in usable}
        return result

    def accounts(self, tables: Any) -> dict[str, "Account"]:
        """Return the accounts of ``[account.NAME]``, checked. Raises ConfigurationError."""
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise ConfigurationError(f"{self.path}: an account is a table: [account.NAME]")
        return {name: self._account(name, table) for name, table in tables.items()}

    def _account(self, name: str, table: dict[str, Any]) -> "Account":
        from mailtools.commands.options.dial import account_keys
        from mailtools.services.submission.next_hop import Account, Fetching, HopSettings

        where = ("account", name)
        kinds = account_keys() | _FETCH_KEYS
        for key in table:
            self._check(key, {*_LISTS, *kinds}, where)
        senders, mailboxes = (self._list(name, key, table.get(key, [])) for key in _LISTS)
        keys: dict[str, Any] = {}
        for key, value in table.items():
            if key not in _LISTS:
                try:
                    keys[key.replace("-", "_")] = _converted(kinds[key], value)
                except (click.BadParameter, ConfigurationError) as error:
                    line = self._line(key, where, False)
                    why = error.message if isinstance(error, click.BadParameter) else error
                    if key.endswith("-command"):  # it may hold a password
                        why = "write a string"
                    raise ConfigurationError(
                        f"{self.path}: line {line}: account.{name}.{key}: {without_login(str(why))}"
                    ) from None
        usual = Fetching()
        fetching = Fetching(
            keys.pop("fetch", ""),
            keys.pop("fetch_to", ""),
            mailboxes,
            *(keys.pop(key, getattr(usual, key)) for key in ("limit", "delete", "delete_after")),
        )
        return Account(name, senders, HopSettings(**keys), fetching)

    def _list(self, account: str, key: str, value: Any) -> tuple[str, ...]:
        """Return the texts of a key that has one or several. Raises ConfigurationError."""
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ConfigurationError(
                f"{self.path}: account.{account}.{key} is a string, or a list of strings"
            )
        return tuple(texts)

    def _check(self, key: str, known: set[str], where: tuple[str, ...], table: bool = False) -> None:
        if key in known:
            return
        from difflib import get_close_matches

        near = get_close_matches(key, known, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        kind = "table" if table else "key"
        full = ".".join((*where, key))
        raise ConfigurationError(
            f"{self.path}: line {self._line(key, where, table)}: unknown {kind} '{full}'{hint}"
        )

    def _line(self, key: str, where: tuple[str, ...], table: bool) -> int:
        """Return the line of *key*, which tomllib does not give: search from the head of its table on."""
        header = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(re.escape(w) for w in (*where, key)))
        plain = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]")
        start = 0
        if where and not table:
            opening = re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(re.escape(w) for w in where) + r"\s*\]")
            start = next((n for n, line in enumerate(self.lines) if opening.match(line)), 0)
        for number, line in enumerate(self.lines[start:], start + 1):
            if (header if table else plain).match(line):
                return number
        return start + 1


def _converted(kind: click.ParamType[Any], value: Any) -> Any:
    """Convert a value as the option of the same name does, but only from the TOML type that fits."""
    if isinstance(value, bool) and kind is click.BOOL:
        return value
    if kind is click.BOOL:
        raise click.BadParameter(f"{value!r} is neither true nor false")
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise click.BadParameter(f"{value!r} is neither a string nor a number")
    if isinstance(value, str) is isinstance(kind, click.IntRange):
        raise click.BadParameter(f"{value!r} has the wrong type")
    return kind.convert(value, None, None)


def without_login(text: str) -> str:
    """Return *text* without the logins of the URLs in it: these may be passwords."""
    return re.sub(r"//[^/\s]*@", "//***@", text)


def _keys(command: click.Command) -> set[str]:
    """Return the long names of the options of *command*, without dashes."""
    return {
        name.lstrip("-")
        for param in command.params
        for name in (*param.opts, *param.secondary_opts)
        if name.startswith("--")
    } - {"version", "help"}


def _all_keys(command: click.Command, ctx: click.Context) -> set[str]:
    if not isinstance(command, click.Group):
        return _keys(command)
    inner = (command.get_command(ctx, name) for name in command.list_commands(ctx))
    return _keys(command).union(*(_all_keys(c, ctx) for c in inner if c))


def _param(command: click.Command, key: str) -> str:
    """Return the name under which Click keeps a default: ``max-size`` -> ``max_size``, ``json`` ->
    ``as_json``.
    """
    return next(p.name or key for p in command.params if f"--{key}" in (*p.opts, *p.secondary_opts))
