"""Each golden dialogue, played three ways."""

from pathlib import Path

import pytest

from tests.dialogues.player import InMemory, OverSocket, check_mboxes, files_of, play, read
from tests.servers import Server

SCRIPTS = sorted((Path(__file__).parent / "smtp").glob("*.txt"))


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_in_memory(path: Path, tmp_path: Path, piece: int) -> None:
    script = read(path)
    play(script, InMemory(script, tmp_path / "root", piece))
    check_mboxes(script, tmp_path / "root")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_over_a_socket(path: Path, tmp_path: Path) -> None:
    script = read(path)
    values = ("max-size", "max-recipients", "domain", "catch-all", "plus-delimiter")
    options = [word for key in values if key in script.head
               for value in script.head[key].split() for word in (f"--{key}", value)]  # fmt: skip
    options += [
        word for key, path in files_of(script.head, tmp_path).items() for word in (f"--{key}", str(path))
    ]
    options += [
        option for key, option in (("lmtp", "--lmtp"), ("tls", "--tls-self-signed")) if key in script.head
    ]
    with Server(tmp_path / "root", *options) as server:
        play(script, OverSocket(server.port))
    check_mboxes(script, tmp_path / "root")
