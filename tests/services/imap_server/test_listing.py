"""services/imap_server/listing: what dialogue 40 does not show."""

from pathlib import Path

from mailtools.core.errors import LockTimeoutError
from mailtools.core.imap.lists import List
from mailtools.services.imap_server import listing
from mailtools.system.mbox.mailtree import MailTree


def test_a_locked_mailbox_has_no_status(tmp_path: Path) -> None:
    tree = MailTree(str(tmp_path))
    tree.create("a")

    def status_of(name: str, items: tuple[str, ...]) -> bytes:
        if name == "a":
            raise LockTimeoutError("locked")
        return b"* STATUS\r\n"

    found = list(listing.responses(tree, List("", ("*",), is_extended=True, status=("MESSAGES",)), status_of))
    assert found == [
        b'* LIST (\\HasNoChildren) "/" INBOX\r\n', b"* STATUS\r\n", b'* LIST (\\HasNoChildren) "/" a\r\n',
    ]  # fmt: skip


def test_ten_thousand_names_above_each_other(tmp_path: Path) -> None:
    tree = MailTree(str(tmp_path))
    tree.subscribe("x", True)
    (tmp_path / ".mailtools" / "subscriptions").write_text("".join(f"a/{n}\n" for n in range(10_000)))
    asked = List("", ("%",), is_extended=True, filters=("SUBSCRIBED",), is_recursive=True)
    found = list(listing.responses(tree, asked, lambda name, items: b""))
    assert found == [b'* LIST (\\NonExistent \\HasNoChildren) "/" a ("CHILDINFO" ("SUBSCRIBED"))\r\n']
