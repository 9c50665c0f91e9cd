"""Whose mail is it, and where does it go: domains, aliases, users, postmaster, catch-all.

An address in, places out, or a refusal in SMTP's words. Never a relay: whatever stands before the last @, the
domain behind it has to be ours (RFC 5321 Appendix F.; promise R9). Knows no session and writes nothing but
users' folders.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp import grammar
from mailtools.core.smtp.reply import Reply
from mailtools.system.mbox.mailroot import MailRoot

if TYPE_CHECKING:  # a message to a user of a host without users file and aliases needs none of them
    from mailtools.core.message.aliases import Aliases, AliasTarget
    from mailtools.system.files.watched import Watched
    from mailtools.system.users.users_file import Users

POSTMASTER = "postmaster"
_MOST_PLACES = 1000  # of one recipient
_LARGEST_INCLUDE = 1 << 20  # octets
_DEEPEST = 50  # aliases that lead to aliases
_NO_USER = Reply(550, "5.1.1", "No such user here")
_NOT_NOW = Reply(451, "4.3.0", "The list of users is being changed, try again later")
_NO_RELAY = Reply(550, "5.7.1", "Relaying denied: not a domain of this server")
_BROKEN = Reply(451, "4.3.5", "An alias here cannot be followed, try again later")
_LOOP = Reply(554, "5.4.6", "The aliases of this recipient lead nowhere")


class RefusedRecipientError(Exception):
    """A recipient is not welcome; holds the reply."""

    def __init__(self, reply: Reply, why: str = "") -> None:
        super().__init__(why or reply.text)
        self.reply = reply
        self.is_our_fault = bool(why)


class MboxPlace(NamedTuple):
    """A file that gets a copy."""

    path: str


class PipePlace(NamedTuple):
    """A program that gets a copy."""

    command: str


class RelayPlace(NamedTuple):
    """An address elsewhere: its copy goes into the spool, and from there to its server."""

    address: str


Place = MboxPlace | PipePlace | RelayPlace


class _Found(NamedTuple):
    """What following aliases has found so far. Each is expanded once: some double at every step."""

    places: dict[Place, None]
    expanded: set[str]


class Addressing(NamedTuple):
    """Who gets mail here, and where it goes."""

    root: MailRoot
    mbox: str = ""  # all users' mail into this one mbox
    domains: frozenset[str] = frozenset()  # empty: any
    users: "Users | None" = None  # None: any
    aliases: "Watched[Aliases] | None" = None
    commands: bool = False  # aliases may name programs
    catch_all: str = ""  # the user who gets what nobody else does
    plus_delimiter: str = ""
    relays: bool = False  # aliases may name addresses elsewhere

    def places(self, recipient: str) -> tuple[Place, ...]:
        """Where *recipient*'s mail goes; () where it is thrown away on purpose.

        Raises RefusedRecipientError, MailError or OSError.
        """
        local, domain = grammar.split_mailbox(recipient)
        if not self.is_ours(domain):
            raise RefusedRecipientError(_NO_RELAY)
        if self.aliases is None:
            return (self._user(local, domain),)
        found = _Found({}, set())
        self._expand(local, domain, (), found)
        return tuple(found.places)

    def is_ours(self, domain: str) -> bool:
        """Tell whether *domain* is one of this server's."""
        return not self.domains or not domain or domain in self.domains

    # -- users ---------------------------------------------------------------------------------------------

    def _user(self, local: str, domain: str) -> MboxPlace:
        name = self._user_name(local, domain)
        if not name:
            unsettled = self.users is not None and self.users.is_unsettled
            raise RefusedRecipientError(_NOT_NOW if unsettled else _NO_USER)
        if self.mbox:
            return MboxPlace(self.mbox)
        try:
            return MboxPlace(self.root.inbox(name))
        except ValueError:
            raise RefusedRecipientError(_NO_USER) from None

    def _user_name(self, local: str, domain: str) -> str:
        """The user who gets mail for *local*; "" where nobody does."""
        if self.users is None:
            return self._base(local.lower())
        known = self.users.by_name()
        for name in self._names(local):
            if domain and f"{name}@{domain}" in known:
                return f"{name}@{domain}"
            if name in known and "@" not in name:  # a name with a domain counts for that domain
                return name
        if self.catch_all:
            return self.catch_all.lower()
        return POSTMASTER if self._names(local)[-1] == POSTMASTER else ""

    def _names(self, local: str) -> tuple[str, ...]:
        """What to look up: the name itself, then without its tag."""
        name = local.lower()
        base = self._base(name)
        return (name,) if base == name else (name, base)

    def _base(self, name: str) -> str:
        if not self.plus_delimiter:
            return name
        at = min((at for mark in self.plus_delimiter if (at := name.find(mark)) > 0), default=len(name))
        return name[:at]

    # -- aliases -------------------------------------------------------------------------------------------

    def _expand(self, local: str, domain: str, seen: tuple[str, ...], found: _Found) -> None:
        """Follow aliases; a name that is met again stands for the user of that name (it broke the loop)."""
        assert self.aliases is not None
        if len(found.places) > _MOST_PLACES or len(seen) > _DEEPEST:
            why = f"alias {seen[0]}: leads to more places, or deeper, than can be followed"
            raise RefusedRecipientError(_BROKEN, why)
        table = self.aliases.value()
        name = next((name for name in self._names(local) if name in table and name not in seen), "")
        if not name:
            self._final(local, domain, seen, found)
        elif name not in found.expanded:
            found.expanded.add(name)
            for target in table[name]:
                self._follow(target, (*seen, name), found)

    def _final(self, local: str, domain: str, seen: tuple[str, ...], found: _Found) -> None:
        try:
            found.places[self._user(local, domain)] = None
        except RefusedRecipientError as refused:
            if not seen:
                raise
            if local.lower() in seen:
                raise RefusedRecipientError(
                    _LOOP, f"aliases {' -> '.join(seen)} -> {local}: a loop"
                ) from None
            why = f"alias {seen[-1]}: {local}: {refused}"
            raise RefusedRecipientError(_BROKEN, why) from None

    def _follow(self, target: "AliasTarget", seen: tuple[str, ...], found: _Found) -> None:
        from mailtools.core.message.aliases import AliasAddress, Command, Include

        if isinstance(target, AliasAddress):
            local, domain = grammar.split_mailbox(target.text)
            if not self.is_ours(domain):
                if not self.relays:
                    why = (
                        f"alias {seen[-1]}: {target.text}: mail for other servers cannot be sent on from here"
                    )
                    raise RefusedRecipientError(_BROKEN, f"{why}; --relay lets it")
                found.places[RelayPlace(target.text)] = None
                return
            (self._final if target.is_final else self._expand)(local, domain, seen, found)
        elif isinstance(target, Include):
            self._include(target.path, seen, found)
        elif isinstance(target, Command):
            if not self.commands:
                raise RefusedRecipientError(
                    _BROKEN, f"alias {seen[-1]}: a program, and --alias-commands is not given"
                )
            found.places[PipePlace(target.text)] = None
        elif target.path != "/dev/null":
            if target.path.endswith("/"):
                raise RefusedRecipientError(
                    _BROKEN, f"alias {seen[-1]}: {target.path}: Maildirs cannot be written"
                )
            found.places[MboxPlace(os.path.realpath(target.path))] = None

    def _include(self, path: str, seen: tuple[str, ...], found: _Found) -> None:
        """Targets out of a file: who may write it may name addresses, but no files and programs of ours."""
        from mailtools.core.message.aliases import Command, File, parse_include
        from mailtools.system.files.watched import read_text

        mark = f":include:{path}"
        if mark in seen:
            raise RefusedRecipientError(_LOOP, f"aliases {' -> '.join(seen)} -> {mark}: a loop")
        if mark in found.expanded:
            return
        found.expanded.add(mark)
        try:
            targets = parse_include(read_text(path, _LARGEST_INCLUDE))
        except OSError as error:
            raise RefusedRecipientError(_BROKEN, f"alias {seen[-1]}: {path}: {error.strerror}") from None
        for target in targets:
            if isinstance(target, File | Command):
                raise RefusedRecipientError(_BROKEN, f"{path}: an included file names addresses only")
            self._follow(target, (*seen, mark), found)


def open_aliases(path: str, warn: Callable[[str], None]) -> "Watched[Aliases]":
    """Raises ConfigurationError."""
    from mailtools.core.message.aliases import parse
    from mailtools.system.files.watched import Watched

    return Watched(path, "aliases file", parse, warn)


def check_catch_all(name: str, users: "Users | None") -> None:
    """Raises ConfigurationError where nobody would read what *name* gets."""
    if name and users is not None and users.find(name) is None:
        raise ConfigurationError(
            f"--catch-all {name}: no such user; make one with: mailtools user add {name}"
        )
