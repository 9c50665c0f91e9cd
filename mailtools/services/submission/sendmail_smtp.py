"""SMTP on stdin and stdout (``sendmail -bs``), for a user of this host who submits mail.

The engine is the one of servers; recipients and their places are found as in services/submission/sendmail.
Every recipient is accepted, except local names that do not exist. Two functions read and write the octets.
"""

from collections.abc import Callable

from mailtools.core.errors import (
    CannotWriteError,
    DiskFullError,
    MailError,
    RefusedError,
    UnknownRecipientError,
)
from mailtools.core.smtp import events
from mailtools.core.smtp.events import Event
from mailtools.core.smtp.offer import SmtpOffer
from mailtools.core.smtp.reply import Reply
from mailtools.core.smtp.server import SmtpServerEngine
from mailtools.core.wire import eol
from mailtools.services.delivery.failures import as_reply
from mailtools.services.submission.sendmail import POLICY, Post, Submission, whole_message
from mailtools.services.transit.intake import Intake

_BLOCK = 64 << 10
_POLICY = POLICY._replace(to_lf=eol.to_lf)  # the engine has checked that CRLF ends each line
_OK = Reply(250, "2.1.0", "Ok")
_RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
_DISK_FULL = Reply(452, "4.3.1", "Insufficient system storage")


class SendmailSession:
    """One session. Afterwards `queued` is True if mail waits for a queue run."""

    def __init__(self, post: Post) -> None:
        self._post = post
        self._names = post.names
        self._engine = SmtpServerEngine(SmtpOffer(post.names.host))
        self._envelope = events.Envelope("", (), "", "")
        self._intake = Intake(_POLICY)
        self._problem: Reply | None = None  # why the current message is refused
        self.queued = False

    def run(self, read: Callable[[int], bytes], write: Callable[[bytes], None]) -> None:
        """Serve until QUIT or the end of input. Raises OSError."""
        engine = self._engine
        while True:
            while (event := engine.next_event()) is not None:
                if isinstance(event, events.Closed):
                    write(engine.data_to_send())
                    return
                self._handle(event)
            write(engine.data_to_send())
            block = read(_BLOCK)
            if block:
                engine.receive_data(block)
            else:
                engine.receive_eof()

    def _handle(self, event: Event) -> None:
        engine = self._engine
        if isinstance(event, events.Connected):
            engine.answer(event, Reply(220, "", f"{engine.offer.host} ESMTP mailtools"))
        elif isinstance(event, events.MailFrom):
            engine.answer(event, _OK)
        elif isinstance(event, events.RcptTo):
            engine.answer(event, self._recipient(event.recipient))
        elif isinstance(event, events.MessageStart):
            self._envelope = event.envelope
            self._forget()
            engine.answer(event, None)
        elif isinstance(event, events.MessageChunk):
            self._keep(event.octets)
        elif isinstance(event, events.MessageEnd):
            engine.answer(event, [self._problem or self._accept()])
            self._forget()
        elif isinstance(event, events.MessageAborted):
            self._forget()
        elif isinstance(event, events.Hello | events.Quit):
            engine.answer(event, None)

    def _recipient(self, address: str) -> Reply:
        try:
            address = self._names.address(address)
            if self._names.is_local(address) and not self._post.settings.submit:
                self._names.places(address)
        except (MailError, OSError) as error:
            return _reply(error)
        return _RECIPIENT_OK

    def _keep(self, octets: bytes) -> None:
        if self._problem is None:
            try:
                self._intake.take(octets)
            except (MailError, OSError) as error:
                self._problem = _reply(error)

    def _forget(self) -> None:
        self._intake = Intake(_POLICY)
        self._problem = None

    def _accept(self) -> Reply:
        envelope = self._envelope
        address = self._names.address
        try:
            given = Submission(
                tuple([address(recipient.address) for recipient in envelope.recipients]),
                sender=envelope.reverse_path,
                notify=_common([recipient.notify for recipient in envelope.recipients]),
                ret=envelope.ret,
                envid=envelope.envid,
            )
            accepted = self._post.accept(whole_message(self._intake), given)
        except (MailError, OSError) as error:
            return _reply(error)
        self.queued |= accepted.is_queued
        return Reply(250, "2.0.0", f"Ok: accepted as {accepted.identity}")


def _common(wishes: list[str]) -> str:
    """Return one NOTIFY for all recipients: every event that one of them asks for (RFC 3461 §4.1)."""
    words = [word for wish in wishes for word in wish.split(",") if word]
    if "" in wishes or not words:  # without NOTIFY failures are reported
        words = [word for word in words if word != "NEVER"]
        words += ["FAILURE"] if words else []
    elif any(word != "NEVER" for word in words):
        words = [word for word in words if word != "NEVER"]
    return ",".join(dict.fromkeys(words))


def _reply(error: MailError | OSError) -> Reply:
    if isinstance(error, MailError) and error.status:
        return as_reply(error)  # a recipient that addressing refuses
    if isinstance(error, OSError | DiskFullError):
        return _DISK_FULL
    if isinstance(error, CannotWriteError):
        return Reply(451, "4.3.0", "Mailbox or spool cannot be written, try again later")
    if isinstance(error, UnknownRecipientError):
        return Reply(550, "5.1.1", "No such user here")
    if isinstance(error, RefusedError):
        return Reply(554, "5.4.6", "Mail loop: too many Received fields")
    return Reply(554, "5.6.0", str(error).encode("ascii", "replace").decode())
