"""Password hashes: those we write, and those that other programs wrote."""

import sys

import pytest

from mailtools.core.auth import passwd
from mailtools.core.errors import ConfigurationError
from mailtools.system.users import passwords

# Written by doveadm pw, for "secret".
WRITTEN = [
    "{SHA512-CRYPT}$6$UgSa.Bb24sNlAb63$v6aHY/lHcykke49wvWRa7Hi.QJj7a37W5tdblTcZxOxZjj/zYLAzuYKOZUGeWDebOfbSI9KcCo4gelBApDK7P0",
    "$6$UgSa.Bb24sNlAb63$v6aHY/lHcykke49wvWRa7Hi.QJj7a37W5tdblTcZxOxZjj/zYLAzuYKOZUGeWDebOfbSI9KcCo4gelBApDK7P0",
    "{BLF-CRYPT}$2y$05$qSGh3b6Co7n25kQ8y/4xgeiE68T/YMUOO4.xvas/SiCDwOlL.zzB.",
    "{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$BnapNjFuLv1R8UdcpC46Rg$Xm6bad65EMx4y3n5OVgJbWtAgDtpVt34ldmGkoKECTQ",
    "{PLAIN}secret",
]


def entry(field: str) -> passwd.UserEntry:
    return passwd.parse(f"bob:{field}")[0]["bob"]


@pytest.mark.parametrize("field", WRITTEN)
def test_hashes_of_others_fit(field: str) -> None:
    assert passwords.check(entry(field), "secret")
    for wrong in ("Secret", "", "secret\0", "sécret", "x" * 200):
        assert not passwords.check(entry(field), wrong)


@pytest.mark.parametrize("scheme", passwords.WRITTEN)
@pytest.mark.parametrize("password", ["secret", "pässwörd", "x" * 1024, " ", "日本"])
def test_what_we_make_fits(scheme: str, password: str) -> None:
    field = passwords.make(scheme, password)
    assert field.startswith("{" + scheme.upper() + "}")
    assert ":" not in field
    assert passwords.check(entry(field), password)
    assert not passwords.check(entry(field), password + "x")
    assert field != passwords.make(scheme, password), "salted"


@pytest.mark.parametrize(
    "field",
    [
        "{ARGON2ID}x",
        "{ARGON2ID}$argon2id$v=19$m=1",
        "{SHA512-CRYPT}$6$",
        "{SHA512-CRYPT}x",
        "{BLF-CRYPT}$2y$99$x",
        "{BLF-CRYPT}",
        "{X}y",
    ],
)
def test_a_broken_hash_fits_nothing(field: str) -> None:
    for password in ("", "x", "secret"):
        assert not passwords.check(entry(field), password)


@pytest.mark.parametrize(("module", "field"), [("passlib.hash", WRITTEN[0]), ("bcrypt", WRITTEN[2])])
def test_a_missing_library_is_one_clear_sentence(
    module: str, field: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=r"pip install 'mailtools\[hashes\]'"):
        passwords.check(entry(field), "secret")
