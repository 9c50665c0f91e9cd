"""AUTH: the replies to the outcomes of a login, and what a transcript shows."""

import pytest

from mailtools.core.auth import dialogue
from mailtools.core.auth.dialogue import SaslOutcome
from mailtools.core.smtp import login


@pytest.mark.parametrize(
    ("how", "code", "enhanced"),
    [
        (dialogue.DONE, 235, "2.7.0"),
        (dialogue.WRONG, 535, "5.7.8"),
        (dialogue.NOT_NOW, 454, "4.7.0"),
        (dialogue.NOT_OFFERED, 504, "5.5.4"),
        (dialogue.BROKEN_LINE, 500, "5.5.6"),
        (dialogue.CANCELLED, 501, "5.7.0"),
        (dialogue.MALFORMED, 501, "5.5.2"),
    ],
)
def test_each_outcome_has_the_reply_of_rfc_4954(how: str, code: int, enhanced: str) -> None:
    reply = login.reply(SaslOutcome(how))
    assert (reply.code, reply.enhanced) == (code, enhanced)


def test_a_malformed_response_is_told_with_its_reason() -> None:
    assert "no base64" in str(login.reply(SaslOutcome(dialogue.MALFORMED, reason="no base64")))


@pytest.mark.parametrize(
    ("line", "is_auth", "is_known", "after_auth", "shown"),
    [
        (b"AUTH PLAIN AGEAYg==", True, True, False, b"AUTH PLAIN ***\r\n"),
        (b"AUTH PLAIN", True, True, False, b"AUTH PLAIN\r\n"),
        (b"MAIL FROM:<a@b>", False, True, False, b"MAIL FROM:<a@b>\r\n"),
        (b"MAIL FROM:<a@b>", False, True, True, b"MAIL FROM:<a@b>\r\n"),
        (b"AGEAYg==", False, False, True, b"***\r\n"),
        (b"xauth plain AGEAYg==", False, False, False, b"***\r\n"),
        (b"HLEP", False, False, False, b"HLEP\r\n"),
    ],
)
def test_a_transcript_shows_no_part_of_a_login(
    line: bytes, is_auth: bool, is_known: bool, after_auth: bool, shown: bytes
) -> None:
    assert login.masked(line, is_auth, is_known, after_auth) == shown
