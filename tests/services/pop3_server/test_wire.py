"""services/pop3_server/wire: the lines of LIST and UIDL."""

from mailtools.services.pop3_server.wire import listing


def test_a_line_for_each_message() -> None:
    assert listing([10, 200], set()) == b"1 10\r\n2 200\r\n"
    assert listing(["a%sb", "c"], set()) == b"1 a%sb\r\n2 c\r\n"


def test_marked_messages_are_left_out_and_keep_their_numbers() -> None:
    assert listing([10, 20, 30], {1}) == b"1 10\r\n3 30\r\n"


def test_no_messages() -> None:
    assert listing([], set()) == listing([10], {0}) == b""
