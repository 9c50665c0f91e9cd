"""A message on its way to all its places: mboxes and programs; each recipient learns how its own went.

Knows no session: places and contents in, one outcome for each place out, when all are done.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from mailtools.core.errors import DiskFullError, LockTimeoutError, MailError
from mailtools.core.smtp.reply import Reply
from mailtools.services.addressing import Place
from mailtools.services.incoming import DISK_FULL
from mailtools.system.commit import Delivery
from mailtools.system.mboxfile import NO_ROOM, Record
from mailtools.system.programs import Job, Ran

_TEMP_FAIL = 75  # EX_TEMPFAIL of sysexits.h
_COMMAND_REFUSED = Reply(554, "5.3.0", "The recipient's program refused the message")
_COMMAND_FAILED = Reply(451, "4.3.0", "The recipient's program failed, try again later")

Failures = Mapping[Place, Reply]
Load = Record | Job[Ran]  # for an mbox, for a program


class Carriers(NamedTuple):
    """Who takes a message to its places."""

    deliver: Callable[[Delivery], None]
    run: Callable[[Job[Any]], None]
    warn: Callable[[str], None]


class Handover:
    """One message's way. *done* is called once with the places that failed, and what to say of each."""

    def __init__(self, carriers: Carriers, done: Callable[[Failures], None]) -> None:
        self._carriers = carriers
        self._done = done
        self._failures: dict[Place, Reply] = {}
        self._left = 0

    def start(self, loads: Mapping[Place, Load]) -> None:
        """Take each record to its mbox and each job to its program."""
        self._left = len(loads) + 1
        for place, load in loads.items():
            if isinstance(load, Record):
                self._carriers.deliver(Delivery(place[0], load, partial(self._stored, place)))
            else:
                self._carriers.run(load._replace(done=partial(self._ran, place)))
        self._settle()

    def _stored(self, mbox: Place, error: MailError | None) -> None:
        if error is not None:
            self._carriers.warn(f"message not stored: {error}")
            self._failures[mbox] = failure(error)
        self._settle()

    def _ran(self, pipe: Place, ran: Ran) -> None:
        if ran.code:
            self._carriers.warn(f"{pipe[0]}: failed ({ran.code}): {ran.said or 'it said nothing'}")
            is_temporary = ran.code in (-1, _TEMP_FAIL, 126, 127)  # the last two: the shell found no program
            self._failures[pipe] = _COMMAND_FAILED if is_temporary else _COMMAND_REFUSED
        self._settle()

    def _settle(self) -> None:
        self._left -= 1
        if not self._left:
            self._done(self._failures)


def worst(refusals: list[Reply], otherwise: Reply) -> Reply:
    """The one to say of several: to try again may help; *otherwise* where there is none."""
    return next((reply for reply in refusals if reply.is_transient), refusals[0]) if refusals else otherwise


def failure(error: Exception) -> Reply:
    """What the client is told: everything that stopped us may be mended, so it shall try again."""
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in NO_ROOM):
        return DISK_FULL
    if isinstance(error, LockTimeoutError):
        return Reply(451, "4.3.0", "Mailbox is locked, try again later")
    return Reply(451, "4.3.0", "Mailbox cannot be written, try again later")
