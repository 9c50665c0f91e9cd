"""The connection of one client.

Moves octets to the engine, events to the session, and octets back, with TLS between. Knows neither
listeners nor limits (system/net/server), and no protocol. If a client does not read, the server does not
read from it either, so that neither replies nor received octets pile up.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol, cast

from mailtools.core.engine import Engine, RemoteProtocolError
from mailtools.core.errors import MailError
from mailtools.system.net.deflate import DeflateLayer
from mailtools.system.net.listeners import is_local
from mailtools.system.net.transcript import Transcript, open_transcript
from mailtools.system.tls.certificates import Certificates
from mailtools.system.tls.layer import TlsLayer

log = logging.getLogger("mailtools")

_PARTING = 0.5  # seconds that an idle session has to send QUIT when the server stops
_READ_AHEAD = 256 << 10  # octets taken from a client while its question waits for an answer
_TURN = 100  # events, then other connections run


class ServerEngine(Engine, Protocol):
    """What a server needs of an engine, in addition to `Engine`."""

    @property
    def awaits_reply(self) -> bool:
        """True while a question waits for our side: the delay is not the client's."""

    @property
    def in_transaction(self) -> bool:
        """True while something is in progress that a server waits for when it stops."""

    @property
    def wants_tls(self) -> bool:
        """True if the client was told to begin TLS."""

    @property
    def wants_compression(self) -> bool:
        """True if the client was told to begin compression."""

    @property
    def has_more(self) -> bool:
        """True if parsing paused though octets wait."""

    heard: list[bytes] | None  # if it is a list, what the client said, without secrets

    def secured(self, bindings: Mapping[str, bytes]) -> None:
        """Note that TLS is established, with these channel bindings."""

    def compressed(self) -> bytes:
        """Note that compression is there; return the octets that came behind the command."""

    def close_with(self, code: int, enhanced: str, text: str) -> None:
        """Send an error in the words of the protocol and close."""


class ServerSession(Protocol):
    """Handles the events of one connection and answers the engine's questions."""

    def handle(self, event: Any) -> None:
        """Handle one event."""

    def lost(self) -> None:
        """Note that the client is gone: give up what waits for it alone. May be called again."""


class NewConnection(NamedTuple):
    """What a session is opened with."""

    peer: str  # the client's address, "" for a unix socket
    resume: Callable[[], None]  # to be called after a question was answered later
    drop: Callable[[], None]  # disconnects without a reply


OpenSession = Callable[[NewConnection], tuple[ServerEngine, ServerSession]]


class ConnectionHost(Protocol):
    """The server that a connection belongs to."""

    name: str
    transcript: str
    certificates: Certificates | None
    implicit_tls: bool
    open_session: OpenSession

    def admit(self, connection: "ServerConnection") -> str:
        """Count it; return the reason if it has to be refused, else ""."""

    def dismiss(self, connection: "ServerConnection") -> None:
        """Count it no more."""


class ServerConnection(asyncio.Protocol):
    """The connection of one client."""

    __slots__ = (
        "_deflate",
        "_engine",
        "_host",
        "_is_advancing",
        "_is_due",
        "_reading",
        "_session",
        "_tls",
        "_transcript",
        "_transport",
        "_writable",
        "last_progress",
        "peer",
    )

    def __init__(self, host: ConnectionHost) -> None:
        self._host = host
        self._writable = True
        self._reading = True
        self._is_advancing = False
        self._is_due = False  # `advance` is scheduled, after other connections ran
        self._transcript: Transcript | None = None
        self._tls: TlsLayer | None = None
        self._deflate: DeflateLayer | None = None
        self.peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept or refuse the client."""
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self.peer = name[0].removeprefix("::ffff:") if isinstance(name, tuple) else ""
        self.last_progress = time.monotonic()
        self._engine, self._session = self._host.open_session(
            NewConnection(self.peer, self.advance, self.drop)
        )
        if self._host.transcript:
            self._start_transcript()
        if self._host.implicit_tls:
            self._start_tls()
        reason = self._host.admit(self)
        if reason:
            log.warning("connection from %s refused: %s", self.shown, reason)
            self._engine.close_with(421, "4.7.0", reason)
            if not self._is_heard:
                transport.abort()  # type: ignore[attr-defined]
        self.advance()

    @property
    def shown(self) -> str:
        """The client's address, for the log."""
        return self.peer or "a local client"

    def _start_transcript(self) -> None:
        try:
            self._transcript = open_transcript(self._host.transcript, self._host.name)
            self._engine.heard = []
        except MailError as error:
            log.error("%s", error)

    def _record(self, said: bytes, remark: str = "") -> None:
        """Write what was said into the transcript.

        If the transcript cannot be written, the session goes on without it.
        """
        if self._transcript is None:
            return
        heard, self._engine.heard = b"".join(self._engine.heard or ()), []
        try:
            if heard:
                self._transcript.client(heard)
            if said:
                self._transcript.server(said)
            if remark:
                self._transcript.remark(remark)
        except OSError as error:
            log.error("the transcript ends here: %s", error.strerror)
            self._transcript = self._engine.heard = None

    # -- octets that come ----------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Pass octets from the client on to the engine."""
        if self._tls is not None:
            data = self._decrypted(self._tls, data)
        if data and self._deflate is not None:
            self._inflate(self._deflate, data)
        elif data:
            self._engine.receive_data(data)
        self.advance()

    def _start_compression(self) -> None:
        self._deflate = DeflateLayer()
        behind = self._engine.compressed()
        if behind:
            self._inflate(self._deflate, behind)
        self._soon()

    def _inflate(self, deflate: DeflateLayer, octets: bytes) -> None:
        """Pass on what *octets* of the client, and those before them, begin with."""
        try:
            self._engine.receive_data(deflate.receive(octets))
        except RemoteProtocolError as error:
            log.info("%s: %s", self.shown, error)
            self._transport.abort()

    def _start_tls(self) -> None:
        assert self._host.certificates is not None
        self._tls = TlsLayer(self._host.certificates)

    def _decrypted(self, tls: TlsLayer, data: bytes) -> bytes:
        was_established = tls.is_established
        try:
            data = tls.receive(data)
        except RemoteProtocolError as error:
            log.info("%s: %s", self.shown, error)
            self._transport.write(tls.data_to_send())
            self._transport.close()
            return b""
        if handshake := tls.data_to_send():
            self._transport.write(handshake)
        if tls.is_established and not was_established:
            self.last_progress = time.monotonic()
            self._record(b"", tls.shown)
            self._engine.secured(tls.bindings())
        if tls.is_ended:
            self._engine.receive_eof()
        return data

    def eof_received(self) -> bool:
        """Note that the client sends nothing more. It may still read, so its replies are sent.

        A client with no command left is gone: it can do nothing with a login that it still waits for.
        """
        if not self._engine.buffered:
            self._session.lost()
        self._engine.receive_eof()
        self.advance()
        return self._is_heard and not self._engine.is_closed

    def connection_lost(self, exc: Exception | None) -> None:
        """End the session: the client is gone."""
        if not self._writable or self._engine.has_more:
            # The client has not read the replies before: the commands after them, such as DELE, are not
            # executed.
            self._engine.close_with(421, "4.4.2", "the client is gone")
        self._engine.receive_eof()
        self._writable = True  # nobody reads any more: let the engine run to its end
        self._tls = None
        try:
            self._session.lost()
            self.advance()
        finally:
            self._host.dismiss(self)
        if self._transcript is not None:
            with suppress(OSError):
                self._transcript.close()
            self._transcript = None

    # -- what becomes of them ------------------------------------------------------------------------------

    @property
    def _is_heard(self) -> bool:
        """False during a TLS handshake, when nothing else can be sent or received."""
        return self._tls is None or self._tls.is_established

    def advance(self) -> None:
        """Pass each event to the session, then send all replies in one write.

        A question that is answered at once calls this method again from inside; the outer call continues.
        """
        if self._is_advancing or (self._tls is not None and not self._tls.is_established):
            return
        self._is_advancing = True
        engine, handle, progress = self._engine, self._session.handle, 0
        try:
            while self._writable and progress < _TURN and (event := engine.next_event()) is not None:
                handle(event)
                progress += 1
        except RemoteProtocolError as error:
            log.info("%s: %s", self.shown, error)
            self._transport.abort()
            return
        except Exception:  # a bug must not disturb the other sessions
            log.exception("a bug in the session of %s", self.shown)
            engine.close_with(421, "4.3.0", "internal error, try again later")
        finally:
            self._is_advancing = False
        if progress:
            self.last_progress = time.monotonic()
        self._flush()
        if engine.wants_tls and self._tls is None and not self._transport.is_closing():
            self._start_tls()
        if engine.wants_compression and not self._transport.is_closing():
            self._start_compression()
        if (engine.has_more or progress == _TURN or self._may_inflate) and self._writable:
            self._soon()
        if not self._reading or engine.buffered >= _READ_AHEAD or not self._writable or self._is_due:
            self._set_reading(self._writable and engine.buffered < _READ_AHEAD and not self._is_due)

    def _soon(self) -> None:
        """Go on after other connections ran."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._is_due = False
        if self._deflate is not None and self._may_inflate:
            self._inflate(self._deflate, b"")
        self.advance()

    @property
    def _may_inflate(self) -> bool:
        """Whether octets wait to be inflated that the engine has room for."""
        return self._deflate is not None and self._deflate.has_more and self._engine.buffered < _READ_AHEAD

    def _flush(self) -> None:
        octets = self._engine.data_to_send()
        if self._transcript is not None:
            self._record(octets)
        if octets and not self._transport.is_closing():
            self.last_progress = time.monotonic()  # the client got a reply, so it has sent something complete
            self._write(octets)
        if self._engine.is_closed:
            self._close()

    def _write(self, octets: bytes) -> None:
        if self._deflate is not None:
            octets = self._deflate.send(octets)
        if self._tls is not None:
            self._tls.send(octets)
            octets = self._tls.data_to_send()
        self._transport.write(octets)

    def _close(self) -> None:
        if self._tls is not None and not self._transport.is_closing():
            self._tls.close()
            self._transport.write(self._tls.data_to_send())
        self._transport.close()

    # -- pace ----------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Stop working for the client: it does not read."""
        self._writable = False
        self._set_reading(False)

    def resume_writing(self) -> None:
        """Go on: the client reads again."""
        self._writable = True
        self.advance()

    def _set_reading(self, wanted: bool) -> None:
        if wanted is self._reading or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # -- ends ----------------------------------------------------------------------------------------------

    def drop(self) -> None:
        """Disconnect without a reply."""
        self._transport.abort()

    def time_out(self, patience: float, silence: float) -> None:
        """Disconnect a client that made no progress for *patience* seconds.

        One that waits for our answer is disconnected after *silence* seconds: whatever went wrong with us,
        it learns that it has to try again.
        """
        is_ours = self._engine.awaits_reply and self._is_heard
        if time.monotonic() - self.last_progress < (silence if is_ours else patience):
            return
        hopeless = self._engine.is_closed or not self._writable or not self._is_heard
        if is_ours:
            log.error("%s got no answer for %d s; please report this as a bug", self.shown, silence)
            self._engine.close_with(421, "4.3.0", "no answer in time, try again later")
        else:
            log.info("%s timed out", self.shown)
            self._engine.close_with(421, "4.4.2", "timeout, closing")
        if self._is_heard:
            self._flush()
        if hopeless:
            self._transport.abort()

    def finish(self, now: bool) -> None:
        """End the session because the server stops.

        An idle session ends soon, because its QUIT may still come; another one when it is done. *now*: at
        once.
        """
        idle = time.monotonic() - self.last_progress
        if not now and (self._engine.in_transaction or idle < _PARTING):
            return
        if not self._engine.is_closed:
            self._engine.close_with(421, "4.3.2", "shutting down")
        if self._is_heard:
            self._flush()
        if now or not self._is_heard:
            self._transport.abort()

    @property
    def is_local(self) -> bool:
        """True for loopback and unix sockets."""
        return is_local(self.peer)
