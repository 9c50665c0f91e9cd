"""services/submission/submit: a message for a server of this host, and the server's answer per recipient."""

import pytest

from mailtools.core.errors import BadDataError, TemporaryError, UnknownRecipientError
from mailtools.core.message.recipient import Recipient
from mailtools.services.submission.submit import submit
from mailtools.services.transit.outgoing import Outgoing
from mailtools.system.files.buffer import Buffer
from tests.sinks import Sink, usual


def message(*recipients: str) -> Outgoing:
    body = Buffer()
    body.append(b"hello\n.\n")
    return Outgoing(
        name="0abc-1",
        reverse_path="ann@here.test",
        recipients=tuple([Recipient(one) for one in recipients]),
        head=b"Subject: x\r\n\r\n",
        body=body,
        size=30,
        needs_8bit=False,
        needs_utf8=False,
        has_long_line=False,
    )


def answering(replies: dict[str, bytes]) -> Sink:
    """A server that gives *replies* to lines that begin so."""

    def rule(verb: str, argument: str) -> bytes | None:
        line = f"{verb} {argument}"
        return next(
            (reply for name, reply in replies.items() if line.startswith(name)), usual(verb, argument)
        )

    return Sink(rule)


def test_the_server_takes_it_for_all() -> None:
    with Sink() as sink:
        answer = submit(sink.route, message("bob@x", "carol@x"), "here.test")
    assert (answer.later, answer.refused) == ({}, [])
    ((mail, recipients, octets),) = sink.taken
    assert "<ann@here.test>" in mail
    assert len(recipients) == 2
    assert octets == b"Subject: x\r\n\r\nhello\r\n.\r\n"


def test_each_recipient_gets_its_own_answer() -> None:
    replies = {"RCPT TO:<bob": b"550 5.1.1 no bob\r\n", "RCPT TO:<carol": b"451 4.2.1 locked\r\n"}
    with answering(replies) as sink:
        answer = submit(sink.route, message("bob@x", "carol@x", "dave@x"), "here.test")
    assert list(answer.later) == ["carol@x"]
    ((who, why, status),) = answer.refused
    assert (who, status) == ("bob@x", "5.1.1")
    assert "no bob" in why


def test_nobody_exists() -> None:
    with answering({"RCPT": b"550 5.1.1 no such user\r\n"}) as sink, pytest.raises(UnknownRecipientError):
        submit(sink.route, message("bob@x", "carol@x"), "here.test")


def test_the_message_is_refused() -> None:
    with answering({".": b"554 5.7.1 spam\r\n"}) as sink, pytest.raises(BadDataError, match="spam"):
        submit(sink.route, message("bob@x"), "here.test")


@pytest.mark.parametrize("route", ["smtp://127.0.0.1:1", "unix:/nonexistent/socket"])
def test_the_server_is_down(route: str) -> None:
    answer = submit(route, message("bob@x", "carol@x"), "here.test")
    assert set(answer.later) == {"bob@x", "carol@x"}
    assert all(isinstance(error, TemporaryError) for error in answer.later.values())
    assert not answer.refused
