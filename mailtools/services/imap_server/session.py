"""An IMAP session: the login, the selected mailbox, and who does the work of each command.

Each connection has one `ImapSession`, which answers the engine's questions. What touches the disk is done by
a worker, and the question is answered later; a locked mbox is tried again after a pause. Messages are read
while they are sent, in the loop, one after the other. What the commands do is in `mailboxes` (names), in
`selected` (messages), `fetch` and `search`. This module knows no socket.
"""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from mailtools.core.auth.sasl import CheckDigest, CheckPassword, FindKeys, LoginFailed
from mailtools.core.engine import Question
from mailtools.core.errors import BadDataError, DiskFullError, LockTimeoutError, MailError
from mailtools.core.imap import commands, events
from mailtools.core.imap.events import CommandOutcome, ImapRefusal
from mailtools.core.imap.metadata import SetMetadata
from mailtools.core.imap.notify import Notify
from mailtools.core.imap.server import ImapServerEngine
from mailtools.services.imap_server.fetch import UNKNOWN_CTE
from mailtools.services.imap_server.mailboxes import Mailboxes
from mailtools.services.imap_server.news import News
from mailtools.services.imap_server.opened import OpenMailboxes
from mailtools.services.imap_server.selected import Selected, append
from mailtools.services.transit.mbox_form import MboxIntake
from mailtools.services.users.login import Logins
from mailtools.system import clock
from mailtools.system.mbox.changes import FileWatch
from mailtools.system.mbox.mailroot import MailRoot
from mailtools.system.mbox.mailtree import MailboxError, MailTree
from mailtools.system.process.pool import Run

A = TypeVar("A")

_LOOK_AGAIN = 0.05  # seconds between two attempts to lock an mbox
_PATIENCE = 10.0  # seconds until such attempts end
_LOCKED_LOOK = 0.1  # seconds until a look for news is tried again that could not be done
_SETTLE, _SETTLE_LARGE = 10.0, 600.0  # seconds after a change until the mbox has it
_LARGE = 64 << 20  # octets of an mbox
_BLOCK = 256 << 10  # octets of responses that are made together
_BUSY = CommandOutcome("NO", "the server is busy, try again later", "UNAVAILABLE")
_GONE = CommandOutcome("NO", "the mailbox is gone")
_CHANGES_OTHERS = (
    commands.Create, commands.DeleteMailbox, commands.Rename, commands.Subscribe, SetMetadata,
    commands.Copy,
)  # fmt: skip
_MOVES_WATCHES = (Notify, commands.Select, commands.Leave, *_CHANGES_OTHERS)
_LOCKED = CommandOutcome("NO", "another program has locked the mailbox, try again later", "INUSE")


class ImapPorts(NamedTuple):
    """What the sessions of a server share."""

    root: MailRoot
    run: Run
    log: Callable[[str], None]
    warn: Callable[[str], None]
    later: Callable[[float, Callable[[], None]], Any]
    opened: OpenMailboxes
    watch: Callable[[str, Callable[[], None]], FileWatch] | None = None  # `Changes.watch`; None: tell no news


class ImapSession:
    """The decisions of one session. *resume* is called after a question was answered later."""

    def __init__(
        self,
        engine: ImapServerEngine,
        logins: Logins,
        peer: str,
        ports: ImapPorts,
        resume: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._logins = logins
        self._login = logins.client(peer)
        self._peer = peer
        self._ports = ports
        self._resume = resume
        self._user = ""
        self._mailboxes: Mailboxes | None = None
        self._selected: Selected | None = None
        self._responses: Iterator[bytes] = iter(())  # what is still to be sent of an answer
        self._made: CommandOutcome | None = None  # the next of them
        self._asked: events.MoreWanted | None = None  # the engine waits for them
        self._jobs: deque[Callable[[], None]] = deque()  # what begins the tasks that wait
        self._is_working = False  # a worker has the selected mailbox
        self._is_settling = False  # a settling is planned
        self._is_lost = False
        self._is_ended = False
        self._watches: dict[str, FileWatch] = {}  # files that tell of news
        self._news = News()
        self._is_look_due = False  # one waits for a worker
        self._appends: list[tuple[commands.AppendMessage, MboxIntake]] = []  # the messages that APPEND sends
        self._append_error: MailError | OSError | None = None
        engine.mechanisms = self._mechanisms

    def handle(self, event: Any) -> None:
        """Handle *event*. A question is answered now, or later if that takes time."""
        _HANDLERS[type(event)](self, event)

    def lost(self) -> None:
        """Give up what waits for the client alone."""
        self._is_lost = True
        self._login.leave()

    def _mechanisms(self) -> tuple[str, ...]:
        engine = self._engine
        return self._logins.mechanisms(self._peer, engine.is_secure, bool(engine.bindings))

    def _answer_later(self, question: Question[A], value: A) -> None:
        self._engine.answer(question, value)
        self._resume()

    # -- logging in ----------------------------------------------------------------------------------------

    def _check_password(self, question: CheckPassword | CheckDigest) -> None:
        self._login.check(question, lambda is_right: self._answer_later(question, is_right))

    def _find_keys(self, question: FindKeys) -> None:
        self._login.find_keys(question, lambda found: self._answer_later(question, found))

    def _login_failed(self, event: LoginFailed) -> None:
        self._login.failed()
        who = self._peer or "a local client"
        self._ports.warn(f"login of {event.user!r} from {who} failed: {event.reason}")

    def _logged_in(self, question: events.UserWanted) -> None:
        self._login.succeeded()
        self._user = self._logins.user_of(question.user)

        def opened(tree: MailTree | None) -> None:
            if tree is None:
                self._answer_later(question, ImapRefusal("the mailboxes cannot be opened", "SERVERBUG"))
                return
            self._mailboxes = Mailboxes(tree, self._ports.opened)
            self._ports.log(f"login of {self._user!r} from {self._peer or 'a local client'}")
            self._answer_later(question, None)

        self._ports.run(self._open_tree, opened, self._user)

    def _open_tree(self) -> MailTree | None:
        import os

        try:
            return MailTree(os.path.dirname(self._ports.root.inbox(self._user)))
        except (MailError, OSError, ValueError) as error:
            self._ports.warn(f"the mailboxes of {self._user!r} cannot be opened: {error}")
            return None

    # -- work ----------------------------------------------------------------------------------------------

    def _execute(self, question: events.Execute) -> None:
        def answer(outcome: CommandOutcome) -> None:
            if self._news.is_wanted and isinstance(question.command, _MOVES_WATCHES):
                self._watch()
            self._answer(question, outcome)

        self._work(lambda: self._done(question.command), answer)

    def _work(
        self,
        task: Callable[[], CommandOutcome],
        done: Callable[[CommandOutcome], None],
        patience: float = _PATIENCE,
    ) -> None:
        """Let a worker do *task*, after the tasks before it; while it finds the mbox locked, again later.

        *patience*: seconds until *done* is told that it is locked.
        """
        deadline = clock.monotonic() + patience

        def begin() -> None:
            self._ports.run(lambda: self._safely(task), came, self._user)

        def came(outcome: CommandOutcome | None) -> None:
            if outcome is _LOCKED and clock.monotonic() < deadline and not (self._is_lost or self._is_ended):
                self._ports.later(_LOOK_AGAIN, begin)
                return
            self._is_working = False
            if self._is_ended:
                self._leave_at_end()
                return
            done(outcome or _BUSY)
            self._next_job()

        self._jobs.append(begin)
        self._next_job()

    def _next_job(self) -> None:
        """Begin the next task, unless one is under way: two would share the selected mailbox."""
        if self._jobs and not self._is_working:
            self._is_working = True
            self._jobs.popleft()()

    def _safely(self, task: Callable[[], CommandOutcome]) -> CommandOutcome:
        """Do *task*, in a worker; never raises."""
        try:
            return self._begun(task())
        except LockTimeoutError:
            return _LOCKED
        except MailboxError as error:
            if error.code == "UIDVALIDITY" or (error.code == "NONEXISTENT" and self._is_gone()):
                return _GONE
            return CommandOutcome("NO", str(error), error.code)
        except DiskFullError:
            return CommandOutcome("NO", "no room on the disk", "OVERQUOTA")
        except BadDataError as error:
            return CommandOutcome("NO", str(error), "CANNOT")
        except (MailError, OSError) as error:
            self._ports.warn(f"a mailbox of {self._user!r}: {error}")
            return CommandOutcome("NO", "the mailbox cannot be read or written", "SERVERBUG")

    def _begun(self, outcome: CommandOutcome) -> CommandOutcome:
        """*outcome* with the first of its responses made, and all of them if they are few."""
        if isinstance(outcome.untagged, tuple):
            return outcome
        first = self._some(outcome.untagged)
        if len(first) < _BLOCK:
            return outcome._replace(untagged=(first,), is_raw=True)
        return outcome._replace(untagged=chain((first,), outcome.untagged))

    @staticmethod
    def _some(responses: Iterator[bytes]) -> bytes:
        """The next responses, of `_BLOCK` octets or more; fewer only at the end."""
        pieces, size = list[bytes](), 0
        for octets in responses:
            pieces.append(octets)
            size += len(octets)
            if size >= _BLOCK:
                break
        return b"".join(pieces)

    def _is_gone(self) -> bool:
        return self._selected is not None and not self._its.tree.exists(self._selected.name)

    def _answer(self, question: "Question[CommandOutcome]", outcome: CommandOutcome) -> None:
        if outcome is _GONE:
            self._engine.close_with(421, "", "the mailbox is gone or has other UIDs: select it again")
            self._resume()
            return
        if not isinstance(outcome.untagged, tuple):
            self._responses = iter(outcome.untagged)
        self._answer_later(question, outcome)
        self._settle_later()

    def _more(self, question: events.MoreWanted) -> None:
        """Give the next responses, and let a worker make those that follow."""
        self._asked = question
        if self._made is None:
            self._make_more()
        else:
            self._give()

    def _make_more(self) -> None:
        responses = self._responses

        def came(outcome: CommandOutcome) -> None:
            self._made = outcome
            if self._asked is not None:
                self._give()
                self._resume()

        if not self._is_working:
            self._work(lambda: CommandOutcome("OK", "", untagged=(self._some(responses),)), came)

    def _give(self) -> None:
        question, outcome = self._asked, self._made
        assert question is not None
        assert outcome is not None
        self._asked = self._made = None
        if outcome.code == UNKNOWN_CTE:
            self._engine.answer(question, outcome)
            return
        if outcome.status != "OK" or not isinstance(outcome.untagged, tuple):
            self._engine.close_with(421, "", "the mailbox cannot be read")
            return
        octets = b"".join(outcome.untagged)
        if octets:
            self._make_more()
        self._engine.answer(question, octets or None)

    @property
    def _its(self) -> Mailboxes:
        assert self._mailboxes is not None  # the engine asks only after the login
        return self._mailboxes

    def _done(self, command: commands.Command) -> CommandOutcome:
        """Do *command*, in a worker."""
        if isinstance(command, commands.Select):
            return self._select(command)
        if isinstance(command, commands.Leave):
            return self._leave(command.expunges)
        if isinstance(command, Notify):
            return self._news.begin(self._its, command, self._selected)
        if isinstance(command, _CHANGES_OTHERS):
            return self._news.quietly(self._selected, lambda: self._do(command))
        return self._do(command)

    def _do(self, command: commands.Command) -> CommandOutcome:
        found = self._selected.do(command) if self._selected is not None else None
        return found or self._its.do(command)

    def _select(self, command: commands.Select) -> CommandOutcome:
        self._leave(False)
        self._selected = selected = Selected(
            self._its, command.mailbox, command.is_read_only, self._engine.enabled
        )
        mode = "READ-ONLY" if command.is_read_only else "READ-WRITE"
        resynced = selected.resynced(command.resync) if command.resync is not None else ()
        return CommandOutcome("OK", "selected", mode, (*selected.opening(), *resynced))

    def _leave(self, expunges: bool) -> CommandOutcome:
        selected = self._selected
        if selected is not None:
            if expunges:
                selected.expunge_silently()
            selected.settle()
            self._selected = None
            selected.close()
        return CommandOutcome("OK", "closed")

    # -- APPEND --------------------------------------------------------------------------------------------

    def _append_start(self, question: events.AppendStart) -> None:
        command = question.command
        try:
            is_there = self._its.tree.exists(command.mailbox)
            beside = self._its.tree.mbox(command.mailbox)
        except MailboxError as error:
            self._engine.answer(question, ImapRefusal(str(error), error.code))
            return
        if not is_there:
            self._engine.answer(question, ImapRefusal("there is no such mailbox", "TRYCREATE"))
            return
        if not question.is_further:
            self._appends, self._append_error = [], None
        self._appends.append((command, MboxIntake(beside=beside)))
        self._engine.answer(question, None)

    def _append_chunk(self, event: events.AppendChunk) -> None:
        if self._append_error is not None:
            return
        try:
            self._appends[-1][1].take(event.octets)
        except (MailError, OSError) as error:
            self._append_error = error

    def _append_end(self, question: events.AppendEnd) -> None:
        appends, self._appends = self._appends, []
        error = self._append_error
        try:
            for _, intake in appends:
                intake.end()
        except (MailError, OSError) as problem:
            error = error or problem

        def task() -> CommandOutcome:
            if error is not None:
                raise error
            outcome = self._news.quietly(self._selected, lambda: append(self._its, appends, clock.now()))
            return self._selected.with_news(outcome) if self._selected is not None else outcome

        self._work(task, lambda outcome: self._answer(question, outcome))

    # -- news, and what the mbox gets later ----------------------------------------------------------------

    def _idle_begun(self, event: events.IdleBegun) -> None:
        self._watch()
        self._look()

    def _idle_ended(self, question: events.IdleEnded) -> None:
        """Let a look that is under way tell first: after the answer the client may use sequence numbers."""

        def ended(outcome: CommandOutcome | None) -> None:
            self._answer_later(question, None)
            self._watch()

        if self._is_working:
            self._work(lambda: CommandOutcome("OK", ""), ended)
        else:
            ended(None)

    def _watch(self) -> None:
        """Watch the files that tell of news for a client that idles or gave NOTIFY, and no others."""
        if self._ports.watch is None:
            return
        wanted = set[str]()
        if self._mailboxes is not None and not self._is_ended:
            wanted = self._news.files(self._mailboxes, self._selected, self._engine.is_idle)
        for path in self._watches.keys() - wanted:
            self._watches.pop(path).close()
        for path in wanted - self._watches.keys():
            self._watches[path] = self._ports.watch(path, self._look)

    def _look(self) -> None:
        """Let a worker look for news, unless a look waits for one already."""
        is_told = self._engine.is_idle or self._news.is_wanted
        if self._is_look_due or not is_told or self._is_ended:
            return

        def look() -> CommandOutcome:
            self._is_look_due = False  # what changes from now on needs another look
            found = self._news.due(self._selected, self._engine.is_idle)
            return CommandOutcome("OK", "", untagged=tuple(found))

        def told(outcome: CommandOutcome) -> None:
            if outcome is _GONE:
                self._engine.close_with(421, "", "the mailbox is gone")
            elif outcome.status != "OK":
                self._is_look_due = False
                self._ports.later(_LOCKED_LOOK, self._look)
            elif isinstance(outcome.untagged, tuple) and outcome.untagged:
                self._engine.push(b"".join(outcome.untagged))
            self._watch()
            self._resume()

        def again() -> None:
            self._is_look_due = False
            self._look()

        self._is_look_due = True
        if self._engine.in_transaction and not self._engine.is_idle:  # responses are on their way
            self._ports.later(_LOOK_AGAIN, again)
        else:
            self._work(look, told, 0.0)  # the client need not wait for what locks the mbox

    def _settle_later(self) -> None:
        """Write states into the mbox some seconds after a change, if the mailbox is still selected then."""
        selected = self._selected
        if selected is None or not selected.is_due or self._is_settling:
            return

        def settle() -> CommandOutcome:
            if selected is self._selected and selected.is_due:
                selected.settle()
            return CommandOutcome("OK", "")

        def begin() -> None:
            self._is_settling = False
            if selected is self._selected and not self._is_ended:
                if self._is_working or self._engine.in_transaction:
                    self._is_settling = True
                    self._ports.later(_LOOK_AGAIN, begin)
                else:
                    self._work(settle, lambda outcome: None)

        self._is_settling = True
        self._ports.later(_SETTLE if selected.octets < _LARGE else _SETTLE_LARGE, begin)

    def _ended(self, event: events.SessionEnded) -> None:
        self._is_ended = True
        self._watch()
        if not self._is_working:
            self._leave_at_end()

    def _leave_at_end(self) -> None:
        self._jobs.clear()
        selected, self._selected = self._selected, None
        if selected is None:
            return

        def leave() -> CommandOutcome:
            try:
                selected.settle()
            finally:
                selected.close()
            return CommandOutcome("OK", "")

        self._ports.run(lambda: self._safely(leave), lambda outcome: None, self._user)


_HANDLERS: dict[type, Callable[[ImapSession, Any], None]] = {
    CheckPassword: ImapSession._check_password,
    CheckDigest: ImapSession._check_password,
    FindKeys: ImapSession._find_keys,
    LoginFailed: ImapSession._login_failed,
    events.UserWanted: ImapSession._logged_in,
    events.Execute: ImapSession._execute,
    events.MoreWanted: ImapSession._more,
    events.AppendStart: ImapSession._append_start,
    events.AppendChunk: ImapSession._append_chunk,
    events.AppendEnd: ImapSession._append_end,
    events.IdleBegun: ImapSession._idle_begun,
    events.IdleEnded: ImapSession._idle_ended,
    events.SessionEnded: ImapSession._ended,
}
