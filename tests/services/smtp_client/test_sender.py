"""services/smtp_client/sender: many messages over as few connections as possible, none lost, none doubled."""

import email
import email.policy
import socket
from collections.abc import Callable, Sequence

import pytest

from mailtools.core.errors import MailError, RefusedError, TemporaryError, UnknownRecipientError
from mailtools.core.queue.journal import DEFERRED, FAILED, SENT
from mailtools.core.smtp.route import Route
from mailtools.services.queue.job import results
from mailtools.services.smtp_client.connect import open_link
from mailtools.services.smtp_client.connection import Link
from mailtools.services.smtp_client.sender import LinkCarrier, Sender, transfer
from mailtools.services.smtp_client.transaction import Need
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Outgoing, Stamps, Wishes, prepare
from mailtools.system.files.buffer import Buffer
from mailtools.system.net.client_connection import LostConnectionError
from tests.servers import Scripted, eventually, smtp_target

PLAIN_EHLO = b"250-test\r\n250 8BITMIME\r\n"


def message(number: int, *recipients: str) -> Outgoing:
    octets = b"Subject: %d\n\ntext\n.dot\n" % number
    wishes = Wishes(recipients or ("bob@b.test",), sender="a@a.test")
    return prepare(f"m{number}", [octets], wishes, Stamps("now", f"<{number}@a.test>"))


def opener(server: Scripted) -> Callable[[], Link]:
    return lambda: open_link(smtp_target(Route("smtp", "127.0.0.1", server.port)))


def sent(server: Scripted, *messages: Outgoing, partial: bool = False) -> list[list[Outcome]]:
    return list(transfer(messages, opener(server), partial=partial))


def kinds(outcomes: Sequence[Sequence[Outcome]]) -> list[list[type[MailError] | None]]:
    return [[type(o.error) if o.error else None for o in its] for its in outcomes]


def verbs(server: Scripted) -> list[bytes]:
    return [line[:4].strip() for line in server.commands]


def drive(sender: Sender) -> list[Outcome] | Need:
    """Poll until the sender needs something else than time."""
    while (step := sender.poll()) is Need.TIME:
        assert sender.link is not None
        sender.link.wait()
    return step


# -- the sender, step by step --------------------------------------------------------------------------------


def test_it_asks_for_a_message_then_for_a_link() -> None:
    sender = Sender()
    assert sender.poll() is Need.MESSAGE
    assert sender.is_idle
    sender.offer(message(0))
    assert not sender.is_idle
    assert sender.poll() is Need.LINK
    sender.fail(TemporaryError("no route"))
    outcomes = sender.poll()
    assert isinstance(outcomes, list)
    assert [str(o.error) for o in outcomes] == ["no route"]
    sender.end()
    assert sender.poll() is Need.NOTHING


def test_it_asks_for_the_next_message_before_the_reply_to_this_one() -> None:
    with Scripted() as server:
        sender = Sender()
        sender.offer(message(0))
        assert sender.poll() is Need.LINK
        sender.use(opener(server)())
        assert drive(sender) is Need.MESSAGE
        assert not sender.is_idle
        sender.offer(message(1))
        first = drive(sender)
        assert isinstance(first, list)
        assert first[0].message.name == "m0"
        eventually(lambda: verbs(server).count(b"MAIL") == 2, "the second MAIL, with the first answer")
        assert drive(sender) is Need.MESSAGE
        second = drive(sender)  # without another message it goes on
        assert isinstance(second, list)
        assert second[0].message.name == "m1"
        assert drive(sender) is Need.MESSAGE
        assert sender.is_idle
        sender.end()
        assert drive(sender) is Need.NOTHING
        assert sender.link is None
    assert verbs(server)[-1] == b"QUIT"


def test_a_server_that_takes_too_long_fails_this_message_and_the_others() -> None:
    with Scripted(MAIL=lambda _: b"") as server:
        sender = Sender()
        sender.offer(message(0))
        assert sender.poll() is Need.LINK
        sender.use(opener(server)())
        assert sender.poll() is Need.TIME
        sender.fail(TemporaryError("too slow"))
        for number in (1, 2):
            outcomes = sender.poll()
            assert isinstance(outcomes, list)
            assert str(outcomes[0].error) == "too slow"
            assert sender.poll() is Need.MESSAGE
            sender.offer(message(number))
        sender.close()


def test_a_message_whose_reply_never_comes_may_have_been_delivered() -> None:
    with Scripted(end=lambda _: b"") as server:
        sender = Sender()
        sender.offer(message(0))
        assert sender.poll() is Need.LINK
        sender.use(opener(server)())
        assert drive(sender) is Need.MESSAGE
        assert sender.poll() is Need.TIME
        sender.fail(TemporaryError("silent"))
        outcomes = sender.poll()
        assert isinstance(outcomes, list)
        assert str(outcomes[0].error) == "silent; the message may have been delivered"
        assert sender.link is None


def test_close_leaves_without_a_word() -> None:
    with Scripted() as server:
        sender = Sender()
        sender.offer(message(0))
        assert sender.poll() is Need.LINK
        sender.use(opener(server)())
        assert drive(sender) is Need.MESSAGE
        sender.close()
        assert sender.link is None
        assert sender.is_idle
    assert b"QUIT" not in verbs(server)


# -- servers that behave, and others -------------------------------------------------------------------------


@pytest.mark.parametrize("ehlo", [Scripted.EHLO, PLAIN_EHLO])
def test_many_messages_go_over_one_connection_in_order(ehlo: bytes) -> None:
    with Scripted(EHLO=ehlo) as server:
        outcomes = sent(server, *map(message, range(20)))
        assert [its[0].message.name for its in outcomes] == [f"m{n}" for n in range(20)]
        assert kinds(outcomes) == [[None]] * 20
        assert server.connections == 1
        assert [m.split(b"\r\n")[0] for m in server.messages] == [b"Subject: %d" % n for n in range(20)]
        assert all(m.endswith(b"\r\n..dot\r\n") for m in server.messages)


def test_a_refused_recipient_keeps_the_message_from_the_others() -> None:
    with Scripted(RCPT=[b"550 5.1.1 no\r\n", b"250 ok\r\n"]) as server:
        outcomes = sent(server, message(0, "eve@b.test", "bob@b.test"), message(1))
        assert kinds(outcomes) == [[UnknownRecipientError, UnknownRecipientError], [None]]
        assert "another recipient was refused" in str(outcomes[0][1].error)
        assert len(server.messages) == 1


def test_with_partial_the_others_get_it() -> None:
    with Scripted(RCPT=[b"550 5.1.1 no\r\n", b"250 ok\r\n"]) as server:
        outcomes = sent(server, message(0, "eve@b.test", "bob@b.test"), partial=True)
        assert kinds(outcomes) == [[UnknownRecipientError, None]]
        assert len(server.messages) == 1


def test_a_refused_message_does_not_end_the_session() -> None:
    with Scripted(
        end=[b"554 5.6.0 spam\r\n", b"250 ok\r\n"], MAIL=[b"250 ok\r\n", b"250 ok\r\n", b"552 big\r\n"]
    ) as server:
        outcomes = sent(server, message(0), message(1), message(2))
        assert [its[0].error is None for its in outcomes] == [False, True, False]
        assert server.connections == 1


@pytest.mark.parametrize("ehlo", [Scripted.EHLO, PLAIN_EHLO])
@pytest.mark.parametrize("bye", [b"421 bye\r\n", None])
def test_a_server_that_leaves_between_messages_is_called_again(ehlo: bytes, bye: bytes | None) -> None:
    with Scripted(EHLO=ehlo, MAIL=[b"250 ok\r\n", b"250 ok\r\n", bye, b"250 ok\r\n"]) as server:
        outcomes = sent(server, *map(message, range(5)))
        assert kinds(outcomes) == [[None]] * 5
        assert server.connections == 2
        assert len(server.messages) == 5


def test_a_server_that_answers_nothing_fails_all_messages() -> None:
    with Scripted(MAIL=None) as server:
        outcomes = sent(server, *map(message, range(3)))
        assert kinds(outcomes) == [[LostConnectionError]] * 3
        assert server.connections == 1


def test_a_server_that_lets_nobody_in_is_called_once() -> None:
    with Scripted(greeting=b"554 no\r\n") as server:
        assert kinds(sent(server, *map(message, range(3)))) == [[RefusedError]] * 3
        assert server.connections == 1


def test_a_connection_lost_after_the_message_leaves_a_doubt_and_is_not_repeated() -> None:
    with Scripted(end=[b"250 ok\r\n", None, b"250 ok\r\n"]) as server:
        outcomes = sent(server, *map(message, range(3)))
        assert [its[0].error is None for its in outcomes] == [True, False, True]
        assert "may have been delivered" in str(outcomes[1][0].error)
        subjects = [m.split(b"\r\n")[0] for m in server.messages]
        assert subjects == [b"Subject: 0", b"Subject: 1", b"Subject: 2"]


def test_a_connection_cut_while_the_end_of_a_message_is_sent_loses_no_message() -> None:
    """Whatever the moment of the cut, each message has one outcome."""

    def cut(sock: socket.socket) -> None:
        sock.shutdown(socket.SHUT_RDWR)

    with Scripted(DATA=[b"354 go\r\n", lambda sock: cut(sock), b"354 go\r\n"]) as server:
        outcomes = sent(server, *map(message, range(4)))
        assert [its[0].message.name for its in outcomes] == ["m0", "m1", "m2", "m3"]


def test_a_server_without_8bitmime_gets_the_message_recoded() -> None:
    header = b"Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
    octets = header + b"Content-Transfer-Encoding: 8bit\n\n" + "schön\n".encode()
    made = prepare("m", [octets], Wishes(("bob@b.test",), sender="a@a.test"), Stamps("now", "<1@a.test>"))
    with Scripted(EHLO=b"250 test\r\n") as server:
        assert kinds(sent(server, made)) == [[None]]
        assert server.messages[0].isascii()


@pytest.mark.parametrize(
    ("ehlo", "expected"),
    [
        (b"250-test\r\n250-DSN\r\n250 SMTPUTF8\r\n", "ORCPT=utf-8;ü@x"),
        (b"250-test\r\n250 DSN\r\n", "ORCPT=utf-8;\\x{FC}@x"),
    ],
)
def test_an_original_recipient_beyond_ascii(ehlo: bytes, expected: str) -> None:
    made = message(0)
    recipients = (made.recipients[0]._replace(orcpt="utf-8;ü@x"),)
    with Scripted(EHLO=ehlo) as server:
        assert kinds(sent(server, made._replace(recipients=recipients))) == [[None]]
        assert any(expected.encode() in line for line in server.commands)


@pytest.mark.parametrize("ehlo", [Scripted.EHLO, PLAIN_EHLO])
def test_552_after_others_were_accepted_means_too_many_for_now(ehlo: bytes) -> None:
    """RFC 5321 §4.5.3.1.10; before any was accepted it means what it says."""
    answers = [b"552 full\r\n", b"250 ok\r\n", b"552 too many\r\n"]
    with Scripted(EHLO=ehlo, RCPT=answers) as server:
        (its,) = sent(server, message(0, "a@b.test", "b@b.test", "c@b.test"), partial=True)
        assert kinds([its]) == [[UnknownRecipientError, None, TemporaryError]]
        found = results(its, range(3))
        assert [(one.result, one.status) for one in found] == [
            (FAILED, "5.0.0"), (SENT, "2.0.0"), (DEFERRED, "4.0.0")
        ]  # fmt: skip


@pytest.mark.parametrize("is_queued", [False, True])
@pytest.mark.parametrize("ehlo", [b"250-test\r\n250 8BITMIME\r\n", b"250 test\r\n"])
@pytest.mark.parametrize("size", [10, 600_000])
def test_a_server_without_smtputf8_gets_text_as_encoded_words(
    is_queued: bool, ehlo: bytes, size: int
) -> None:
    octets = "Subject: Grüße\nFrom: Jürgen <j@x.test>\n\n".encode() + b"0123456789\n" * (size // 11 + 1)
    made = prepare("m", [octets], Wishes(("bob@b.test",), sender="a@a.test"), Stamps("now", "<1@a.test>"))
    if is_queued:  # the queue keeps header and body together
        body = Buffer()
        for block in (made.head.replace(b"\r\n", b"\n"), *made.body.blocks()):
            body.append(block)
        made = made._replace(head=b"", body=body)
    with Scripted(EHLO=ehlo) as server:
        assert kinds(sent(server, made)) == [[None]]
        (taken,) = server.messages
    assert taken.isascii()
    found = email.message_from_bytes(taken, policy=email.policy.default)
    assert (found["Subject"], found["From"]) == ("Grüße", "Jürgen <j@x.test>")
    assert taken.partition(b"\r\n\r\n")[2] == octets.partition(b"\n\n")[2].replace(b"\n", b"\r\n")
    assert b"".join(made.blocks()).partition(b"\r\n\r\n")[0].count("ü".encode()) == 2, (
        "the message itself stays"
    )


# -- the carrier ---------------------------------------------------------------------------------------------


def test_a_carrier_yields_what_is_known_and_drains_the_rest() -> None:
    with Scripted() as server:
        carrier = LinkCarrier(opener(server))
        assert list(carrier.put(message(0))) == []
        (first,) = carrier.put(message(1))
        assert first[0].message.name == "m0"
        (second,) = carrier.drain()
        assert second[0].message.name == "m1"
        assert list(carrier.drain()) == []
        (third,) = [*carrier.put(message(2)), *carrier.drain()]
        assert third[0].error is None
        carrier.end()
        carrier.close()
        assert server.connections == 1
    assert verbs(server)[-1] == b"QUIT"


def test_a_message_is_whole_on_the_wire_while_the_next_one_is_awaited() -> None:
    with Scripted() as server:
        carrier = LinkCarrier(opener(server))
        assert list(carrier.put(message(0))) == []
        eventually(lambda: len(server.messages) == 1, "the message")
        carrier.close()
