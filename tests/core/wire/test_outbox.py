"""core/wire/outbox: a transcript shows no secret, however its octets are cut."""

import pytest

from mailtools.core.wire.outbox import ChallengeMask, Outbox


def test_octets_come_once_and_secrets_are_masked() -> None:
    box = Outbox()
    assert not box
    box.say(b"USER bob\r\n")
    box.say_secretly(b"PASS secret\r\n", b"PASS ***\r\n")
    box.say(b"QUIT\r\n")
    assert box
    assert box.take() == b"USER bob\r\nPASS secret\r\nQUIT\r\n"
    assert box.shown == b"USER bob\r\nPASS ***\r\nQUIT\r\n"
    assert (box.take(), box.shown, bool(box)) == (b"", b"", False)
    box.say(b"secret? no\r\n")
    assert (box.take(), box.shown) == (b"secret? no\r\n",) * 2


@pytest.mark.parametrize("step", [1, 3, 100])
def test_challenges_are_masked_during_a_login(step: int) -> None:
    said = b"+ cj1ub25jZQ==\r\n* OK + is fine\r\n+\r\n"
    mask = ChallengeMask(rb"\+ ")
    shown = b"".join(mask(said[at : at + step], True) for at in range(0, len(said), step))
    assert shown == b"+ ***\r\n* OK + is fine\r\n+\r\n"
    assert mask(b"+ go ahead\r\n", False) == b"+ go ahead\r\n"
