"""Any octets give answers, the same in any split, and what is quoted comes back."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from mailtools.core.mbox import quoting, scan
from mailtools.core.message import address, date, header, html, mime, parameters, words

Read = Callable[[int], bytes]
PIECES = st.sampled_from(
    [
        b"\n", b"\r\n", b"\n\n", b"From ", b"From a Thu Aug 22 12:00:00 2002\n", b"From - \n", b">From x\n",
        b"Subject: x\n", b" folded\n", b"Content-Type: multipart/mixed; boundary=b\n", b"--b\n", b"--b--\n",
        b"=?utf-8?b?5L2g?=", b"\x00", b"\xff", b"a@b, ", b'"', b"<", b">", b"(", b":", b";",
        b"Status: RO\n", b"x" * 3000,
    ]
)  # fmt: skip
TEXTS = st.lists(PIECES | st.binary(max_size=8), max_size=40).map(b"".join)


def reader(octets: bytes, most: int) -> Read:
    view = [octets]

    def read(size: int) -> bytes:
        size = min(size, most)
        piece, view[0] = view[0][:size], view[0][size:]
        return piece

    return read


@given(TEXTS, st.integers(1, 5000))
@settings(max_examples=300, deadline=None)
def test_any_split_gives_the_same_records(body: bytes, most: int) -> None:
    octets = b"From x\n" + body
    whole = [record.head for record in scan.records(reader(octets, len(octets)))]
    parts = [b"".join(record.chunks()) for record in scan.records(reader(octets, most), head=0)]
    assert parts == whole
    assert b"".join(whole) == octets
    assert scan.count(reader(octets, most)) == len(whole)


@given(st.lists(TEXTS.filter(lambda text: b"\r" not in text), min_size=1, max_size=5), st.integers(1, 9000))
@settings(max_examples=200, deadline=None)
def test_messages_that_were_quoted_come_back(texts: list[bytes], most: int) -> None:
    messages = [b"A: b\n\n" + text + b"\n" for text in texts]
    octets = b"".join(
        b"From x Thu Aug 22 12:00:00 2002\n" + quoting.quote(message) + b"\n" for message in messages
    )
    assert [b"".join(record.message_chunks()) for record in scan.records(reader(octets, most))] == messages


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_octets_are_read(octets: bytes) -> None:
    words.decode(octets).encode()
    parameters.parse(octets)
    date.parse(octets)
    address.addresses(octets)
    address.first_name(octets)
    html.to_text(octets.decode("latin-1"))
    for part in mime.parse(octets):
        assert 0 <= part.start <= part.body <= part.end <= len(octets)
        part.text().encode()
    stop = header.body_offset(octets)
    assert (
        b"".join(octets[start:end] for _, start, _, end in header.fields(octets, 0, stop)) in octets or stop
    )
    assert header.Picker("subject").pick(b"\n" + octets, 0, len(octets) + 1)[1] == stop + 1


@given(TEXTS)
@settings(max_examples=200, deadline=None)
def test_removing_a_field_leaves_none_and_all_others(octets: bytes) -> None:
    head = octets[: header.body_offset(octets)]
    left = header.remove(head, "Subject")
    assert [name for name, *_ in header.fields(left)] == [
        name for name, *_ in header.fields(head) if name != b"subject"
    ]


@given(st.integers(-62135596800 + 86400, 253402300799 - 86400), st.integers(-1439, 1439))
def test_a_date_written_is_read(seconds: int, offset: int) -> None:
    assert date.parse(date.format_date(seconds, offset).encode()) == (seconds, offset)


@given(
    st.lists(
        st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~.é-]{1,20}@[a-z0-9.-]{1,20}", fullmatch=True), max_size=20
    ),
    st.data(),
)
def test_addresses_come_back(specs: list[str], data: st.DataObject) -> None:
    names = [data.draw(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=10)) for _ in specs]
    quoted = ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"' for name in names]
    value = ", ".join(f"{name} <{spec}>" for name, spec in zip(quoted, specs, strict=True))
    assert address.addr_specs(value) == specs
