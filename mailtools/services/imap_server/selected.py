"""Commands about the messages of the selected mailbox: FETCH, STORE, SEARCH, COPY, MOVE, EXPUNGE.

Called by a worker; what FETCH responds is read while it is sent. All methods raise MailboxError, MailError
and OSError.
"""

from collections.abc import Callable, Collection, Iterator, Sequence, Set
from contextlib import suppress
from itertools import chain
from typing import Any

from mailtools.core.errors import MailError
from mailtools.core.imap import commands, facts, sorting, threads
from mailtools.core.imap.events import CommandOutcome
from mailtools.core.imap.fetch_items import MODSEQ
from mailtools.core.imap.grammar import sets
from mailtools.core.imap.notify import EventGroup
from mailtools.core.imap.search_keys import has_modseq
from mailtools.core.imap.sorting import Sortable
from mailtools.core.mbox.state import DELETED, OLD, SEEN
from mailtools.core.mbox.states import States
from mailtools.services.imap_server import fetch, search
from mailtools.services.imap_server.mailboxes import Mailboxes
from mailtools.services.imap_server.view import BITS, View
from mailtools.services.mailbox.mailbox import Mailbox, NewMessage
from mailtools.services.transit import mbox_form
from mailtools.services.transit.mbox_form import MboxIntake
from mailtools.system.files.buffer import Buffer
from mailtools.system.mbox.appending import NewRecord
from mailtools.system.mbox.mailtree import MailboxError

_LARGEST_UID = 0xFFFF_FFFF
_LOOKED_AT = 1000  # messages that SORT looks at, then other sessions of the mailbox go on
_AT_ONCE = 250  # messages that COPY appends with one lock and one sync
_IS_SEEN = bytes(bool(flags & SEEN) for flags in range(256))


class Selected:
    """The mailbox *name* as one session sees it."""

    def __init__(
        self, mailboxes: Mailboxes, name: str, is_read_only: bool, enabled: Set[str] = frozenset()
    ) -> None:
        """*enabled*: the extensions that the client enabled; the set may grow."""
        self.name = name
        self.is_read_only = is_read_only
        self._mailboxes = mailboxes
        self._box = mailboxes.open(name)
        self.view = View(self._box, enabled)
        self.is_due = False  # we changed flags that the mbox does not have yet
        self.fetched = self.view.largest(True)  # the UID up to which NOTIFY told of messages
        try:
            if self.view.recent and not is_read_only:
                self._store(self.view.recent, lambda uid, flags, mask: (flags | OLD, mask))
                tuple(self.view.news(True, self.view.recent))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the mailbox."""
        self._mailboxes.leave(self._box)

    @property
    def octets(self) -> int:
        """The octets of the mbox."""
        return self._box.octets

    def settle(self) -> None:
        """Write UIDs and flags into the mbox."""
        if not self.is_read_only:
            self._box.settle(0.0)
        self.is_due = False

    def refresh(self) -> None:
        """Find out what others changed. Raises MailboxError if the mailbox is another one now."""
        try:
            self._box.refresh(0.0)
        except FileNotFoundError:
            raise MailboxError("the mailbox is gone", "NONEXISTENT") from None
        if self._box.states.validity != self.view.validity:
            raise MailboxError("the mailbox has other UIDs now: select it again", "UIDVALIDITY")

    def caught_up(self) -> list[bytes]:
        """What changed; from now on NOTIFY tells of messages."""
        self.refresh()
        told = self.view.news(True)
        self.fetched = self.view.largest(True)
        return told

    def pushed(self, group: EventGroup | None, is_idle: bool) -> list[bytes]:
        """What the client is told unasked: all while it idles, or what *group* of its NOTIFY names."""
        self.refresh()
        if group is None:
            return self.view.news(True) if is_idle else []
        if "MessageNew" not in group.events:
            return []
        may_expunge = is_idle or group.which == "SELECTED"  # RFC 5465 §6.1.2
        told = self.view.news(may_expunge, with_uid=True, with_flags="FlagChange" in group.events)
        new = self.view.chosen(((self.fetched + 1, _LARGEST_UID),), True)
        self.fetched = max(self.fetched, self.view.largest(True))
        return told + list(fetch.responses(self.view, new, group.items, True)) if group.items else told

    def do(self, command: commands.Command) -> CommandOutcome | None:
        """Execute *command*; None if it is not about messages. News are among the responses."""
        method = _DO.get(type(command))
        if method is None:
            return None
        self.refresh()
        return method(self, command)

    def with_news(self, outcome: CommandOutcome) -> CommandOutcome:
        """*outcome* of APPEND and what is new here: its message is told at once (RFC 9051 §6.3.12)."""
        try:
            self.refresh()
        except (MailError, OSError):  # the message is stored, never again: the next command tells
            return outcome
        assert isinstance(outcome.untagged, tuple)
        return outcome._replace(untagged=(*outcome.untagged, *self.view.news(True)))

    def opening(self) -> tuple[bytes, ...]:
        """The responses to SELECT."""
        with self._box.lock:
            return self._opening(self._box.states)

    def _opening(self, states: States) -> tuple[bytes, ...]:
        view = self.view
        known = view.known_flags()
        unseen = states.flags.translate(_IS_SEEN).find(0) + 1
        permanent = b"" if self.is_read_only else known + b" \\*"
        return (
            b"* FLAGS (%b)\r\n" % known,
            b"* OK [PERMANENTFLAGS (%b)] kept\r\n" % permanent,
            b"* %d EXISTS\r\n* %d RECENT\r\n" % (len(view), len(view.recent)),
            b"* OK [UNSEEN %d] the first\r\n" % unseen if unseen else b"",
            b"* OK [UIDVALIDITY %d] of these UIDs\r\n" % states.validity,
            b"* OK [UIDNEXT %d] at least\r\n" % states.uid_next,
            b"* OK [HIGHESTMODSEQ %d] of all\r\n" % states.modseq,
        )

    def resynced(self, resync: commands.Resync) -> tuple[bytes, ...]:
        """What changed since a client knew the mailbox as it says (RFC 7162 §3.2.5)."""
        view, states = self.view, self._box.states
        if resync.validity != view.validity:
            return ()
        last = max(states.uid_next - 1, 1)
        known = resync.known.ranges(last) if resync.known is not None else [(1, last)]
        changed = view.changed_since(view.chosen(known, True), resync.modseq)
        told = fetch.responses(view, changed, (fetch.FLAGS, MODSEQ), True)
        return (*view.vanished(resync.modseq, known), *told)

    # -- reading -------------------------------------------------------------------------------------------

    def _noop(self, command: commands.Noop) -> CommandOutcome:
        if command.is_check:
            self.settle()
        return CommandOutcome("OK", "done", untagged=tuple(self.view.news(True)))

    def _chosen(self, command: "commands.Fetch | commands.Store | commands.Copy") -> list[tuple[int, int]]:
        view, by_uid = self.view, command.by_uid
        return view.picked(command.numbers, by_uid)

    def _fetch(self, command: commands.Fetch) -> CommandOutcome:
        chosen = self._chosen(command)
        gone: list[bytes] = []
        if command.changed_since is not None:
            if command.with_vanished:
                last = max(self._box.states.uid_next - 1, 1)
                saved = [(uid, uid) for uid in self.view.saved]
                asked = saved if command.numbers.is_saved else command.numbers.ranges(last)
                gone = self.view.vanished(command.changed_since, asked)
            chosen = self.view.changed_since(chosen, command.changed_since)
        kinds = {item.kind for item in command.items}
        silent: Collection[int] = ()
        items = command.items
        if not self.is_read_only and not all(item.is_peek for item in items):
            states = self._box.states
            with self._box.lock:
                rows = zip(chosen, self.view.rows(chosen), strict=True)
                silent = {uid for (_, uid), row in rows if row >= 0 and not states.flags[row] & SEEN}
            self._store(silent, lambda uid, flags, mask: (flags | SEEN, mask))
            if silent and "FLAGS" not in kinds:  # they are told with the content
                items = (*items, fetch.FLAGS)
            if silent and self.view.with_modseq and MODSEQ not in items:
                items = (*items, MODSEQ)
        by_uid = command.by_uid
        with_uid = by_uid or bool(silent and self.view.with_modseq)  # RFC 7162 §3.2.4
        responses = fetch.responses(self.view, chosen, items, with_uid)
        return CommandOutcome("OK", "done", untagged=chain(gone, responses, self._late_news(silent, by_uid)))

    def _late_news(self, silent: Collection[int], is_by_uid: bool) -> Iterator[bytes]:
        yield from self.view.news(is_by_uid, silent, is_by_uid)

    def _search(self, command: commands.Search) -> CommandOutcome:
        found = self._found(command)
        numbers = [uid if command.by_uid else number for number, uid in found]
        modseqs = self.view.modseqs(found) if found and has_modseq(command.key) else []
        news = self.view.news(command.by_uid)
        if command.returns is None:
            shown = b"".join(b" %d" % number for number in numbers)
            modseq = b" (MODSEQ %d)" % max(modseqs) if modseqs else b""
            return CommandOutcome("OK", "done", untagged=(b"* SEARCH%b%b\r\n" % (shown, modseq), *news))
        return CommandOutcome("OK", "done", untagged=(*self._extended(command, numbers, modseqs), *news))

    def _found(self, command: commands.Search | commands.Sort) -> list[tuple[int, int]]:
        """(sequence number, UID) of the messages that match; they are saved if that is asked for."""
        options = set(command.returns or ())
        if "SAVE" not in options:
            return search.matching(self.view, command.key)
        try:
            found = search.matching(self.view, command.key)
        except BaseException:
            self.view.saved = []
            raise
        uids = [uid for _, uid in found]
        if options <= {"SAVE", "MIN", "MAX"} and len(options) > 1:  # RFC 5182 §2.4
            uids = sorted({*(uids[:1] if "MIN" in options else ()), *(uids[-1:] if "MAX" in options else ())})
        self.view.saved = uids
        return found

    def _sort(self, command: commands.Sort) -> CommandOutcome:
        found = self._found(command)
        numbers = sorting.in_order(self._sortable(found, command.by_uid), command.order)
        modseqs = self.view.modseqs(found) if found and has_modseq(command.key) else []
        news = self.view.news(command.by_uid)
        if command.returns is not None:
            return CommandOutcome("OK", "done", untagged=(*self._extended(command, numbers, modseqs), *news))
        shown = b"".join(b" %d" % number for number in numbers)
        modseq = b" (MODSEQ %d)" % max(modseqs) if modseqs else b""
        return CommandOutcome("OK", "done", untagged=(b"* SORT%b%b\r\n" % (shown, modseq), *news))

    def _thread(self, command: commands.Thread) -> CommandOutcome:
        found = search.matching(self.view, command.key)
        told = threads.ALGORITHMS[command.algorithm](self._sortable(found, command.by_uid))
        news = self.view.news(command.by_uid)
        return CommandOutcome("OK", "done", untagged=(b"* THREAD%b\r\n" % (told and b" " + told), *news))

    def _sortable(self, found: list[tuple[int, int]], by_uid: bool) -> list[Sortable]:
        messages: list[Sortable] = []
        box = self._box
        for first in range(0, len(found), _LOOKED_AT):
            with box.lock:
                numbers, uids, rows = self.view.located(found[first : first + _LOOKED_AT])
                values = zip(
                    uids if by_uid else numbers,
                    map(int, box.rendered.column("ARRIVED", uids, rows)),
                    map(box.size, rows),
                    map(facts.from_octets, box.rendered.column("FACTS", uids, rows)),
                    strict=True,
                )
                messages += [Sortable(*value) for value in values]
        return messages

    def _extended(
        self, command: commands.Search | commands.Sort, numbers: list[int], modseqs: list[int]
    ) -> tuple[bytes, ...]:
        """ESEARCH (RFC 4731), if it is asked for; the engine puts its tag in the place of TAG."""
        options = [option for option in command.returns or () if option != "SAVE"]
        if not options:
            return ()
        if isinstance(command, commands.Sort):  # the order counts
            all_of_them = b",".join(b"%d" % number for number in numbers)
        else:
            all_of_them = ",".join(sets(numbers)).encode()
        values = {
            "MIN": b"MIN %d" % numbers[0] if numbers else b"",
            "MAX": b"MAX %d" % numbers[-1] if numbers else b"",
            "ALL": b"ALL " + all_of_them if numbers else b"",
            "COUNT": b"COUNT %d" % len(numbers),
        }
        asked = [values[option] for option in options if values[option]]
        if modseqs:  # of the messages that are told (RFC 7162 §3.1.5)
            ends = {"MIN": modseqs[:1], "MAX": modseqs[-1:]}
            told = [number for option in options for number in ends.get(option, modseqs)]
            asked.append(b"MODSEQ %d" % max(told))
        uid = [b"UID"] if command.by_uid else []
        return (b" ".join((b'* ESEARCH (TAG "\0")', *uid, *asked)) + b"\r\n",)

    # -- changing ------------------------------------------------------------------------------------------

    def _writable(self) -> None:
        if self.is_read_only:
            raise MailboxError("the mailbox is open for reading only", "READ-ONLY")

    def _store(self, uids: Collection[int], change: Callable[[int, int, int], tuple[int, int]]) -> None:
        if uids:
            self._box.store(sorted(uids), change, 0.0)
            self.is_due = True

    def _change_flags(self, command: commands.Store) -> CommandOutcome:
        self._writable()
        chosen = self._chosen(command)
        box, view = self._box, self.view
        bits = sum(BITS[flag] for flag in command.flags if flag in BITS)
        keywords = [flag for flag in command.flags if flag not in BITS]

        modified: list[int] = []

        def change(uid: int, flags: int, words: int) -> tuple[int, int]:
            states, since = box.states, command.unchanged_since
            if since is not None and states.modseqs[states.row_of(uid)] > since:
                modified.append(uid)
                return flags, words
            mask = box.states.mask(keywords)  # under the lock: another session may give bits too
            if mask.bit_count() < len(keywords):
                raise MailboxError("the mailbox has too many keywords", "LIMIT")
            if command.how == "+":
                return flags | bits, words | mask
            if command.how == "-":
                return flags & ~bits, words & ~mask
            return bits | flags & OLD, mask

        uids = {uid for _, uid in chosen}
        self._store(uids, change)
        by_uid = command.by_uid
        failed = set(modified)
        done = [(number, uid) for number, uid in chosen if uid not in failed]
        words = tuple(view.new_words())
        items = () if command.is_silent else (fetch.FLAGS,)
        items = (*items, MODSEQ) if view.with_modseq else items
        with_uid = by_uid or view.with_modseq  # RFC 7162 §3.2.4
        shown = tuple(fetch.responses(view, done, items, with_uid)) if items else ()
        news = view.news(by_uid, uids - failed, by_uid)
        numbers = [uid if by_uid else number for number, uid in chosen if uid in failed]
        code = f"MODIFIED {','.join(sets(numbers))}" if numbers else ""
        return CommandOutcome("OK", "stored", code, untagged=(*words, *shown, *news))

    def _expunge(self, command: commands.Expunge) -> CommandOutcome:
        self._writable()
        view, box = self.view, self._box
        known = view.uids
        if command.uids is not None:
            wanted = [uid for _, uid in view.picked(command.uids, True)]
        else:
            wanted = list(known)
        with box.lock:
            flags = box.states.flags
            doomed = [uid for uid in wanted if (row := view.row(uid)) >= 0 and flags[row] & DELETED]
        if doomed:
            self._box.expunge(doomed)
        code = self._highest() if doomed else ""
        return CommandOutcome("OK", "expunged", code, tuple(view.news(True)))

    def _highest(self) -> str:
        """The response code of commands that expunged messages (RFC 7162 §3.2.7)."""
        return f"HIGHESTMODSEQ {self._box.states.modseq}" if self.view.with_vanished else ""

    def expunge_silently(self) -> None:
        """Remove the messages with the flag Deleted, as CLOSE does."""
        if not self.is_read_only:
            self._expunge(commands.Expunge(None))

    def _copy(self, command: commands.Copy) -> CommandOutcome:
        if command.moves:
            self._writable()
        if not self._mailboxes.tree.exists(command.mailbox):
            raise MailboxError("there is no such mailbox", "TRYCREATE")
        chosen = [uid for _, uid in self._chosen(command)]
        target = self._mailboxes.open(command.mailbox)
        pairs: list[tuple[int, int]] = []
        try:
            self._copy_to(chosen, target, pairs)
            validity = target.states.validity
        except BaseException:  # all of them or none (RFC 9051 §6.4.7)
            with suppress(MailError, OSError):
                target.expunge([new for _, new in pairs])
            raise
        finally:
            self._mailboxes.leave(target)
        copied = {uid for uid, _ in pairs}
        pairs = [(uid, new) for uid, new in pairs if new]
        code = ""
        if pairs:
            old, new = (",".join(sets(numbers)) for numbers in zip(*pairs, strict=True))
            code = f"COPYUID {validity} {old} {new}"
        if not command.moves:
            return CommandOutcome("OK", "copied", code, tuple(self.view.news(command.by_uid)))
        self._box.expunge([uid for uid in chosen if uid in copied])
        told = (f"* OK [{code}] moved\r\n".encode(),) if code else ()
        highest = self._highest() if copied else ""
        return CommandOutcome("OK", "moved", highest, untagged=(*told, *self.view.news(True)))

    def _copy_to(self, chosen: list[int], target: Mailbox, pairs: list[tuple[int, int]]) -> None:
        """Append the messages *chosen* (UIDs) to *target*; add (old, new) UIDs to *pairs*."""
        for first in range(0, len(chosen), _AT_ONCE):
            some, messages = [], []
            with self._box.lock:
                states = self._box.states
                for uid in chosen[first : first + _AT_ONCE]:
                    row = states.row_of(uid)
                    record = self._record(row, target.path) if row >= 0 else None
                    if record is not None:
                        some.append(uid)
                        messages.append(NewMessage(record, states.flags[row] & ~OLD, states.keywords(row)))
            pairs += zip(some, target.append(messages), strict=True)

    def _record(self, row: int, beside: str) -> NewRecord | None:
        """The record of a message for another mbox; None if the message is gone."""
        postmark = self._box.postmark(row).removesuffix(b"\r") + b"\n"
        kept = self._box.kept(row)
        if kept is not None:
            body = Buffer()
            body.append(kept)
            return NewRecord(postmark, body)
        found = self._box.message(row)
        if found is None:
            return None
        intake = MboxIntake(beside=beside)
        for octets in (found,) if isinstance(found, bytes) else found:
            intake.take(octets)
        intake.end()
        return NewRecord(postmark, intake.body)


def append(
    mailboxes: Mailboxes, messages: Sequence[tuple[commands.AppendMessage, MboxIntake]], now: float
) -> CommandOutcome:
    """Store *messages* as APPEND asks, all or none. Raises MailboxError, MailError, OSError."""
    box = mailboxes.open(messages[0][0].mailbox)
    try:
        uids = box.append([_new_message(command, intake, now) for command, intake in messages], 0.0)
        code = f"APPENDUID {box.states.validity} {','.join(sets(uids))}" if all(uids) else ""
    finally:
        mailboxes.leave(box)
    return CommandOutcome("OK", "appended", code)


def _new_message(command: commands.AppendMessage, intake: MboxIntake, now: float) -> NewMessage:
    bits = sum(BITS[flag] for flag in command.flags if flag in BITS)
    words = tuple(flag for flag in command.flags if flag not in BITS)
    record = mbox_form.fetched_record(intake.body, now if command.seconds is None else command.seconds)
    return NewMessage(record, bits, words)


_DO: dict[type, Callable[[Selected, Any], CommandOutcome]] = {
    commands.Noop: Selected._noop,
    commands.Fetch: Selected._fetch,
    commands.Search: Selected._search,
    commands.Sort: Selected._sort,
    commands.Thread: Selected._thread,
    commands.Store: Selected._change_flags,
    commands.Expunge: Selected._expunge,
    commands.Copy: Selected._copy,
}
