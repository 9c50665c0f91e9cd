"""GNU SASL logs in with SCRAM-SHA-256-PLUS, bound to the TLS below."""

import subprocess
from pathlib import Path

import pytest

from tests.servers import Server, mailtools


@pytest.mark.parametrize(("password", "code"), [("secret", "235"), ("wrong", "535")])
def test_channel_binding(tmp_path: Path, password: str, code: str) -> None:
    root = tmp_path / "root"
    done = mailtools(
        "user", "add", "ann", "--scheme", "scram-sha-256", "--root", str(root), stdin=b"secret\n"
    )
    assert done.returncode == 0
    with Server(root, "--tls-self-signed", "--transcript", str(tmp_path / "t")) as server:
        subprocess.run(
            ["gsasl", "--smtp", "--mechanism", "SCRAM-SHA-256-PLUS", "--starttls", "--priority",
             "NORMAL:-VERS-TLS1.3", f"--x509-ca-file={root}/.tls/cert.pem", "-a", "ann", "-z", "", "-p", password,
             "localhost", str(server.port)],
            stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=30,
        )  # fmt: skip
    (transcript,) = (tmp_path / "t").iterdir()
    text = transcript.read_text()
    assert "C: AUTH SCRAM-SHA-256-PLUS\n" in text
    assert f"S: {code} " in text
