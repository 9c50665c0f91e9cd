"""Each golden dialogue, played three ways."""

from pathlib import Path

import pytest

from tests.dialogues.player import (
    ImapInMemory,
    InMemory,
    OverSocket,
    Pop3InMemory,
    check_mboxes,
    files_of,
    play,
    put_mail,
    read,
)
from tests.servers import ImapServer, Pop3Server, Server

ENGINES = {"smtp": InMemory, "pop3": Pop3InMemory, "imap": ImapInMemory}
SERVERS = {"smtp": Server, "pop3": Pop3Server, "imap": ImapServer}
SCRIPTS = sorted(Path(__file__).parent.glob("*/*.txt"))


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_in_memory(path: Path, tmp_path: Path, piece: int) -> None:
    script = read(path)
    engine = ENGINES[path.parent.name]
    play(script, engine(script, tmp_path / "root", piece))
    check_mboxes(script, tmp_path / "root")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_over_a_socket(path: Path, tmp_path: Path) -> None:
    script, where = read(path), path.parent.name
    values = ("max-size", "max-recipients", "domain", "catch-all", "plus-delimiter", "bare-newline")
    options = [word for key in values if key in script.head
               for value in script.head[key].split() for word in (f"--{key}", value)]  # fmt: skip
    options += [
        word for key, path in files_of(script.head, tmp_path).items() for word in (f"--{key}", str(path))
    ]
    options += [
        option for key, option in (("lmtp", "--lmtp"), ("tls", "--tls-self-signed")) if key in script.head
    ]
    put_mail(script.head, tmp_path / "root")
    kind = SERVERS[where]
    with kind(tmp_path / "root", *options) as server:
        play(script, OverSocket(server.port))
    check_mboxes(script, tmp_path / "root")
