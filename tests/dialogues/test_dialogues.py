"""Each golden dialogue, played three ways."""

from pathlib import Path

import pytest

from tests.dialogues.player import InMemory, OverSocket, check_mboxes, play, read
from tests.servers import Server

SCRIPTS = sorted((Path(__file__).parent / "smtp").glob("*.txt"))


@pytest.mark.parametrize("piece", [0, 1], ids=["whole", "octets"])
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_in_memory(path: Path, tmp_path: Path, piece: int) -> None:
    script = read(path)
    play(script, InMemory(script, tmp_path, piece))
    check_mboxes(script, tmp_path)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_over_a_socket(path: Path, tmp_path: Path) -> None:
    script = read(path)
    options = [word for key in ("max-size", "max-recipients") if key in script.head
               for word in (f"--{key}", script.head[key])]  # fmt: skip
    with Server(tmp_path / "root", *options) as server:
        play(script, OverSocket(server.port))
    check_mboxes(script, tmp_path / "root")
