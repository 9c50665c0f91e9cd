"""Dates as postmarks and fields write them; names that never repeat."""

import email.utils
import locale
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from mailtools.system import clock


@pytest.mark.parametrize("seconds", [0, 1_030_017_600, 1_030_017_609, 951_782_400, 4_102_444_799, -1])
def test_a_postmark_has_its_date_in_utc(seconds: int) -> None:
    assert clock.asctime(seconds) == time.asctime(time.gmtime(seconds))


def test_no_locale_changes_a_postmark() -> None:
    saved = locale.setlocale(locale.LC_ALL)
    try:
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"):
            try:
                locale.setlocale(locale.LC_ALL, name)
            except locale.Error:
                continue
            clock.asctime.cache_clear()
            assert clock.asctime(1_030_017_600) == "Thu Aug 22 12:00:00 2002"
            clock.date_field.cache_clear()
            assert "Thu, 22 Aug 2002" in clock.date_field(1_030_017_600)
    finally:
        locale.setlocale(locale.LC_ALL, saved)


@pytest.mark.parametrize(
    ("zone", "offset"), [("UTC", "+0000"), ("XXX-5:30", "+0530"), ("XXX3:30", "-0330"), ("XXX+11", "-1100")]
)
def test_a_date_field_has_local_time_and_its_offset(
    monkeypatch: pytest.MonkeyPatch, zone: str, offset: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    clock.date_field.cache_clear()
    try:
        text = clock.date_field(1_030_017_600)
    finally:
        monkeypatch.undo()
        time.tzset()
        clock.date_field.cache_clear()
    assert text.endswith(offset)
    assert email.utils.parsedate_to_datetime(text).timestamp() == 1_030_017_600


def test_identities_do_not_repeat() -> None:
    names = {clock.identity() for _ in range(10_000)}
    assert len(names) == 10_000
    assert all(re.fullmatch("[0-9a-z]+-[0-9a-f]+", name) for name in names)


def test_a_child_has_identities_of_its_own() -> None:
    clock.identity()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, clock.identity().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 200).decode()
    os.close(reading)
    os.close(writing)
    assert theirs.split("-")[0] != clock.identity().split("-")[0]


def test_two_processes_have_different_ones() -> None:
    script = "from mailtools.system import clock; print(clock.identity())"
    names = {subprocess.check_output([sys.executable, "-c", script]) for _ in range(2)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("name", "shown"),
    [("mail.example.org", "mail.example.org"), ("a_b-c", "a_b-c"), ("", "localhost"), ("bü.de", "localhost"),
     ("evil\r\nQUIT", "localhost"), ("a b", "localhost")],
)  # fmt: skip
def test_a_host_name_that_smtp_may_say(monkeypatch: pytest.MonkeyPatch, name: str, shown: str) -> None:
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(nodename=name))
    assert clock.host_name() == shown
