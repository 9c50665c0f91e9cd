"""services/access: which mechanisms are used, and the errors of logins that are not tried."""

import base64

import pytest

from mailtools.core.errors import ConfigurationError
from mailtools.services.access import Access, begin, login_of, mechanisms, no_login_fits, overheard

OFFERED = ["LOGIN", "plain", "SCRAM-SHA-256", "XOAUTH2", "GSSAPI"]


@pytest.mark.parametrize(
    ("access", "is_safe", "expected"),
    [
        (Access(), True, ["SCRAM-SHA-256", "PLAIN", "LOGIN"]),
        (Access(), False, ["SCRAM-SHA-256"]),
        (Access(auth="plain"), True, ["PLAIN"]),
        (Access(auth="plain"), False, []),
        (Access(auth="gssapi"), True, []),
        (Access(is_token=True), True, ["XOAUTH2"]),
        (Access(is_token=True), False, []),
    ],
)
def test_mechanisms_are_offered_usable_and_safe(access: Access, is_safe: bool, expected: list[str]) -> None:
    assert mechanisms(OFFERED, access, is_safe) == expected


def test_a_login_begins_with_the_users_credentials() -> None:
    first = next(begin("PLAIN", Access(user="bob"), "secret", "host", 1))
    assert first.octets == b"\0bob\0secret"
    nonces = {next(begin("SCRAM-SHA-256", Access(user="bob"), "s", "host", 1)).octets for _ in range(3)}
    assert len(nonces) == 3
    token = next(begin("OAUTHBEARER", Access(user="bob"), "abc", "mx.test", 993)).octets or b""
    assert b"host=mx.test\1port=993\1auth=Bearer abc" in token
    with pytest.raises(ConfigurationError):
        next(begin("PLAIN", Access(user="bob"), "", "host", 1))


def test_errors_say_what_is_offered_and_what_to_do() -> None:
    error = no_login_fits("mx.test", ["GSSAPI", "X\x1b"], Access(auth="plain"), "; try --tls starttls")
    assert str(error) == ("no login that fits: mx.test offers GSSAPI, X?; wanted: PLAIN; try --tls starttls")
    assert "offers none; wanted: OAUTHBEARER, XOAUTH2" in str(no_login_fits("h", [], Access(is_token=True)))
    assert "PLAIN can be overheard" in str(overheard("PLAIN", "--tls starttls"))
    assert login_of(Access(user="b\nb"), "PLAIN") == "the login of b?b with PLAIN"


def test_no_secret_is_in_the_text_of_an_access() -> None:
    assert base64.b64encode(b"secret").decode() not in repr(Access(secret=lambda: "secret"))
    assert "'secret'" not in repr(Access(secret=lambda: "secret"))
