"""We deliver to real servers under TLS and with a login: Postfix, with Dovecot to check passwords; Dovecot's LMTP.

What came of it is read from the server's log, and for Dovecot from the mailbox.
"""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailtools.core.errors import MailError, PolicyError, ProtocolError
from mailtools.core.smtp.route import Route
from mailtools.services.smtp_client.connect import open_link
from mailtools.services.smtp_client.connection import SmtpTarget
from mailtools.services.smtp_client.sender import transfer
from mailtools.services.transit import outgoing
from mailtools.services.transit.outcome import Outcome
from mailtools.services.transit.outgoing import Stamps, Wishes
from mailtools.system.tls.certificates import self_signed
from tests.interop.test_clients import MESSAGE
from tests.interop.test_clients_tls_auth import Postfix
from tests.interop.test_servers import free_port
from tests.servers import DEADLINE, eventually, smtp_target

PASSWORD = "pässwörd & 100%"
DOVECOT = """
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/dovecot.log
protocols = lmtp
ssl = no
first_valid_uid = 1
mail_location = mbox:{folder}/mail/%u:INBOX={folder}/mail/%u/inbox
auth_mechanisms = plain login scram-sha-256
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/passwords
}}
userdb {{
  driver = static
  args = uid=mail gid=mail home={folder}/mail/%u allow_all_users=yes
}}
service auth {{
  unix_listener {folder}/auth {{
    mode = 0666
  }}
}}
service lmtp {{
  unix_listener {folder}/lmtp {{
    mode = 0666
  }}
}}
"""


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Path]:
    """An instance of its own: who may log in, and mailboxes behind LMTP."""
    with tempfile.TemporaryDirectory(prefix="mailtools-dovecot-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "mail").mkdir()
        (folder / "mail").chmod(0o777)
        (folder / "passwords").write_text(f"bob:{{PLAIN}}{PASSWORD}\n")
        (folder / "dovecot.conf").write_text(DOVECOT.format(folder=folder))
        process = subprocess.Popen(["dovecot", "-F", "-c", str(folder / "dovecot.conf")])
        try:
            eventually(lambda: (folder / "lmtp").exists() and (folder / "auth").exists(), "Dovecot's sockets")
            yield folder
        finally:
            process.terminate()
            process.wait(DEADLINE)


class Submission(Postfix):
    """Postfix that takes mail of those only who log in, and that under TLS only."""

    def __init__(self, folder: Path, dovecot: Path) -> None:
        super().__init__(folder)
        self.smtps_port = free_port()
        self.certificate, key = self_signed(str(folder), "localhost")
        self.start(
            mydestination="localhost",
            defer_transports="local smtp",
            smtpd_tls_security_level="may",
            smtpd_tls_cert_file=self.certificate,
            smtpd_tls_key_file=key,
            smtpd_tls_auth_only="yes",
            smtpd_tls_loglevel="1",
            smtpd_sasl_auth_enable="yes",
            smtpd_sasl_type="dovecot",
            smtpd_sasl_path=str(dovecot / "auth"),
            smtpd_recipient_restrictions="permit_sasl_authenticated, reject",
        )

    def file(self, name: str, content: str) -> Path:
        if name == "master.cf":
            content += f"{self.smtps_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes\n"
        return super().file(name, content)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@pytest.fixture(scope="module")
def postfix(dovecot: Path) -> Iterator[Submission]:
    with tempfile.TemporaryDirectory(prefix="mailtools-postfix-", dir="/var/tmp") as folder:
        postfix = Submission(Path(folder), dovecot)
        try:
            yield postfix
        finally:
            postfix.command("stop")


def dialling(postfix: Submission, way: str, **options: Any) -> SmtpTarget:
    if way == "implicit":
        route = Route("smtps", "localhost", postfix.smtps_port)
    else:
        route = Route("smtp", "localhost", postfix.port)
        options.setdefault("tls", "starttls")
    options.setdefault("cafile", postfix.certificate)
    options.setdefault("user", "bob")
    options.setdefault("secret", lambda: PASSWORD)
    return smtp_target(route, **options)


def sent(asked: SmtpTarget, count: int = 1) -> list[Outcome]:
    wishes = Wishes(("bob@localhost",), sender="alice@example.org")
    messages = [
        outgoing.prepare("a message", [MESSAGE.encode()], wishes, Stamps("", "")) for _ in range(count)
    ]
    return [outcome for its in transfer(iter(messages), lambda: open_link(asked)) for outcome in its]


@pytest.mark.parametrize("mechanism", ["", "plain", "login", "scram-sha-256"])
@pytest.mark.parametrize("way", ["starttls", "implicit"])
def test_postfix_takes_mail_of_who_logs_in(postfix: Submission, way: str, mechanism: str) -> None:
    before = len(postfix.log)
    outcomes = sent(dialling(postfix, way, auth=mechanism), 3)
    assert [outcome.error for outcome in outcomes] == [None] * 3
    used = (mechanism or "scram-sha-256").upper()
    eventually(
        lambda: postfix.log.count(f"sasl_method={used}, sasl_username=bob", before) == 3, lambda: postfix.log
    )
    assert "TLS connection established from localhost" in postfix.log[before:]


def test_postfix_under_a_fingerprint(postfix: Submission) -> None:
    with pytest.raises(ProtocolError, match="SHA256:") as caught:
        open_link(dialling(postfix, "starttls", cafile="", fingerprint="0" * 64))
    seen = str(caught.value).partition("SHA256:")[2][:64]
    outcomes = sent(dialling(postfix, "starttls", cafile="", fingerprint=seen))
    assert [outcome.error for outcome in outcomes] == [None]


@pytest.mark.parametrize("mechanism", ["plain", "login", "scram-sha-256"])
def test_postfix_refuses_a_wrong_password(postfix: Submission, mechanism: str) -> None:
    asked = dialling(postfix, "starttls", auth=mechanism, secret=lambda: "wrong")
    with pytest.raises(PolicyError, match=f"login of bob with {mechanism.upper()} was refused"):
        open_link(asked)


@pytest.mark.parametrize("way", ["starttls", "implicit"])
def test_postfix_that_nobody_vouches_for(postfix: Submission, way: str) -> None:
    with pytest.raises(ProtocolError, match="not trusted"):
        open_link(dialling(postfix, way, cafile="", user="trusting"))
    assert "trusting" not in postfix.log


def test_postfix_takes_tls_where_nobody_insists(postfix: Submission) -> None:
    before = len(postfix.log)
    outcomes = sent(dialling(postfix, "starttls", tls="opportunistic", cafile="", user=""))
    assert isinstance(outcomes[0].error, MailError), "no login, no mail"
    # Its log is written by another process of its own.
    eventually(
        lambda: "TLS connection established from localhost" in postfix.log[before:], lambda: postfix.log
    )


def test_dovecot_over_lmtp(dovecot: Path) -> None:
    """It refuses EHLO, and then is asked with LHLO."""
    outcomes = sent(smtp_target(Route("unix", path=str(dovecot / "lmtp"))), 2)
    assert [outcome.error for outcome in outcomes] == [None] * 2
    octets = (dovecot / "mail" / "bob@localhost" / "inbox").read_bytes()
    assert octets.count(b"\nSubject: interop") == 2
