"""services/imap_server/metadata: all or nothing, and bounded; the rest is in dialogue 42."""

from pathlib import Path

import pytest

from mailtools.core.imap.metadata import GetMetadata, SetMetadata
from mailtools.services.imap_server import metadata
from mailtools.system.mbox.mailtree import MailboxError, MailTree


@pytest.mark.parametrize("limit", ["_MOST", "_MUCH"])
def test_too_many_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(metadata, limit, 3)
    tree = MailTree(str(tmp_path))
    metadata.store(tree, SetMetadata("INBOX", (("/private/a", b"1"), ("/private/b", b"2"))))
    more: tuple[tuple[str, bytes | None], ...] = (
        ("/private/a", b"3"),
        ("/private/c", b"4"),
        ("/private/d", b"5"),
    )
    with pytest.raises(MailboxError) as raised:
        metadata.store(tree, SetMetadata("INBOX", more))
    assert raised.value.code == "METADATA TOOMANY"
    assert tree.annotations() == {"INBOX": {"/private/a": b"1", "/private/b": b"2"}}


def test_a_long_value_is_told_where_it_fits(tmp_path: Path) -> None:
    tree = MailTree(str(tmp_path))
    metadata.store(tree, SetMetadata("", (("/private/a", b"x" * 5000), ("/private/b", b'"'))))
    found = metadata.get(tree, GetMetadata("", ("/private",), -1))
    assert found.untagged == (
        b'* METADATA "" (/private/a {5000}\r\n%b /private/b "\\"")\r\n' % (b"x" * 5000),
    )  # fmt: skip
    found = metadata.get(tree, GetMetadata("", ("/private/a", "/private/b"), 0, 4999))
    assert (found.code, found.untagged) == (
        "METADATA LONGENTRIES 5000",
        (b'* METADATA "" (/private/b "\\"")\r\n',),
    )
