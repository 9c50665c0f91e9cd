"""Drafts: types of files, messages out of an mbox, the text form, and what lies on disk."""

import gzip
import os
import stat
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailtools.core.errors import BadDataError, CannotWriteError, MissingInputError
from mailtools.core.message.address import Address
from mailtools.core.message.compose import Attachment, Draft
from mailtools.services.submission import drafts
from mailtools.services.submission.drafts import DraftError

BOB = Address("Bob", "bob@example.org")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("EMAIL", "Bob <bob@example.org>")
    return tmp_path / "state" / "mailtools" / "drafts"


# -- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "octets", "expected"),
    [
        ("a.txt", b"plain\n", ("text/plain", "us-ascii")),
        ("a.txt", "grün\n".encode(), ("text/plain", "utf-8")),
        ("a.txt", b"gr\xfcn\n", ("text/plain", "unknown-8bit")),
        ("a.txt", "grün\n".encode("utf-16"), ("text/plain", "utf-16")),
        ("a.txt", b"\x00\x01", ("application/octet-stream", "")),
        ("a.html", b"<p>", ("text/html", "us-ascii")),
        ("a.png", b"whatever", ("image/png", "")),
        ("A.PDF", b"%PDF-1", ("application/pdf", "")),
        ("a.tar.gz", b"\x1f\x8b", ("application/gzip", "")),
        ("noname", b"\x89PNG\r\n\x1a\n\0", ("image/png", "")),
        ("noname", b"text\n", ("text/plain", "us-ascii")),
        ("noname", b"\0\0", ("application/octet-stream", "")),
        ("", b"", ("text/plain", "us-ascii")),
        ("data:image/png,x.txt", b"a", ("text/plain", "us-ascii")),
        ("m.eml", b"From: a@b\n\nhi\n", ("message/rfc822", "")),
        ("m.eml", b"no message at all", ("text/plain", "us-ascii")),
        ("m.eml", b"From a Thu Aug 22 12:00:00 2002\nA: b\n\n", ("text/plain", "us-ascii")),
    ],
)
def test_content_types(name: str, octets: bytes, expected: tuple[str, str]) -> None:
    assert drafts.content_type(name, octets) == expected


def test_an_attachment(tmp_path: Path) -> None:
    file = tmp_path / "a b.txt"
    file.write_bytes(b"one\r\ntwo")
    assert drafts.attachment(str(file)) == ("a b.txt", "text/plain", b"one\r\ntwo", "us-ascii", str(file))


def test_attachments_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingInputError, match="no such file"):
        drafts.attachment(str(tmp_path / "none"))
    with pytest.raises(BadDataError, match="a directory"):
        drafts.attachment(str(tmp_path))
    monkeypatch.setattr(drafts, "MAX_FILE", 10)
    (tmp_path / "large").write_bytes(b"x" * 11)
    with pytest.raises(BadDataError, match="larger than"):
        drafts.attachment(str(tmp_path / "large"))


def test_html_in_its_own_charset(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for octets in (
        "<p>grün".encode(),
        b"\xef\xbb\xbf<meta charset=iso-8859-1>" + "<p>grün".encode(),
        b"<meta charset=windows-1252><p>gr\xfcn",
    ):
        page.write_bytes(octets)
        assert drafts.html(str(page)).endswith("<p>grün")


def test_ones_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drafts.own_address() == BOB
    monkeypatch.setenv("EMAIL", "=?utf-8?q?a=0Ab?= <bob@example.org>")
    assert drafts.own_address() == Address("a\u240ab", "bob@example.org")
    monkeypatch.setenv("EMAIL", "a@x.org, b@y.org")
    assert drafts.own_specs() == ["a@x.org", "a@x.org", "b@y.org"]


# -- messages out of an mbox ---------------------------------------------------------------------------------

MBOX = (
    b"From a@b Thu Aug 22 12:00:00 2002\nSubject: one\nStatus: RO\nX-UID: 7\n\n>From here\n\n"
    b"From a@b Thu Aug 22 12:00:00 2002\nSubject: two\n\nsecond\n\n"
)


@pytest.mark.parametrize("packed", [False, True])
def test_a_message_of_an_mbox(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "in: box.mbox"
    path.write_bytes(gzip.compress(MBOX) if packed else MBOX)
    assert drafts.message_of(f"{path}:1") == b"Subject: one\n\nFrom here\n"
    assert drafts.message_of(f"{path}:2") == b"Subject: two\n\nsecond\n"
    for number in (0, 3):
        with pytest.raises(MissingInputError, match=f"no message {number}; the mbox holds 2"):
            drafts.message_of(f"{path}:{number}")


def test_a_large_message_is_whole(tmp_path: Path) -> None:
    body = b"0123456789abcde\n" * (1 << 18)
    (tmp_path / "m").write_bytes(b"From a@b Thu Aug 22 12:00:00 2002\nA: b\n\n" + body + b"\n" + MBOX)
    assert drafts.message_of(f"{tmp_path / 'm'}:1") == b"A: b\n\n" + body


@pytest.mark.parametrize("reference", ["inbox", "inbox:", ":1", "inbox:x", "inbox:-1", "-:1", "inbox:١"])
def test_what_names_no_message(reference: str) -> None:
    with pytest.raises(BadDataError, match="write it as inbox"):
        drafts.message_of(reference)


def test_an_mbox_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="none: no such file"):
        drafts.message_of(f"{tmp_path / 'none'}:1")


# -- the text form -------------------------------------------------------------------------------------------

LINE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=60)
# Beside a quoted local part, white space within a name is read as one space.
NAME = LINE.filter(lambda name: "=?" not in name and name == " ".join(name.split()))
PEOPLE = st.lists(
    st.builds(Address, NAME, st.sampled_from(["a@b.c", '"x y"@b.c', "ü@例え.jp"])), max_size=8
).map(tuple)
BODY = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\0"), max_size=200)


@given(
    PEOPLE, PEOPLE, PEOPLE, LINE, BODY, st.lists(LINE.map(lambda text: ("X-A", text.strip(" "))), max_size=3)
)
def test_the_text_form_comes_back(
    to: Any, cc: Any, reply_to: Any, subject: str, text: str, headers: Any
) -> None:
    draft = Draft(
        (BOB,), to, cc, (), reply_to, subject.strip(" "), tuple(pair for pair in headers if pair[1]), text
    )
    assert drafts.from_text(drafts.to_text(draft)) == draft


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=40)
)
def test_any_path_comes_back(name: str) -> None:
    line = drafts.path_text(f"/tmp/{name}")
    assert "\n" not in line
    assert drafts._path(line.strip(" \t")) == f"/tmp/{name}"


def test_odd_spaces_in_names_come_back() -> None:
    draft = Draft((BOB,), (Address("a\u1680b \u00a0c", "a@b.c"),))
    assert drafts.from_text(drafts.to_text(draft)) == draft


def test_what_an_editor_makes_of_it() -> None:
    text = (
        "\ufeffTO: ann@example.org,\r\n\tbob@example.org\r\nto: carol@example.org\r\nCc:\r\n"
        "subject:   a long\r\n  subject\r\nIn-Reply-To: <a@b>\r\n\r\n\r\nText\r\nTo: nobody\r\n"
    )
    draft = drafts.from_text(text)
    assert [one.spec for one in draft.to] == ["ann@example.org", "bob@example.org", "carol@example.org"]
    assert draft.subject == "a long subject"
    assert draft.headers == (("In-Reply-To", "<a@b>"),)
    assert draft.text == "\nText\nTo: nobody\n"
    assert drafts.from_text("\nonly text").text == "only text"
    assert drafts.from_text("To: a@b.c").text == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("To: a@b.c\nhello there\n\n", "line 2: no header field: 'hello there'"),
        ("To: a@b.c,\n  b\n\n", "line 1: To: not an address: 'b'"),
        ("\tTo: a@b.c\n\n", "line 1: no header field"),
        ("Subject: a\nSubject: b\n\n", "line 2: Subject: stands twice"),
        ("From: a@b.c, d@e.f\n\n", "line 1: From: a message has one writer"),
        ("Subject: a\x1b[2J\n\n", "line 1: Subject: holds the control character U\\+001B"),
        ("Content-Type: x/y\n\n", "line 1: Content-Type: this field is made from the draft"),
        ("To: a@b.c\nCc:\nAttach: /does/not/exist\n\n", "line 3: /does/not/exist: no such file"),
        ('Attach: "/un\n\n', "line 1: not a path in quotes"),
        ("Attach: /\n\n", "line 1: /: a directory"),
        ("HTML: /does/not/exist\n\n", "line 1: /does/not/exist: no such file"),
        ("Attach: a\0b\n\n", "line 1: 'a.x00b': no file can have this name"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(DraftError, match=problem):
        drafts.from_text(text)


def test_attachments_are_lines(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("1")
    (tmp_path / " two\n.txt").write_text("2")
    files = tuple(drafts.attachment(str(tmp_path / name)) for name in ("one.txt", " two\n.txt"))
    draft = Draft((BOB,), attachments=files)
    assert f"Attach: {tmp_path}/one.txt\n" in drafts.to_text(draft)
    assert drafts.from_text(drafts.to_text(draft)) == draft


@given(st.text(max_size=300))
def test_any_text_is_a_draft_or_told_why_not(text: str) -> None:
    try:
        drafts.from_text(text.replace("Attach", "").replace("HTML", ""))
    except DraftError as error:
        assert str(error).startswith("line ")


def test_header_lines_of_options() -> None:
    draft = drafts.with_header(drafts.with_header(Draft(), "X-A : b"), "Cc: a@b.c")
    assert draft.headers == (("X-A", "b"),)
    assert draft.cc == (Address("", "a@b.c"),)
    for line in ("no colon", "Attach: x", "HTML: x", "From: a@b.c", "X: a\nBcc: b@c.d", "Content-Type: x"):
        with pytest.raises(BadDataError):
            drafts.with_header(Draft(), line)


def test_the_octets_of_a_draft() -> None:
    with pytest.raises(BadDataError, match="no recipients"):
        drafts.octets_of(Draft((BOB,)))
    octets = [drafts.octets_of(Draft(bcc=(BOB,), text="x")) for _ in range(2)]
    first, second = (message_from_bytes(one, policy=policy.default) for one in octets)
    assert first["From"] == "Bob <bob@example.org>"
    assert first["Date"].datetime
    assert first["Message-ID"] != second["Message-ID"]


# -- on disk -------------------------------------------------------------------------------------------------


def test_a_draft_is_kept_for_its_writer_alone(home: Path, tmp_path: Path) -> None:
    home.mkdir(parents=True)
    home.chmod(0o755)
    inner = Attachment("forwarded.eml", "message/rfc822", b"A: b\n\nc\n")
    draft = Draft((BOB,), subject="ü", text="text", html="<p>ü</p>\n", attachments=(inner, inner))
    kept = drafts.keep(draft)
    folder = Path(kept.path).parent
    assert folder.parent == home
    assert [stat.S_IMODE(path.stat().st_mode) for path in (home, folder)] == [0o700, 0o700]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in folder.iterdir())
    again = kept.read()
    assert again._replace(attachments=()) == draft._replace(attachments=())
    assert [one.octets for one in again.attachments] == [inner.octets] * 2
    assert [one.type for one in again.attachments] == ["message/rfc822"] * 2
    kept.remove()
    assert not folder.exists()


def test_a_draft_that_is_written_again_keeps_its_html(home: Path) -> None:
    kept = drafts.keep(Draft((BOB,), html="<meta charset=latin1>ü"))
    kept.write(kept.read()._replace(subject="new"))
    assert kept.read().html == "<meta charset=latin1>ü"
    assert kept.read().subject == "new"


def test_an_editors_new_file_is_made_private(home: Path) -> None:
    kept = drafts.keep(Draft((BOB,)))
    os.unlink(kept.path)
    Path(kept.path).write_text("To: a@b.c\n\ngr")
    kept.read()
    assert stat.S_IMODE(os.stat(kept.path).st_mode) == 0o600


def test_which_files_are_ours(home: Path, tmp_path: Path) -> None:
    kept = drafts.keep(Draft((BOB,)))
    found = drafts.kept_at(kept.path)
    assert found is not None
    assert found.path == kept.path
    others = (tmp_path / "draft.eml", Path(kept.path).parent / "forwarded.eml", home / "draft.eml")
    for other in others:
        other.write_text("To: a@b.c\n\n")
        assert drafts.kept_at(str(other)) is None
    (tmp_path / "link").symlink_to(kept.path)
    assert drafts.kept_at(str(tmp_path / "link")) is not None


def test_a_copy_of_what_cannot_be_read_as_a_draft(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("broken\n\ntext")
    kept = drafts.copied(str(own))
    assert Path(kept.path).read_text() == "broken\n\ntext"
    assert kept.path != str(own)
    with pytest.raises(DraftError, match="line 1"):
        drafts.opened(str(own))


def test_nowhere_to_keep_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(CannotWriteError, match="no draft can be kept there"):
        drafts.keep(Draft((BOB,)))


def test_the_folder_of_drafts_without_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/bob")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert drafts.folder_of_drafts() == "/home/bob/.local/state/mailtools/drafts"
