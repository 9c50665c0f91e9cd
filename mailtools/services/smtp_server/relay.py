"""Relay mail for other servers: decide which clients may, queue their mail, and deliver it.

Only clients that logged in, or whose network the operator named, may relay. Clients of unix sockets are users
of this host; the operator names them as a network of their own, `unix`.
"""

import ipaddress
import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp.mx import Network
from mailtools.services.delivery.addressing import Addressing
from mailtools.services.delivery.dispatch import Queue
from mailtools.services.queue.service import Leaving, make_runner
from mailtools.system.process.loop import Loop
from mailtools.system.spool.spool import Spool
from mailtools.system.spool.writers import Spooler

log = logging.getLogger("mailtools")

UNIX = "unix"  # the network of all clients of unix sockets


class Relaying(NamedTuple):
    """The options that describe relaying."""

    spool: str  # its folder
    networks: tuple[Network, ...] = ()  # clients in them may relay without login
    from_unix: bool = False  # so may clients of unix sockets
    leaving: Leaving | None = None  # None: another process delivers

    def lets(self, user: str, peer: str) -> bool:
        """Tell whether a client may relay: logged in as *user*, or *peer* (IP address; "": unix socket)."""
        if user:
            return True
        if not peer:
            return self.from_unix
        if not self.networks:
            return False
        address = ipaddress.ip_address(peer.partition("%")[0])
        return any(address in network for network in self.networks)


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Parse networks as ``192.0.2.0/24`` or ``2001:db8::1``, without `UNIX`. Raises ConfigurationError."""
    try:
        return tuple([ipaddress.ip_network(text) for text in texts if text != UNIX])
    except ValueError as error:
        raise ConfigurationError(f"--relay-from: {error}; write it as 192.0.2.0/24, or unix") from None


def open_queue(relaying: Relaying, addressing: Addressing, loop: Loop, workers: ExitStack) -> Queue:
    """Start the threads that queue and deliver relayed mail; return the function that queues a message.

    *workers* stops the threads when it is closed.

    Raises ConfigurationError, CannotWriteError.
    """
    spool = Spool(relaying.spool, log.warning)
    spool.make()
    if relaying.leaving is None:
        spooler = Spooler(spool, loop.post)
    else:
        runner = make_runner(spool, addressing, relaying.leaving, log.info, log.warning)
        thread = threading.Thread(target=runner.run, name="queue", daemon=True)
        thread.start()
        workers.callback(thread.join, 40.0)
        workers.callback(runner.stop)
        spooler = Spooler(spool, loop.post, runner.wake)
    workers.callback(spooler.stop)

    return lambda queued, done: spooler.submit(queued.envelope, queued.blocks, done)
