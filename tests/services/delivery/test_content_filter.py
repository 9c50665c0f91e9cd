"""services/delivery/content_filter: what the exit code and the output of a filter mean for a message."""

import pytest

from mailtools.core.smtp.events import Envelope
from mailtools.services.delivery import content_filter
from mailtools.services.delivery.failures import as_reply
from mailtools.system.files.buffer import Buffer
from mailtools.system.process.programs import Ran

ENVELOPE = Envelope("ann@a.test", (), "ESMTPSA", "client.test", user="ann")


def ran(code: int, output: bytes = b"", said: str = "") -> Ran:
    buffer = Buffer()
    if output:
        buffer.append(output)
    return Ran(code, buffer, said)


def test_a_program_learns_the_envelope() -> None:
    assert content_filter.environment(ENVELOPE, "192.0.2.1", "bob\ncarol") == {
        "SENDER": "ann@a.test",
        "RECIPIENT": "bob\ncarol",
        "CLIENT_ADDRESS": "192.0.2.1",
        "CLIENT_HELO": "client.test",
        "SASL_USERNAME": "ann",
    }


@pytest.mark.parametrize(
    ("printed", "kept"),
    [
        (b"Subject: x\n\nbody\n", b"Subject: x\n\nbody\n"),
        (b"From ann@a.test Thu Aug 22 12:00:00 2002\nSubject: x\n\nbody\n", b"Subject: x\n\nbody\n"),
        (b"Subject: x\r\n\r\nbody\r\n", b"Subject: x\n\nbody\n"),
        (b"Subject: x\n\nFrom here\n", b"Subject: x\n\n>From here\n"),
    ],
)
def test_what_a_filter_prints_takes_the_place_of_the_message(printed: bytes, kept: bytes) -> None:
    verdict = content_filter.judge(ran(0, printed), ENVELOPE, "")
    assert verdict.message is not None
    assert b"".join(verdict.message.body.blocks()) == kept
    assert (verdict.message.envelope, verdict.error, verdict.warning) == (ENVELOPE, None, "")


@pytest.mark.parametrize(
    ("code", "reply"),
    [
        (69, "554 5.7.1 Message refused"),
        (77, "554 5.7.1 Message refused"),
        (75, "451 4.7.1 Not now, try again later"),
    ],
)
def test_a_filter_refuses_with_its_exit_code(code: int, reply: str) -> None:
    verdict = content_filter.judge(ran(code, b"ignored\n", "ignored"), ENVELOPE, "")
    assert verdict.error is not None
    assert (str(as_reply(verdict.error)), verdict.message, verdict.warning) == (reply, None, "")


def test_a_filter_drops_a_message_without_a_word() -> None:
    assert content_filter.judge(ran(99, b"ignored\n"), ENVELOPE, "") == content_filter.Verdict()


@pytest.mark.parametrize(
    ("code", "output", "said", "warning"),
    [
        (1, b"Subject: x\n\n", "oops", "the filter failed (1): oops"),
        (-1, b"", "", "the filter failed (-1): it said nothing"),
        (127, b"", "not found", "the filter failed (127): not found"),
        (0, b"", "", "the filter failed: it printed nothing; to drop a message it exits with 99"),
        (
            0,
            b"Subject: x\n\na\rb\n",
            "",
            "the filter failed: it printed a CR that is no part of a line end",
        ),
        (
            0,
            b"Subject: x\n\n" + b"y" * 2_000_000 + b"\n",
            "",
            "the filter failed: it printed a line of more than",
        ),
    ],
)
def test_a_filter_that_fails_loses_no_message(code: int, output: bytes, said: str, warning: str) -> None:
    verdict = content_filter.judge(ran(code, output, said), ENVELOPE, "")
    assert verdict.error is not None and verdict.message is None
    assert str(as_reply(verdict.error)) == "451 4.3.0 The message could not be examined, try again later"
    assert verdict.warning.startswith(warning)
