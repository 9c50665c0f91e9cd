"""What holds of the engines whatever the octets are."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from mailtools.core.auth.sasl import CheckPassword
from mailtools.core.engine import RemoteProtocolError
from mailtools.core.mbox import quoting
from mailtools.core.smtp import events
from mailtools.core.smtp.client import SmtpClient
from mailtools.core.smtp.offer import SmtpOffer
from mailtools.core.smtp.reply import Reply
from mailtools.core.smtp.server import SmtpServerEngine
from mailtools.core.wire import dots, eol
from mailtools.core.wire.dots import Stuffer
from mailtools.core.wire.reader import Reader

QUESTIONS = (events.Connected, events.MailFrom, events.RcptTo)
GATES = (events.Hello, events.MessageStart, events.Quit)
PIECES = [
    b"EHLO x\r\n", b"MAIL FROM:<a@b>\r\n", b"RCPT TO:<c@d>\r\n", b"DATA\r\n", b".\r\n", b"..x\r\n", b"text\r\n",
    b"\r\n", b"\n", b"\r", b"\0", b".", b"RSET\r\n", b"QUIT\r\n", b"NOOP\n", b"\xff\xfe", b"From x\r\n", b"BDAT 3\r\n", b"BDAT 9 LAST\r\n",
    b"BDAT 5\r\na\r\n.b", b"AUTH PLAIN AGEAeA==\r\n", b"AUTH LOGIN\r\n", b"STARTTLS\r\n", b"eA==\r\n", b"*\r\n",
    b"x" * 300, b"HELO \xc3\xa9\r\n",
]  # fmt: skip
sessions = st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=25).map(b"".join)
LINES = st.lists(
    st.sampled_from(
        [b"", b".", b"..", b"From x", b">From x", b">>From ", b"Status: RO", b">X-UID: 1", b"text"]
    )
    | st.binary(max_size=30).filter(lambda line: not {10, 13} & set(line)),
    max_size=12,
)


def run(data: bytes, cuts: list[int], takes_lf: bool = False) -> tuple[list[object], bytes]:
    """All that an engine says of *data*, cut at *cuts*. Neighbouring chunks count as one."""
    engine = SmtpServerEngine(
        SmtpOffer(
            "h", starttls=True, max_line=200, max_command=100, max_size=2000, max_errors=8, takes_lf=takes_lf
        )
    )
    found: list[object] = []
    said = b""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in [*pairwise(edges), (None, None)]:
        if start is None:
            engine.receive_eof()
        else:
            engine.receive_data(data[start:end])
        while (event := engine.next_event()) is not None or engine.has_more:
            if event is None:
                continue
            if (
                isinstance(event, events.MessageChunk)
                and found
                and isinstance(found[-1], events.MessageChunk)
            ):
                event = events.MessageChunk(found.pop().octets + event.octets)  # type: ignore[attr-defined]
            found.append(event)
            if isinstance(event, events.MessageEnd):
                engine.answer(event, [Reply(250, "2.0.0", "Ok")])
            elif isinstance(event, QUESTIONS):
                engine.answer(event, Reply(250, "2.0.0", "Ok"))
            elif isinstance(event, GATES):
                engine.mechanisms = ("PLAIN", "LOGIN")
                engine.answer(event, None)
            elif isinstance(event, CheckPassword):
                engine.answer(event, event.password == "x")
        said += engine.data_to_send()
        assert engine.buffered <= 400 + (end or 0) - (start or 0)
    assert engine.is_closed
    return found, said


@given(sessions, st.lists(st.integers(0, 5000), max_size=12), st.booleans())
def test_any_split_gives_the_same_events_and_replies(data: bytes, cuts: list[int], takes_lf: bool) -> None:
    whole, split = run(data, [], takes_lf), run(data, cuts, takes_lf)
    assert split[1] == whole[1]
    # What came of a message that was then refused may differ: how far it was handed on depends on the pieces.
    assert [e for e in split[0] if not isinstance(e, events.MessageChunk)] == [
        e for e in whole[0] if not isinstance(e, events.MessageChunk)
    ]


@given(
    st.lists(
        st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"x", b"MAIL FROM:<evil@x>\r\n", b"\n.\n"]), max_size=30
    ),
    st.lists(st.integers(0, 500), max_size=8),
    st.booleans(),
)
def test_nobody_smuggles_a_message(pieces: list[bytes], cuts: list[int], takes_lf: bool) -> None:
    """Whatever stands before CRLF "." CRLF is one message, taken or refused."""
    body = b"".join(pieces)
    whole = b"\r\n" + body + b"\r\n.\r\n"
    body = whole[2 : whole.index(b"\r\n.\r\n") + 2]
    begin = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
    found, said = run(begin + body + b".\r\nNOOP\r\n", cuts, takes_lf)
    assert sum(isinstance(event, events.MailFrom) for event in found) == 1
    after = said.partition(b"\r\n354 ")[2].split(b"\r\n")[1:]
    assert len(after) == 3  # the reply to the message, that to NOOP, nothing
    assert after[1:] == [b"250 2.0.0 Ok", b""]
    assert sum(isinstance(event, (events.MessageEnd, events.MessageAborted)) for event in found) == 1
    taken = b"".join(event.octets for event in found if isinstance(event, events.MessageChunk))
    assert eol.is_canonical(taken)


@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([b"250 ok\r\n", b"250-", b"421\r\n", b"\n"]), max_size=20
    )
)
def test_a_client_learns_replies_or_that_the_server_is_broken(pieces: list[bytes]) -> None:
    client = SmtpClient()
    client.command("EHLO", "x")
    try:
        for piece in pieces:
            client.receive_data(piece)
            while client.next_event() is not None:
                pass
    except RemoteProtocolError:
        pass


@given(LINES, st.lists(st.integers(0, 2000), max_size=8))
def test_what_a_client_sends_a_server_gets(lines: list[bytes], cuts: list[int]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    client = SmtpClient()
    client.command("MAIL", "FROM:<a@b>")
    client.command("RCPT", "TO:<c@d>")
    client.command("DATA")
    client.message_chunk(message)
    client.end_message()
    found, said = run(b"HELO x\r\n" + client.data_to_send(), cuts)
    assert b"".join(e.octets for e in found if isinstance(e, events.MessageChunk)) == message
    assert sum(isinstance(e, events.MessageEnd) for e in found) == 1
    assert said.count(b"354 ") == 1


@given(LINES)
def test_dots_round_trip(lines: list[bytes]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    assert dots.unstuff(Stuffer()(message)) == message
    reader = Reader()
    reader.feed(Stuffer()(message) + b".\r\nQUIT\r\n")
    assert b"".join(block for block in dots.read_dotted(reader, 1000) if block) == Stuffer()(message)
    assert reader.octets == b"QUIT\r\n"


@given(LINES)
def test_quoting_round_trips(lines: list[bytes]) -> None:
    text = b"".join(line + b"\n" for line in lines)
    quoted = quoting.quote(text)
    assert quoting.unquote(quoted) == text
    assert not any(line.startswith(b"From ") for line in quoted.split(b"\n"))
    state = quoting.quote_state(text)
    assert quoting.unquote_state(state) == text
    assert not any(line.lower().startswith((b"status:", b"x-uid:")) for line in state.split(b"\n"))


@given(st.binary(max_size=200))
def test_canonical_is_what_survives_the_way_there_and_back(octets: bytes) -> None:
    bare = octets.replace(b"\r\n", b"")
    assert eol.is_canonical(octets) == (b"\r" not in bare and b"\n" not in bare)


@given(LINES, st.integers(1, 60))
def test_long_lines_are_seen(lines: list[bytes], limit: int) -> None:
    text = b"".join(line + b"\n" for line in lines)
    assert eol.has_line_over(text, limit) == any(len(line) + 1 > limit for line in lines)


settings.register_profile("steady", derandomize=True, deadline=None, max_examples=150)
settings.load_profile("steady")
