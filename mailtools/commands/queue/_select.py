"""What the commands of ``mailtools queue`` share: which messages are meant, and the exit code."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import click

from mailtools.commands.options.common import DURATION, root_option, spool_option, spool_path
from mailtools.commands.output import exits
from mailtools.commands.output.print import warn
from mailtools.core.queue.store import ACTIVE, BAD, DEFERRED, HOLD, INCOMING, Listed
from mailtools.services.queue.listing import Filter
from mailtools.system.spool.spool import Spool

F = TypeVar("F", bound=Callable[..., Any])

_LONGEST = 1000  # octets of a line of ids


def select_options(function: F) -> F:
    """Add the argument ID... and the options that select."""
    for option in reversed(
        (
            click.argument("ids", metavar="[ID]...", nargs=-1),
            click.option("--all", "everything", is_flag=True, help="All messages."),
            click.option(
                "--from",
                "sender",
                metavar="GLOB",
                help="Messages whose sender matches GLOB; <> is the null sender.",
            ),
            click.option(
                "--to",
                "recipient",
                metavar="GLOB",
                help="Messages with a waiting recipient that matches GLOB.",
            ),
            click.option(
                "--site", metavar="DOMAIN", default="", help="Messages with a waiting recipient at DOMAIN."
            ),
            click.option(
                "--state",
                type=click.Choice([INCOMING, ACTIVE, DEFERRED, HOLD, BAD]),
                help="Messages in this state.",
            ),
            click.option(
                "--older", metavar="DUR", type=DURATION, help="Messages that arrived longer ago than DUR."
            ),
            root_option,
            spool_option,
        )
    ):
        function = option(function)
    return function


class Selection(NamedTuple):
    """The selection that the options ask for."""

    spool: Spool
    ids: tuple[str, ...] | None  # None: no ID was given
    filter: Filter
    everything: bool  # --all

    @property
    def is_narrowed(self) -> bool:
        """True if an option selects."""
        return self.filter != Filter()

    def listed(self, unknown: Callable[[str], None]) -> Iterator[Listed]:
        """Yield the selected messages. *unknown* is called with ids that are not in the queue."""
        wanted = self.filter.predicate()
        if self.ids is None:
            yield from filter(wanted, self.spool.query())
            return
        for identity in self.ids:
            found = False
            for listed in self.spool.query([identity]):
                found = True
                if wanted(listed):
                    yield listed
            if not found:
                unknown(identity)


def selection(options: Mapping[str, Any], needed: bool = False) -> Selection:
    """Return the selection. *needed*: it may not be empty. Raises UsageError."""
    given = Filter(
        options["sender"],
        options["recipient"],
        options["site"],
        options["state"] or "",
        options["older"] or 0.0,
    )
    ids = options["ids"]
    if ids and options["everything"]:
        raise click.UsageError("--all and an ID: give one of them")
    if needed and not ids and not options["everything"] and given == Filter():
        raise click.UsageError("which messages? give an ID, --all, or an option that selects")
    chosen = tuple(dict.fromkeys(ids_of(ids))) if ids else None
    return Selection(spool_of(options), chosen, given, options["everything"])


def spool_of(options: Mapping[str, Any]) -> Spool:
    """Return the spool that the options name."""
    return Spool(spool_path(options), warn)


def ids_of(given: Iterable[str]) -> Iterator[str]:
    """Return the ids; - stands for those on standard input, one on each line."""
    for one in given:
        if one != "-":
            yield one
            continue
        while line := sys.stdin.buffer.readline(_LONGEST):
            if text := line.decode("ascii", "replace").strip():
                yield text


class Unknown:
    """Reports ids that are not in the queue, and remembers that there were some."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, identity: str) -> None:
        self.count += 1
        warn(f"{identity}: not in the queue; mailtools queue list shows what is")

    def exit(self, some: bool, *codes: int) -> None:
        """Exit. *some*: messages were found."""
        unknown = exits.NO_INPUT if self.count else exits.OK
        nothing = exits.OK if some or self.count or any(codes) else exits.NOTHING
        click.get_current_context().exit(exits.worst([*codes, unknown, nothing]))
