"""Messages made ready to be sent: what is refused, what the header gains and loses, sizes, envelopes, forms."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError
from mailtools.core.wire.dots import Stuffer
from mailtools.services.transit import outgoing
from mailtools.services.transit.intake import LONG_LINE, MAX_HEADER
from mailtools.services.transit.outgoing import Outgoing, Stamps, Wishes
from mailtools.system.files.buffer import Buffer

STAMPS = Stamps("Thu, 22 Aug 2002 12:00:00 +0000", "<new@host.example>")
WISHES = Wishes(("bob@example.com",))
HEAD = b"Date: today\nMessage-ID: <1@x>\n"


def made(octets: bytes, wishes: Wishes = WISHES, drops_postmark: bool = False) -> Outgoing:
    return outgoing.prepare("msg", [octets], wishes, STAMPS, drops_postmark)


def sent(message: Outgoing) -> bytes:
    return b"".join(message.blocks())


def refusal(octets: bytes, wishes: Wishes = WISHES) -> str:
    with pytest.raises(BadDataError) as caught:
        made(octets, wishes)
    return str(caught.value)


def addresses(message: Outgoing) -> list[str]:
    return [recipient.address for recipient in message.recipients]


# -- content -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("octets", "expected"),
    [
        (HEAD + b"\nbody\n", b"Date: today\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n"),
        (HEAD + b"\nbody", b"Date: today\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n"),
        (HEAD.replace(b"\n", b"\r\n") + b"\r\nbody\r\n", b"Date: today\r\nMessage-ID: <1@x>\r\n\r\nbody\r\n"),
        (HEAD, b"Date: today\r\nMessage-ID: <1@x>\r\n\r\n"),
        (HEAD + b"\n\n\n.\n..\n", b"Date: today\r\nMessage-ID: <1@x>\r\n\r\n\r\n\r\n.\r\n..\r\n"),
        (HEAD + b"hello: no\n field\n\nx\n", b"Date: today\r\nMessage-ID: <1@x>\r\nhello: no\r\n field\r\n\r\nx\r\n"),
    ],
    ids=["whole", "last line not ended", "CRLF", "no body", "dots and empty lines", "folded field"],
)  # fmt: skip
def test_the_message_is_sent_with_crlf_and_its_last_line_ended(octets: bytes, expected: bytes) -> None:
    message = made(octets)
    assert sent(message) == expected
    assert message.size == len(expected)
    assert sent(message) == expected, "it can be read twice"


def test_a_message_without_a_header_is_all_body() -> None:
    message = made(b"hello there\nDate: no field\n")
    assert sent(message) == (
        b"Date: Thu, 22 Aug 2002 12:00:00 +0000\r\nMessage-ID: <new@host.example>\r\n\r\n"
        b"hello there\r\nDate: no field\r\n"
    )
    assert message.size == len(sent(message))


@pytest.mark.parametrize(
    ("fields", "added"),
    [
        (b"Date: today\nMessage-ID: <1@x>\n", b""),
        (b"DATE: today\nmessage-id: <1@x>\n", b""),
        (b"Date: today\n", b"Message-ID: <new@host.example>\r\n"),
        (b"Message-ID: <1@x>\n", b"Date: Thu, 22 Aug 2002 12:00:00 +0000\r\n"),
    ],
)
def test_only_missing_date_and_message_id_are_added(fields: bytes, added: bytes) -> None:
    assert sent(made(fields + b"\nx\n")) == fields.replace(b"\n", b"\r\n") + added + b"\r\nx\r\n"


def test_bcc_is_removed_from_the_header_and_kept_for_the_senders_copy() -> None:
    message = made(b"Bcc: carol@x,\n dave@y\nResent-Bcc: erin@z\nbcc: frank@w\n" + HEAD + b"\nBcc: body\n")
    assert sent(message) == b"Date: today\r\nMessage-ID: <1@x>\r\n\r\nBcc: body\r\n"
    assert message.bcc == b"Bcc: carol@x, dave@y\r\nBcc: frank@w\r\n"
    assert message.size == len(sent(message))


@pytest.mark.parametrize("dropped", [True, False])
def test_a_postmark_is_dropped_only_if_that_is_asked_for(dropped: bool) -> None:
    octets = b"From bob Thu Aug 22 12:00:00 2002\n" + HEAD + b"\nFrom x\n"
    found = sent(made(octets, drops_postmark=dropped))
    assert found.endswith(b"\r\n\r\nFrom x\r\n" if dropped else b"Message-ID: <1@x>\r\n\r\nFrom x\r\n")
    assert (b"From bob" in found) is not dropped


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (HEAD + b"\na\0b\n", "NUL"),
        (b"X: \0\n" + HEAD + b"\nb\n", "NUL"),
        (HEAD + b"\na\rb\n", "CR"),
        (b"X: a\rb\n" + HEAD + b"\nb\n", "CR"),
        (HEAD + b"\nlast\r", "CR"),
        (b"X: y\n" * (MAX_HEADER // 5 + 1) + b"\nb\n", "header"),
    ],
    ids=["NUL in the body", "NUL in the header", "CR in the body", "CR in the header", "CR at the end", "header"],
)  # fmt: skip
def test_octets_that_smtp_cannot_carry_are_refused_with_the_name_of_the_message(
    octets: bytes, words: str
) -> None:
    text = refusal(octets)
    assert text.startswith("msg: ")
    assert words in text


@pytest.mark.parametrize(
    ("octets", "needs_8bit", "needs_utf8", "long_line"),
    [
        (HEAD + b"\nplain\n", False, False, False),
        (HEAD + b"\ncaf\xc3\xa9\n", True, False, False),
        (b"Subject: caf\xc3\xa9\n" + HEAD + b"\nx\n", True, True, False),
        (b"Subject: caf\xe9\n" + HEAD + b"\nx\n", True, False, False),
        (HEAD + b"\n" + b"x" * 998 + b"\n", False, False, False),
        (HEAD + b"\n" + b"x" * 999 + b"\n", False, False, True),
        (b"Subject: " + b"x" * 990 + b"\n" + HEAD + b"\nx\n", False, False, True),
    ],
    ids=["ASCII", "8-bit body", "UTF-8 header", "Latin-1 header", "998 octets", "999 octets", "long field"],
)
def test_what_the_server_must_support_is_found(
    octets: bytes, needs_8bit: bool, needs_utf8: bool, long_line: bool
) -> None:
    message = made(octets)
    assert (message.needs_8bit, message.needs_utf8, message.has_long_line) == (
        needs_8bit, needs_utf8, long_line
    )  # fmt: skip


PIECES = st.lists(
    st.sampled_from([b"\n", b"\r\n", b".", b"x", b"A: b\n", b"Bcc: c@d\n", b" e\n", b"\xc3\xa9", b"y" * 999]),
    max_size=15,
).map(b"".join)


@settings(deadline=None)
@given(PIECES, st.lists(st.integers(0, 200), max_size=6))
def test_cuts_of_the_input_change_nothing_and_the_size_is_the_number_of_octets_sent(
    octets: bytes, cuts: list[int]
) -> None:
    places = sorted({0, len(octets), *(cut for cut in cuts if cut < len(octets))})
    blocks = [octets[a:b] for a, b in itertools.pairwise(places)]
    pieces = outgoing.prepare("msg", blocks, WISHES, STAMPS)
    whole = made(octets)
    assert sent(pieces) == sent(whole)
    assert pieces._replace(body=whole.body) == whole
    assert whole.size == len(sent(whole))
    assert sent(whole).endswith(b"\r\n")


def test_a_dot_at_a_cut_within_a_long_line_is_not_stuffed() -> None:
    long = b"x" * (LONG_LINE + 1)
    blocks = list(outgoing.whole_lines([long, b".y\n", b".z\n"]))
    assert blocks == [long, b".y\n", b".z\n"]
    assert b"".join(map(Stuffer(), blocks)) == long + b".y\n..z\n"


@given(st.lists(st.sampled_from([b"\n", b"a", b"bc\n", b"\n\nd", b"e" * LONG_LINE, b""]), max_size=8))
def test_whole_lines_are_the_same_octets_cut_at_line_ends_or_within_long_lines(blocks: list[bytes]) -> None:
    found = list(outgoing.whole_lines(blocks))
    assert b"".join(found) == b"".join(blocks)
    assert all(found)
    for block in found[:-1]:
        assert block.endswith(b"\n") or len(block) > LONG_LINE


# -- envelope ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "wishes", "expected"),
    [
        (b"To: t@x\nCc: c@x\nBcc: b@x\n", Wishes(), ["t@x", "c@x", "b@x"]),
        (b"To: t@x\nCc: c@x\n", Wishes(("a@x",)), ["a@x"]),
        (b"To: t@x, a@x\n", Wishes(("a@x",), from_header=True), ["a@x", "t@x"]),
        (b"To: Team: t@x, u@x;\nTo: \"a, b\" <v@x>\n", Wishes(), ["t@x", "u@x", "v@x"]),
        (b"", Wishes(("a@x", "a@x", "b@x")), ["a@x", "b@x"]),
    ],
    ids=["from the header", "arguments alone", "both, each once", "groups and names", "doubles"],
)  # fmt: skip
def test_recipients_come_from_the_arguments_or_the_header(
    fields: bytes, wishes: Wishes, expected: list[str]
) -> None:
    assert addresses(made(fields + HEAD + b"\nx\n", wishes)) == expected


@pytest.mark.parametrize(
    ("fields", "wishes", "words"),
    [
        (b"", Wishes(), "no recipients"),
        (b"To: undisclosed-recipients:;\n", Wishes(), "no recipients"),
        (b"", Wishes(("bob",)), "'bob'"),
        (b"", Wishes(("bob@x\r\nRCPT TO:<eve@x>",)), "not an address"),
        (b"", Wishes(("b\udce9b@x",)), "not an address"),
        (b"To: good@x, bad bad@x\n", Wishes(), "To: "),
    ],
)
def test_a_message_that_nobody_can_be_sent_to_is_refused(fields: bytes, wishes: Wishes, words: str) -> None:
    assert words in refusal(fields + HEAD + b"\nx\n", wishes)


@pytest.mark.parametrize(
    ("fields", "sender", "expected"),
    [
        (b"From: Ann <ann@x>, ben@x\n", None, "ann@x"),
        (b"From: nobody\n", None, "fall@back"),
        (b"", None, "fall@back"),
        (b"From: ann@x\n", "", ""),
        (b"From: ann@x\n", "<>", ""),
        (b"From: ann@x\n", " <carol@x> ", "carol@x"),
        (b"From: Ann <bad bad@x>\nFrom: ben@x\n", None, "ben@x"),
    ],
)
def test_the_reverse_path_is_the_option_else_the_author_else_the_fallback(
    fields: bytes, sender: str | None, expected: str
) -> None:
    wishes = WISHES._replace(sender=sender, fallback_sender="fall@back")
    assert made(fields + HEAD + b"\nx\n", wishes).reverse_path == expected


def test_a_sender_that_is_no_address_is_refused() -> None:
    assert "'ann'" in refusal(HEAD + b"\nx\n", WISHES._replace(sender="ann"))


def test_dsn_parameters_reach_the_envelope() -> None:
    message = made(HEAD + b"\nx\n", Wishes(("a@x", "b@x"), notify="FAILURE,DELAY", ret="HDRS", envid="QQ"))
    assert [recipient.notify for recipient in message.recipients] == ["FAILURE,DELAY"] * 2
    assert (message.ret, message.envid) == ("HDRS", "QQ")


# -- other forms -------------------------------------------------------------------------------------------

MIME = b"MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n" + HEAD


@pytest.mark.parametrize(
    ("wish", "octets", "recoded", "may_recode"),
    [
        ("auto", MIME + b"\ncaf\xc3\xa9\n", False, True),
        ("8bit", MIME + b"\ncaf\xc3\xa9\n", False, False),
        ("7bit", MIME + b"\ncaf\xc3\xa9\n", True, True),
        ("7bit", MIME + b"\ncafe\n", False, True),
    ],
)
def test_the_body_is_re_encoded_at_once_only_if_7bit_is_asked_for_and_needed(
    wish: str, octets: bytes, recoded: bool, may_recode: bool
) -> None:
    message = made(octets, WISHES._replace(body=wish))
    assert (b"quoted-printable" in sent(message) or b"base64" in sent(message)) is recoded
    assert message.may_recode is may_recode
    assert message.size == len(sent(message))


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_re_encoded_message_is_ascii_and_leaves_the_first_form_as_it_was(end: bytes) -> None:
    message = made(MIME + b"\ncaf\xc3\xa9 " + b"x" * 2000 + end)
    before = sent(message)
    ascii_form = outgoing.to_7bit(message)
    assert sent(ascii_form).isascii()
    assert max(map(len, sent(ascii_form).split(b"\r\n"))) <= 998
    assert not ascii_form.needs_8bit
    assert not ascii_form.has_long_line
    assert ascii_form.size == len(sent(ascii_form))
    ascii_form.body.close()
    assert sent(message) == before


def test_a_message_too_large_for_memory_is_not_re_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    message = made(MIME + b"\ncaf\xc3\xa9\n")
    monkeypatch.setattr(outgoing, "_MAX_RECODED", message.body.size)
    assert outgoing.to_7bit(message).size, "as large as the limit"
    monkeypatch.setattr(outgoing, "_MAX_RECODED", message.body.size - 1)
    with pytest.raises(BadDataError, match="too large") as caught:
        outgoing.to_7bit(message)
    assert caught.value.status == "5.6.3"


@pytest.mark.parametrize("is_queued", [False, True], ids=["header apart", "header in the body"])
@pytest.mark.parametrize("rest", [b"", b"x\n", b"caf\xc3\xa9 " * 100_000 + b"\nend"])
def test_the_header_becomes_ascii_and_the_body_stays(is_queued: bool, rest: bytes) -> None:
    message = made("Subject: Grüße\n".encode() + HEAD + b"\n" + rest)
    if is_queued:  # as services/queue gives it: all octets in the body
        whole = Buffer()
        whole.append(message.head.replace(b"\r\n", b"\n"))
        for block in message.body.blocks():
            whole.append(block)
        message = message._replace(head=b"", body=whole)
    before = sent(message)
    converted = outgoing.to_ascii_header(message)
    fields, _, body = sent(converted).partition(b"\r\n\r\n")
    assert fields.isascii()
    assert fields.startswith(b"Subject: =?utf-8?")
    assert body == before.partition(b"\r\n\r\n")[2]
    assert converted.size == len(sent(converted))
    assert not converted.needs_utf8
    converted.body.close()
    assert sent(message) == before, "the first form stays open"
