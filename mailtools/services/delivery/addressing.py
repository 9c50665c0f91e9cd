"""Where the mail of an address goes: domains, aliases, users, postmaster, catch-all.

Takes an address; returns places, or raises an error of delivery/failures. It never relays by accident:
whatever the local part is, the domain behind the last @ must be ours (RFC 5321 Appendix F.2; promise R9).
Knows no session, and writes nothing but users' folders.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mailtools.core.errors import ConfigurationError, PolicyError, TemporaryError, UnknownRecipientError
from mailtools.core.smtp import grammar
from mailtools.services.delivery.failures import AliasLoopError, BrokenAliasError
from mailtools.system.files.home import expand
from mailtools.system.mbox.mailroot import MailRoot

if TYPE_CHECKING:  # without a users file and aliases none of these is imported
    from mailtools.core.message.aliases import Aliases, AliasTarget
    from mailtools.system.files.watched import Watched
    from mailtools.system.users.users_file import Users

POSTMASTER = "postmaster"
_MOST_PLACES = 1000  # places of one recipient
_LARGEST_INCLUDE = 1 << 20  # octets
_DEEPEST = 50  # levels of aliases that lead to aliases


class MboxPlace(NamedTuple):
    """A file that gets a copy."""

    path: str


class PipePlace(NamedTuple):
    """A program that gets a copy."""

    command: str


class RelayPlace(NamedTuple):
    """An address on another server: the copy goes into the spool, and from there to that server."""

    address: str


Place = MboxPlace | PipePlace | RelayPlace


class AddressingSettings(NamedTuple):
    """The options that say who gets mail here."""

    root: str
    users: str | None = None  # the path of the users file; None or "": ROOT/users if it exists
    domains: Sequence[str] = ()  # see `open_addressing`
    aliases: str = ""  # the aliases file
    alias_commands: bool = False
    catch_all: str = ""
    plus_delimiter: str = ""
    mbox: str = ""  # one mbox for the mail of all users
    relays: bool = True
    owner: str = ""  # the only user of a root without a users file; "": every name is a user

    @property
    def users_file(self) -> str:
        """The path of the users file; "" if there is none, and users are not known by name."""
        if self.users:
            return expand(self.users)
        usual = os.path.join(MailRoot(self.root).path, "users")
        return usual if os.path.exists(usual) else ""


class _Found(NamedTuple):
    """What was found while following aliases.

    An alias is expanded once: else some would double at every step.
    """

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
    catch_all: str = ""  # the user who gets mail for names that do not exist
    plus_delimiter: str = ""
    relays: bool = False  # aliases may name addresses elsewhere
    owner: str = ""  # without users: the only name that has a mailbox; "": every name has one

    def places(self, recipient: str) -> tuple[Place, ...]:
        """Return the places of mail for *recipient*; () if it is discarded on purpose.

        Raises an error with an enhanced status code if the recipient is refused (delivery/failures), and
        MailError without one, or OSError, if a file of ours cannot be used.
        """
        local, domain = grammar.split_mailbox(recipient)
        if not self.is_ours(domain):
            raise PolicyError("Relaying denied: not a domain of this server").coded("5.7.1")
        if self.aliases is None:
            return (self._user(local, domain),)
        found = _Found({}, set())
        self._expand(local, domain, (), found)
        return tuple(found.places)

    def knows_name(self, name: str) -> bool:
        """Return True if *name*, without a domain, may be a user or an alias of this server."""
        if self.users is not None or name.lower() in (POSTMASTER, "root"):
            return True
        return self.aliases is not None and name.lower() in self.aliases.value()

    def is_ours(self, domain: str) -> bool:
        """Return True if *domain* is one of this server's."""
        return not self.domains or not domain or domain in self.domains

    # -- users ---------------------------------------------------------------------------------------------

    def _user(self, local: str, domain: str) -> MboxPlace:
        name = self._user_name(local, domain)
        if not name:
            if self.users is not None and self.users.is_unsettled:
                raise TemporaryError("The list of users is being changed, try again later").coded("4.3.0")
            raise self._no_user()
        if self.mbox:
            return MboxPlace(self.mbox)
        try:
            return MboxPlace(self.root.inbox(name))
        except ValueError:
            raise self._no_user() from None

    def _no_user(self) -> UnknownRecipientError:
        why = f", only {self.owner}" if self.users is None and self.owner else ""
        return UnknownRecipientError(f"No such user here{why}").coded("5.1.1")

    def _user_name(self, local: str, domain: str) -> str:
        """Return the user who gets mail for *local*; "" if nobody does."""
        if self.users is None:
            name = self._base(local.lower())
            return name if self.owner in ("", name) else self.catch_all.lower()
        known = self.users.by_name()
        for name in self._names(local):
            if domain and f"{name}@{domain}" in known:
                return f"{name}@{domain}"
            if name in known and "@" not in name:  # a name with a domain is only for that domain
                return name
        if self.catch_all:
            return self.catch_all.lower()
        return POSTMASTER if self._names(local)[-1] == POSTMASTER else ""

    def _names(self, local: str) -> tuple[str, ...]:
        """Return the names to look up: *local*, then *local* without its tag."""
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
        """Follow aliases. A name that comes up again means the user of that name, which ends the loop."""
        assert self.aliases is not None
        if len(found.places) > _MOST_PLACES or len(seen) > _DEEPEST:
            why = f"alias {seen[0]}: leads to more places, or deeper, than can be followed"
            raise BrokenAliasError(why)
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
        except (UnknownRecipientError, TemporaryError) as refused:
            if not seen:
                raise
            if local.lower() in seen:
                raise AliasLoopError(f"aliases {' -> '.join(seen)} -> {local}: a loop") from None
            raise BrokenAliasError(f"alias {seen[-1]}: {local}: {refused}") from None

    def _follow(self, target: "AliasTarget", seen: tuple[str, ...], found: _Found) -> None:
        from mailtools.core.message.aliases import AliasAddress, BadTarget, Command, Include

        if isinstance(target, BadTarget):
            raise BrokenAliasError(f"alias {seen[-1]}: {target.text!r}: {target.why}")
        if isinstance(target, AliasAddress):
            local, domain = grammar.split_mailbox(target.text)
            if not self.is_ours(domain):
                if not self.relays:
                    why = (
                        f"alias {seen[-1]}: {target.text}: mail for other servers cannot be sent on from here"
                    )
                    raise BrokenAliasError(f"{why}; --relay lets it")
                found.places[RelayPlace(target.text)] = None
                return
            (self._final if target.is_final else self._expand)(local, domain, seen, found)
        elif isinstance(target, Include):
            self._include(target.path, seen, found)
        elif isinstance(target, Command):
            if not self.commands:
                raise BrokenAliasError(f"alias {seen[-1]}: a program, and --alias-commands is not given")
            found.places[PipePlace(target.text)] = None
        elif target.path != "/dev/null":
            if target.path.endswith("/"):
                raise BrokenAliasError(f"alias {seen[-1]}: {target.path}: Maildirs cannot be written")
            # As root no link is followed: a user could make it lead to the file of another (system/mbox).
            path = os.path.abspath(target.path) if os.geteuid() == 0 else os.path.realpath(target.path)
            found.places[MboxPlace(path)] = None

    def _include(self, path: str, seen: tuple[str, ...], found: _Found) -> None:
        """Follow the targets in a file. They may be addresses, but neither files nor programs."""
        from mailtools.core.message.aliases import Command, File, parse_include
        from mailtools.system.files.watched import read_text

        mark = f":include:{path}"
        if mark in seen:
            raise AliasLoopError(f"aliases {' -> '.join(seen)} -> {mark}: a loop")
        if mark in found.expanded:
            return
        found.expanded.add(mark)
        try:
            targets = parse_include(read_text(path, _LARGEST_INCLUDE), grammar.is_mailbox)
        except OSError as error:
            raise BrokenAliasError(f"alias {seen[-1]}: {path}: {error.strerror}") from None
        for target in targets:
            if isinstance(target, File | Command):
                raise BrokenAliasError(f"{path}: an included file names addresses only")
            self._follow(target, (*seen, mark), found)


def open_addressing(
    settings: AddressingSettings, host: str, warn: Callable[[str], None], anybody: bool = False
) -> Addressing:
    """Open the users file and the aliases of *settings*. *anybody*: without a users file.

    If no domains are named, *host* and localhost are ours; every domain is if there are neither users nor
    relaying. Raises ConfigurationError.
    """
    path = "" if anybody else settings.users_file
    users = None
    if path:
        from mailtools.system.users.users_file import Users

        users = Users(path, warn)
    domains = frozenset([domain.lower().removesuffix(".") for domain in settings.domains])
    if not domains and (users is not None or settings.relays):
        domains = frozenset({host.lower(), "localhost"})
    return Addressing(
        MailRoot(settings.root),
        os.path.realpath(expand(settings.mbox)) if settings.mbox else "",
        domains,
        users,
        open_aliases(settings.aliases, warn) if settings.aliases else None,
        settings.alias_commands,
        settings.catch_all,
        settings.plus_delimiter,
        settings.relays,
        settings.owner,
    )


def open_aliases(path: str, warn: Callable[[str], None]) -> "Watched[Aliases]":
    """Return the aliases in the file *path*, read again when it changes. Raises ConfigurationError."""
    from mailtools.core.message.aliases import parse
    from mailtools.system.files.watched import Watched

    return Watched(path, "aliases file", lambda text: parse(text, grammar.is_mailbox), warn)


def check_catch_all(name: str, users: "Users | None") -> None:
    """Check that the catch-all user *name* exists. Raises ConfigurationError."""
    if name and users is not None and users.find(name) is None:
        raise ConfigurationError(
            f"--catch-all {name}: no such user; make one with: mailtools user add {name}"
        )
