"""The fixture for other people's tests: a server in the process, and what it got."""

import smtplib
import ssl
from email.message import EmailMessage
from pathlib import Path

import pytest

from mailtools import testing
from mailtools.testing import SmtpServer

pytest_plugins = ["pytester"]


def message(subject: str = "Welcome") -> EmailMessage:
    one = EmailMessage()
    one["From"], one["To"], one["Subject"] = "app@example.org", "bob@example.org", subject
    one.set_content("Grüße\n.\nEnde\n")
    return one


def test_a_message_is_waited_for(smtp_server: SmtpServer) -> None:
    assert smtp_server.messages == []
    with pytest.raises(TimeoutError, match="0 of 1 messages"):
        smtp_server.wait_for(1, timeout=0.05)
    with smtplib.SMTP(smtp_server.address, smtp_server.port) as client:
        client.send_message(message())
    (got,) = smtp_server.wait_for()
    assert got["Subject"] == "Welcome"
    assert got["Delivered-To"] == "bob@example.org"
    assert got.get_content().startswith("Grüße\n.\nEnde\n")
    assert smtp_server.mbox.read_bytes().startswith(b"From app@example.org ")
    assert "C: mail FROM:<app@example.org>" in next(smtp_server.transcripts.iterdir()).read_text()


@pytest.mark.smtp_server(users={"app": "secret"}, tls=True, faults=['rcpt reply "451 4.7.1 Later" times=1'])
def test_options_by_a_marker(smtp_server: SmtpServer) -> None:
    context = ssl.create_default_context(cafile=str(smtp_server.certificate))
    with smtplib.SMTP("localhost", smtp_server.port) as client:
        client.starttls(context=context)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("app", "wrong")
        client.login("app", "secret")
        with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"4\.7\.1"):
            client.send_message(message())
        client.send_message(message("again"))
    assert [m["Subject"] for m in smtp_server.wait_for()] == ["again"]
    assert "secret" not in "".join(path.read_text() for path in smtp_server.transcripts.iterdir())


def test_without_a_fixture(tmp_path: Path) -> None:
    with testing.serve(tmp_path / "a", implicit_tls=True) as first, testing.serve(tmp_path / "b") as second:
        context = ssl.create_default_context(cafile=str(first.certificate))
        with smtplib.SMTP_SSL("localhost", first.port, context=context) as client:
            client.login("anybody", "anything")
            client.send_message(message())
        assert len(first.wait_for()) == 1
        assert second.messages == []
        assert first.port != second.port
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP(first.host, first.port)


@pytest.mark.parametrize("named", ["", 'pytest_plugins = ["mailtools.testing"]\n'])
def test_the_plugin_is_there_once_installed(pytester: pytest.Pytester, named: str) -> None:
    pytester.makeconftest(named)
    pytester.makepyfile(
        """
        import pytest, smtplib

        @pytest.mark.smtp_server(max_size=1000)
        def test_it(smtp_server):
            with smtplib.SMTP(smtp_server.host, smtp_server.port) as client:
                client.sendmail("a@x", "b@y", "Subject: hi\\n\\nbody\\n")
            assert smtp_server.wait_for(1)[0]["Subject"] == "hi"
        """
    )
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=1)
