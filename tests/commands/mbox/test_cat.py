"""``mailtools mbox cat``."""

from pathlib import Path

from click.testing import CliRunner

from mailtools.commands.mbox.cat import command


def test_octet_for_octet(own: Path) -> None:
    mixed = own / "mixed.mbox"
    assert CliRunner().invoke(command, [str(mixed)]).stdout_bytes == mixed.read_bytes()
    result = CliRunner().invoke(command, ["--subject", "nested", str(mixed)])
    assert result.exit_code == 0
    assert result.stdout_bytes in mixed.read_bytes()
    assert result.stdout_bytes.startswith(b"From sender@example.org Mon Jan  5 11:")


def test_nothing_matched_is_1(own: Path) -> None:
    result = CliRunner().invoke(command, ["--subject", "no such subject", str(own / "mixed.mbox")])
    assert (result.exit_code, result.stdout_bytes) == (1, b"")
