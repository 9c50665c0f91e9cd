"""What addresses mean to `sendmail`: names of this host, and the places of their mail.

Names without a domain get ours. A mail root that begins with ``~`` is the caller's own: it takes mail for the
caller, never for another user of this host. The usual case imports only what it needs: a plain address costs
no `re`, and a user of the root no table of aliases.
"""

import os
from collections.abc import Callable, Sequence
from functools import cached_property

from mailtools.core.errors import BadDataError
from mailtools.core.lean import TYPE_CHECKING, NamedTuple
from mailtools.core.message import submission
from mailtools.system import clock
from mailtools.system.files.home import expand
from mailtools.system.mbox.mailroot import MailRoot

if TYPE_CHECKING:
    from mailtools.services.delivery.addressing import Addressing
    from mailtools.services.submission.refused import BadAddress

_MOST_NAMES = 1 << 20  # octets of a users file; a larger one is read as a server reads it


class SendmailSettings(NamedTuple):
    """The options of the configuration."""

    root: str = "~/Mail"
    spool: str = ""  # "": in the root
    domains: tuple[str, ...] = ()  # none: this host's name, and localhost
    users: str = ""  # "": ROOT/users if it is there
    aliases: str = ""
    alias_commands: bool = False
    catch_all: str = ""
    plus_delimiter: str = ""
    origin: str = ""  # the domain of names without one; "": the host's name
    submit: str = ""  # the route of a server that takes every message; "": we deliver


class User(NamedTuple):
    """The user who runs the program."""

    number: int
    name: str
    full_name: str = ""


class Places(NamedTuple):
    """The places of one recipient's mail."""

    mboxes: tuple[str, ...]
    elsewhere: tuple[str, ...] = ()  # addresses on other servers, from aliases
    has_program: bool = False


class Names:
    """The local names, and the places of their mail. *caller*: the name of the user who runs us."""

    def __init__(self, settings: SendmailSettings, caller: str, warn: Callable[[str], None]) -> None:
        self.settings = settings
        self.host = clock.host_name()
        self.origin = settings.origin or self.host
        self._caller = caller.lower() if settings.root.startswith("~") else ""  # "": any name has a mailbox
        self._warn = warn
        domains = settings.domains or (self.host, "localhost")
        self.domains = frozenset([domain.lower().removesuffix(".") for domain in domains])

    @cached_property
    def root(self) -> str:
        """The path of the mail root. Raises ConfigurationError if there is no home directory."""
        return os.path.abspath(expand(self.settings.root))

    @cached_property
    def addressing(self) -> "Addressing":
        """The addressing, opened at first use. Raises ConfigurationError."""
        from mailtools.services.delivery.addressing import AddressingSettings, open_addressing

        its = self.settings
        return open_addressing(
            AddressingSettings(
                self.root,
                its.users,
                tuple(self.domains),
                its.aliases,
                its.alias_commands,
                its.catch_all,
                its.plus_delimiter,
                owner=self._caller,
            ),
            self.host,
            self._warn,
        )

    # -- addresses -----------------------------------------------------------------------------------------

    def address(self, text: str) -> str:
        """Return *text* as local@domain: a name alone gets our domain. Raises BadDataError."""
        address = text if "@" in text else f"{text}@{self.origin}"
        if not is_mailbox(address):
            raise _no_address(text)
        return address

    def addresses(self, text: str) -> list[str]:
        """Return the addresses in an argument, separated by commas or spaces. Raises BadDataError."""
        if not text.isprintable():
            raise _no_address(text)
        if not any(char in text for char in '"():;<>'):
            return [self.address(word) for word in text.replace(",", " ").split()]
        if is_mailbox(text):
            return [text]
        from mailtools.core.message.address import addresses

        # `address.addresses` guesses what a broken header means; a guess could reach a stranger.
        is_whole = not text.replace('\\"', "").count('"') % 2 and text.count("<") == text.count(">")
        found = addresses(text) if is_whole else []
        if not is_whole or any(not one.spec for one in found):
            raise _no_address(text)
        return [self.address(one.spec) for one in found]

    def sorted_addresses(self, texts: Sequence[str]) -> "tuple[tuple[str, ...], tuple[BadAddress, ...]]":
        """Return the addresses in some arguments, and the arguments that are none."""
        good: list[str] = []
        bad: list[str] = []
        for text in texts:
            try:
                good += self.addresses(text)
            except BadDataError:
                bad.append(text)
        if not bad:
            return tuple(good), ()
        from mailtools.services.submission.refused import as_bad

        return tuple(good), tuple(map(as_bad, bad))

    def is_local(self, address: str) -> bool:
        """Return True if the domain of *address* is ours."""
        domain = address.rpartition("@")[2].lower().removesuffix(".")
        return domain in self.domains

    def places(self, address: str) -> "Places":
        """Return the places of mail for an address of ours. Raises as `Addressing.places`."""
        local, _, domain = address.lower().rpartition("@")
        if not self.settings.aliases and _is_word(local) and self._is_user(local, domain):
            return Places((MailRoot(self.root).inbox(local),))
        from mailtools.services.delivery.addressing import MboxPlace, RelayPlace

        found = self.addressing.places(address)
        mboxes = tuple([place.path for place in found if isinstance(place, MboxPlace)])
        elsewhere = tuple([place.address for place in found if isinstance(place, RelayPlace)])
        return Places(mboxes, elsewhere, len(found) > len(mboxes) + len(elsewhere))

    def _is_user(self, local: str, domain: str) -> bool:
        """Return True if *local* is certainly a user; otherwise `addressing` decides."""
        path = expand(self.settings.users) or os.path.join(self.root, "users")
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            is_any = not (self.settings.users or self.settings.plus_delimiter)
            return is_any and self._caller in ("", local)
        except OSError:
            return False
        with open(descriptor, "rb") as file:
            names = b"\n" + file.read(_MOST_NAMES).lower()
        return f"\n{local}:".encode() in names and f"\n{local}@{domain}:".encode() not in names


def _no_address(text: str) -> BadDataError:
    return BadDataError(f"not an address: {submission.readable(text)[:200]!r}; write local@domain")


def is_mailbox(address: str) -> bool:
    """Return True if *address* is local@domain. Plain addresses need no import of `re`."""
    local, _, domain = address.rpartition("@")
    if address.isascii() and all(map(_is_label, domain.split("."))) and all(map(_is_word, local.split("."))):
        return True
    from mailtools.core.queue import envelope as queue
    from mailtools.core.smtp import grammar

    return grammar.is_mailbox(address) and queue.is_safe(address)


def _is_word(text: str) -> bool:
    return text.replace("-", "").replace("_", "").replace("+", "").isalnum()


def _is_label(text: str) -> bool:
    return text.replace("-", "").isalnum() and text[0] != "-" != text[-1]
