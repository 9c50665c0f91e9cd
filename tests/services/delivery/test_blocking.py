"""Mail into our own mailboxes, waited for: mboxes, programs, the spool."""

from pathlib import Path

from mailtools.core.errors import CannotWriteError, TemporaryError, UnknownRecipientError
from mailtools.services.delivery.addressing import AddressingSettings, open_addressing
from mailtools.services.delivery.blocking import Add, LocalMail
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Stamps, Wishes, prepare

MESSAGE = b"From: a@b.example\nStatus: RO\n\nFrom here"


def outcomes(folder: Path, aliases: str, *recipients: str, add: Add | None = None) -> list[Outcome]:
    (folder / "users").write_text("bob:\n")
    (folder / "aliases").write_text(aliases)
    settings = AddressingSettings(
        str(folder), domains=["here.test"], aliases=str(folder / "aliases"), alias_commands=True
    )
    warned: list[str] = []
    local = LocalMail(open_addressing(settings, "here.test", warned.append), add, warned.append)
    message = prepare("m", [MESSAGE], Wishes(recipients, sender="a@b.example"), Stamps("now", "<m@x>"))
    return local.deliver(message)


def test_an_mbox_gets_one_copy_and_strangers_are_refused(tmp_path: Path) -> None:
    bob, eve, sales = outcomes(tmp_path, "sales: bob\n", "bob@here.test", "eve@here.test", "sales@here.test")
    assert bob.error is None
    assert sales.error is None
    assert isinstance(eve.error, UnknownRecipientError)
    assert str(eve.reply) == "550 5.1.1 No such user here"
    (stored,) = (tmp_path / "bob/INBOX.mbox").read_bytes().split(b"From a@b.example ")[1:]
    assert b"Delivered-To: bob@here.test\nDelivered-To: sales@here.test\n" in stored
    assert b"\n>Status: RO\n" in stored
    assert stored.endswith(b"\n\n>From here\n\n")


def test_programs(tmp_path: Path, open_folder: Path) -> None:
    aliases = f"all: bob, |cat >{open_folder}/got\nno: |exit 1\nlater: |exit 75\n"
    whole, no, later = outcomes(tmp_path, aliases, "all@here.test", "no@here.test", "later@here.test")
    assert whole.error is None
    assert b"\nStatus: RO\n" in (open_folder / "got").read_bytes()
    assert (tmp_path / "bob/INBOX.mbox").exists()
    assert isinstance(no.error, UnknownRecipientError)
    assert isinstance(later.error, TemporaryError)


def test_addresses_elsewhere_are_one_entry_of_the_spool(tmp_path: Path) -> None:
    added = []

    def add(envelope: object, blocks: object) -> None:
        added.append((envelope, b"".join(blocks)))  # type: ignore[call-overload]

    outcomes(tmp_path, "x: a@one.test, b@two.test\n", "x@here.test", add=add)
    ((envelope, octets),) = added
    assert [r.address for r in envelope.recipients] == ["a@one.test", "b@two.test"]  # type: ignore[attr-defined]
    assert octets.endswith(b"\n\nFrom here\n")


def test_a_failed_place_fails_its_recipients_for_now(tmp_path: Path) -> None:
    def add(envelope: object, blocks: object) -> None:
        raise CannotWriteError("the spool")

    (tmp_path / "bob").write_text("no folder")
    x, bob = outcomes(tmp_path, "x: a@one.test\n", "x@here.test", "bob@here.test", add=add)
    for outcome in (x, bob):
        assert str(outcome.reply) == "451 4.3.0 Mailbox cannot be written, try again later"
        assert isinstance(outcome.error, TemporaryError)
