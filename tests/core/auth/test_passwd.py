"""Passwd-file lines: what is read, what an edit leaves alone, which passwords fit."""

import pytest

from mailtools.core.auth import passwd
from mailtools.core.auth.passwd import UserEntry

# Written by doveadm pw, for "secret".
SSHA512 = "kTFXXa/Zz5qkFisW43bbgDrjy+Bod57MJBwYcV+rJGwobeJzRHLoZ4og4OL3q1EqENQ71zrEpdHjpLYtxFyO7LLqFDg="
SSHA512_HEX = (
    "20dd349d96b8bfe2f7e491e717cf9df9d4d24eaeabdfc0469e3078ecce1976dede238854362092c6856a8b221811e2d12fcb7dcc"
    "368ec071bed29db27b7d98f40f9356a2"
)
SCRAM = (
    "4096,UuVl+sGoSmM46F9MzZ1ftA==,G16bnpvG3u3o+WuZZJMU4CV8HD/s2xy6mvXtKNCSlds=,"
    "Q3mNu59FdbiM7mM7T0a9TuaFnRuNM9V1z3bQ4MZE9VY="
)


def one(line: str) -> UserEntry:
    users, problems = passwd.parse(line)
    assert not problems
    (entry,) = users.values()
    return entry


@pytest.mark.parametrize(
    ("line", "scheme", "secret"),
    [
        ("bob:{PLAIN}x", "PLAIN", "x"),
        ("bob:{cleartext}x:1000:1000::/home/bob", "PLAIN", "x"),
        ("bob:{ARGON2ID}$argon2id$v=19$m=1,t=1$a$b", "ARGON2ID", "$argon2id$v=19$m=1,t=1$a$b"),
        ("bob:{ARGON2I}$argon2i$x", "ARGON2ID", "$argon2i$x"),
        ("bob:$6$salt$hash:1:2", "SHA512-CRYPT", "$6$salt$hash"),
        ("bob:{CRYPT}$2y$05$hash", "BLF-CRYPT", "$2y$05$hash"),
        ("bob:$2b$05$hash", "BLF-CRYPT", "$2b$05$hash"),
        ("bob:{SSHA512.b64}abc=", "SSHA512", "abc="),
        ("bob:{SSHA512.HEX}00ff", "SSHA512", "AP8="),
        ("bob:{SSHA512.HEX}xyz", "", "xyz"),
        ("bob:{MD5}x", "", "x"),
        ("bob:x", "", "x"),
        ("bob:", "", ""),
        ("bob", "", ""),
        ("Bob@Example.ORG:{PLAIN}x", "PLAIN", "x"),
    ],
)
def test_a_line(line: str, scheme: str, secret: str) -> None:
    entry = one(line)
    assert (entry.scheme, entry.secret) == (scheme, secret)
    assert entry.name == line.partition(":")[0].lower()


def test_what_is_passed_over_is_told_by_its_line() -> None:
    users, problems = passwd.parse(
        "# x\n\nbob:{PLAIN}1\nBOB:{PLAIN}2\ntwo words:x\n:x\nann:\n" + "x" * 201 + ":"
    )
    assert list(users) == ["bob", "ann"]
    assert users["bob"].secret == "1"
    assert [problem.partition(":")[0] for problem in problems] == ["line 4", "line 5", "line 6", "line 8"]


@pytest.mark.parametrize(
    "name", ["", "a b", "a:b", "a\tb", "#x", "a\nb", "a\0", "x" * 201, "a\u2028b", "\udcff"]
)
def test_names_that_cannot_be(name: str) -> None:
    assert passwd.problem_with_name(name)


@pytest.mark.parametrize("name", ["bob", "bob@example.org", "d.e+f", "ü", "x" * 200, "../x", "a/b"])
def test_names_that_can_be(name: str) -> None:
    assert not passwd.problem_with_name(name)


def test_an_edit_leaves_the_rest_as_it_was() -> None:
    text = "# users\nbob:{PLAIN}a:1000:1000::/home:/bin/sh\n\n#bob:x\n ann:y\nlast:z"
    assert passwd.with_entry(text, "bob", "{X}b") == text.replace("{PLAIN}a", "{X}b")
    assert passwd.with_entry(text, "ann", "{X}b") == text.replace(" ann:y", " ann:{X}b")
    assert passwd.with_entry(text, "new", "{X}b") == text + "\nnew:{X}b\n"
    assert passwd.with_entry("", "new", "{X}b") == "new:{X}b\n"
    assert passwd.with_entry("bob", "bob", "{X}b") == "bob:{X}b"
    assert passwd.without_entry(text, "ann") == text.replace(" ann:y\n", "")
    assert passwd.without_entry(text, "nobody") == text


@pytest.mark.parametrize(
    "field",
    ["{PLAIN}secret", f"{{SSHA512}}{SSHA512}", f"{{SSHA512.HEX}}{SSHA512_HEX}", f"{{SCRAM-SHA-256}}{SCRAM}"],
)
def test_passwords_of_dovecot_fit(field: str) -> None:
    entry = one(f"bob:{field}")
    assert passwd.matches(entry, "secret")
    for wrong in ("", "Secret", "secret ", "secrets", "sécret", "x" * 5000):
        assert not passwd.matches(entry, wrong)


@pytest.mark.parametrize(
    "field",
    [
        "{SSHA512}", "{SSHA512}!", "{SSHA512}" + "A" * 10, "{SCRAM-SHA-256}", "{SCRAM-SHA-256}1,2,3,4",
        "{SCRAM-SHA-256}x," + SCRAM.partition(",")[2], "{SCRAM-SHA-256}" + SCRAM[:-4], "{SCRAM-SHA-256}٤," + SCRAM[5:],
        "{SCRAM-SHA-256}4096,," + SCRAM.split(",", 2)[2], "{SCRAM-SHA-256}0" + SCRAM[4:],
        "{SCRAM-SHA-256}2000000000" + SCRAM[4:], "{CRYPT}" * 2000 + "x", "x", "{MD5}secret", "",
    ],
)  # fmt: skip
def test_a_broken_hash_fits_nothing(field: str) -> None:
    entry = one(f"bob:{field}")
    for password in ("secret", "", "x"):
        assert not passwd.matches(entry, password)


def test_scram_keys_are_written_as_dovecot_writes_them() -> None:
    keys = passwd.scram_keys(one(f"bob:{{SCRAM-SHA-256}}{SCRAM}"))
    assert keys is not None
    assert passwd.scram_secret(keys) == "{SCRAM-SHA-256}" + SCRAM
    assert passwd.scram_keys(one("bob:{PLAIN}x")) is None
