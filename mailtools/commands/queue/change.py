"""``mailtools queue hold``, ``release``, ``retry``, ``bounce``, ``delete``: run services/queue/actions."""

import sys
from typing import Any

import click

from mailtools.commands.output import exits
from mailtools.commands.output.print import warn
from mailtools.commands.queue import _select
from mailtools.services.queue import actions
from mailtools.services.queue.actions import Action, Change


@click.command("hold")
@_select.select_options
def hold(**options: Any) -> None:
    """Keep messages back: no attempts until they are released.

    Exits 1 if nothing was changed, 66 for an unknown ID, 75 if a message is being delivered right now.

    \b
        mailtools queue hold --site example.com
    """
    _change(_select.selection(options, needed=True), actions.hold(_who()), "is on hold already")


@click.command("release")
@_select.select_options
def release(**options: Any) -> None:
    """Let messages on hold go on: they are tried when they are due.

    Exits 1 if nothing was changed, 66 for an unknown ID, 75 if a message is being delivered right now.

    \b
        mailtools queue release --all
    """
    _change(_select.selection(options, needed=True), actions.release(_who()), "is not on hold")


@click.command("retry")
@_select.select_options
def retry(**options: Any) -> None:
    """Have messages tried again now, by the run that is under way or the next one. Not those on hold.

    A message in the state bad comes back if its files are in order. Exits 1 if nothing was changed, 65 if
    files are damaged, 66 for an unknown ID, 75 if a message is being delivered right now.

    \b
        mailtools queue retry --site example.com
    """
    action = actions.retry(_who())
    _change(_select.selection(options, needed=True), action, "is on hold; release it first")


@click.command("bounce")
@_select.select_options
def bounce(**options: Any) -> None:
    """Give up messages: the remaining recipients get nothing, and the sender gets a DSN.

    The DSN goes through the queue. A message from the null sender causes no DSN. Exits 1 if nothing was
    changed, 66 for an unknown ID, 75 if a message is being delivered right now or its sender will be told
    later.

    \b
        mailtools queue bounce --older 2d --to '*@example.com'
    """
    selection = _select.selection(options, needed=True)
    _change(selection, actions.bounce(selection.spool, warn), "")


@click.command("delete")
@_select.select_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask before --all.")
def delete(yes: bool, **options: Any) -> None:
    """Remove messages from the queue and tell nobody.

    With --all it asks on a terminal; elsewhere that needs -y. Exits 1 if nothing was changed, 66 for an
    unknown ID, 75 if a message is being delivered right now.

    \b
        mailtools queue delete --from '<>' --older 1d
    """
    selection = _select.selection(options, needed=True)
    if selection.everything and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("--all removes messages for good: add -y")
        which = "the messages selected" if selection.is_narrowed else "ALL messages"
        if not click.confirm(f"Remove {which} in {selection.spool.path} and tell nobody?", err=True):
            click.get_current_context().exit(exits.NOTHING)
    _change(selection, actions.delete, "")


def _who() -> str:
    """Return the name of the operator, for the journal."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "nobody known"


def _change(selection: _select.Selection, action: Action, unfit: str) -> None:
    """Apply the action and exit. *unfit*: why a message that an ID named is not changed."""
    unknown = _select.Unknown()
    outcomes: dict[str, int] = {}

    def tell(change: Change) -> None:
        identity, outcome, why = change
        if outcome == actions.GONE:
            if selection.ids is not None:
                unknown(identity)
            return
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        if outcome == actions.BUSY:
            warn(f"{identity}: is being delivered right now; try again")
        elif outcome == actions.LATER:
            warn(f"{identity}: is given up; its sender will be told by a later run")
        elif outcome == actions.DAMAGED:
            warn(f"{identity}: {why}")
        elif outcome == actions.UNFIT and selection.ids is not None and unfit:
            warn(f"{identity}: {unfit}")

    wanted = selection.filter.predicate()
    # All are found before one is changed: a message that was moved must not be found twice.
    chosen = [(listed.entry.envelope.identity, listed.state) for listed in selection.listed(unknown)]
    actions.apply(selection.spool, chosen, action, wanted, tell)
    late = outcomes.get(actions.BUSY, 0) + outcomes.get(actions.LATER, 0)
    codes = [exits.TEMP_FAIL] * bool(late) + [exits.DATA] * bool(outcomes.get(actions.DAMAGED))
    unknown.exit(bool(outcomes.get(actions.DONE)), *codes)
