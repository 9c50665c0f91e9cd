"""Send many messages to one server, over as few connections as possible.

A `Sender` never waits. The caller offers a message and polls; poll returns outcomes, or a `Need`: a
message, a link, or time. `LinkCarrier` waits for one sender; the couriers of the queue
(services/queue/courier) drive many senders in one thread.

The commands of the next message are sent while the reply to the end of this one is on its way: one round
trip for each message.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from mailtools.core.errors import BadDataError, MailError
from mailtools.services.smtp_client.connection import Link, Patience
from mailtools.services.smtp_client.transaction import Need, Talk, Transaction, ask, failed_outcomes
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing
from mailtools.system.net.client_connection import LostConnectionError


class Sender:
    """Sends messages over one link after another.

    If the server closes the connection between two messages, a new link is asked for. A server that cannot
    be reached, or whose connection ends before it answered any message, fails all messages that are still
    offered. *partial*: send a message to the other recipients if some are refused.
    """

    def __init__(self, *, partial: bool = False) -> None:
        self.link: Link | None = None
        self._partial = partial
        self._current: Outgoing | Transaction | None = None
        self._following: Outgoing | Transaction | None = None
        self._talk: Talk[list[Outcome]] | None = None  # the current message's; or QUIT's
        self._answered = 0  # messages that the link had answered before the current one
        self._problem: MailError | None = None  # raised at the next poll
        self._dead: MailError | None = None  # why no message can be sent any more
        self._is_ending = False

    @property
    def is_idle(self) -> bool:
        """True if no message is under way."""
        return self._current is None and self._following is None

    def offer(self, message: Outgoing) -> None:
        """Give the message to send next. To be called once for each `Need.MESSAGE`."""
        assert self._following is None
        self._following = message

    def use(self, link: Link) -> None:
        """Give the link that `Need.LINK` asked for; the sender closes it."""
        self.link = link

    def fail(self, error: MailError) -> None:
        """Tell that no link can be opened, or that the server takes too long."""
        self._problem = error

    def end(self) -> None:
        """Tell that no message will be offered any more."""
        self._is_ending = True

    def close(self) -> None:
        """Close the link at once."""
        if self._talk is not None:
            self._talk.close()
            self._talk = None
        for message in (self._current, self._following):
            if message is not None:
                _message(message)
        self._current = self._following = None
        self._drop_link()

    def poll(self) -> list[Outcome] | Need:
        """Go on; return the outcomes of one message, in the order of the messages, or what is needed."""
        try:
            return self._go_on()
        except MailError as error:
            return self._failed(error)

    def _go_on(self) -> list[Outcome] | Need:
        if self._current is None:
            self._current, self._following = self._following, None
        if self._current is None and not self._is_ending:
            return Need.MESSAGE
        if self._current is not None and self._dead is not None:
            return self._settled(failed_outcomes(_message(self._current), self._dead))
        problem, self._problem = self._problem, None
        if self.link is None:
            if problem is not None:
                raise problem
            return Need.LINK if self._current is not None else Need.NOTHING
        if self._talk is None:
            self._answered = self.link.answered
            message = self._current
            self._talk = self._exchange(self.link, message) if message is not None else _quit(self.link)
        try:
            return next(self._talk) if problem is None else self._talk.throw(problem)
        except StopIteration as end:
            return self._talked(self.link, end.value)

    def _talked(self, link: Link, outcomes: list[Outcome]) -> list[Outcome] | Need:
        self._talk = None
        if self._current is None:  # that was QUIT
            self._drop_link()
            return Need.NOTHING
        self._dead = link.broken if not link.answered else None
        if link.broken:
            self._drop_link()
        return self._settled(outcomes)

    def _failed(self, error: MailError) -> list[Outcome] | Need:
        """The current message raised *error* before its end was sent, or there is no link for it."""
        self._talk = None
        assert self._current is not None
        message = self._current = _message(self._current)
        answered = self._answered if self.link is not None else 0
        self._drop_link()
        if answered and isinstance(error, LostConnectionError):
            return Need.LINK
        self._dead = None if answered else error
        return self._settled(failed_outcomes(message, error))

    def _settled(self, outcomes: list[Outcome]) -> list[Outcome]:
        self._current = None
        return outcomes

    def _drop_link(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None
        if self._following is not None:  # its commands went over that link
            self._following = _message(self._following)

    def _exchange(self, link: Link, message: Outgoing | Transaction) -> Talk[list[Outcome]]:
        """Send *message*, and begin the following one meanwhile.

        Raises MailError before the message's end.
        """
        try:
            transaction = self._current = _transaction(link, message, self._partial)
        except BadDataError as error:
            return failed_outcomes(_message(message), error)
        if not (yield from transaction.run()):
            return transaction.outcomes
        if self._following is None and not self._is_ending:
            yield Need.MESSAGE
        if self._following is not None:
            self._following = _begun(link, self._following, self._partial)
        yield from transaction.verdict()
        return transaction.outcomes


def _quit(link: Link) -> Talk[list[Outcome]]:
    with suppress(MailError):  # all messages are answered: what the server replies changes nothing
        yield from ask(link, "QUIT")
    return []


def _transaction(link: Link, message: Outgoing | Transaction, partial: bool) -> Transaction:
    return message if isinstance(message, Transaction) else Transaction(link, message, partial)


def _begun(link: Link, message: Outgoing | Transaction, partial: bool) -> Outgoing | Transaction:
    """Send the first commands of a message; return it unchanged if they have to wait, or cannot be sent."""
    if not link.pipelining:
        return message
    try:
        transaction = _transaction(link, message, partial)
        transaction.begin()
    except MailError:  # raised again when it is the message's turn
        return message
    return transaction


def _message(either: Outgoing | Transaction) -> Outgoing:
    if isinstance(either, Transaction):
        either.forget()
        return either.message
    return either


class LinkCarrier:
    """Sends messages to one server and waits for it."""

    def __init__(self, open_link: Callable[[], Link], *, partial: bool = False) -> None:
        self._open_link = open_link
        self._sender = Sender(partial=partial)
        self._patience = Patience()

    def put(self, message: Outgoing) -> Iterator[list[Outcome]]:
        """Send *message*; yield outcomes that become known. The last outcome may come with a later call."""
        self._sender.offer(message)
        return self._drive(until_idle=False)

    def drain(self) -> Iterator[list[Outcome]]:
        """Wait for the outcomes that are not known yet."""
        return self._drive(until_idle=True)

    def end(self) -> None:
        """Leave the server. To be called after `drain`."""
        self._sender.end()
        for _ in self._drive(until_idle=True):
            raise AssertionError("drain was not called")

    def close(self) -> None:
        """Close the connection at once."""
        self._sender.close()

    def _drive(self, until_idle: bool) -> Iterator[list[Outcome]]:
        sender = self._sender
        while True:
            step = sender.poll()
            if isinstance(step, list):
                yield step
            elif step is Need.NOTHING:
                return
            elif step is Need.MESSAGE:
                if sender.is_idle or not until_idle:
                    self._push()
                    return
            else:
                self._wait(step)

    def _push(self) -> None:
        """Send what is in the buffer: the next message may take long to come."""
        if self._sender.link is not None:
            with suppress(MailError):  # the next poll finds it too
                self._sender.link.push()

    def _wait(self, need: Need) -> None:
        sender = self._sender
        try:
            if need is Need.LINK:
                sender.use(self._open_link())
            elif sender.link is not None:
                self._patience.left(sender.link)
                sender.link.wait()
        except MailError as error:
            sender.fail(error)


def transfer(
    messages: Iterable[Outgoing], open_link: Callable[[], Link], *, partial: bool = False
) -> Iterator[list[Outcome]]:
    """Send *messages* to one server; yield the outcomes of each."""
    carrier = LinkCarrier(open_link, partial=partial)
    try:
        for message in messages:
            yield from carrier.put(message)
        yield from carrier.drain()
        carrier.end()
    finally:
        carrier.close()
