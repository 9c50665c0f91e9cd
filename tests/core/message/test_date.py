"""Dates: those of the standard, and those that are found."""

import pytest

from mailtools.core.message import date

E = 1029933052  # Wed, 21 Aug 2002 08:30:52 -0400


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        (b"Wed, 21 Aug 2002 08:30:52 -0400", (E, -240)),
        (b"Wed, 21 Aug 2002 08:30:52 -0400 (EDT)", (E, -240)),
        (b"21 Aug 2002 08:30:52 EDT", (E, -240)),
        (b"(x) Wed, (y) 21 Aug (z) 2002 08:30:52 (q) -0400", (E, -240)),
        (b"Wed, 21 Aug 02 12:30:52 GMT", (E, 0)),
        (b"Wed, 21 Aug 102 12:30:52 +0000", (E, 0)),
        (b"Wed Aug 21 08:30:52 EDT 2002", (E, -240)),
        (b"Wed Aug 21 12:30:52 2002", (E, 0)),
        (b"Wed Aug 21 12:30:52 +0000 2002", (E, 0)),
        (b"Wed Aug 21 2002 14:30:52 GMT+0200 (CEST)", (E, 120)),
        (b"2002-08-21T08:30:52-04:00", (E, -240)),
        (b"2002-08-21 12:30:52Z", (E, 0)),
        (b"2002-08-21", (E - 45052, 0)),
        (b"Wednesday, August 21, 2002 12:30:52 PM", (E, 0)),
        (b"Wed, 21 Aug 2002 12:30:52 AM +0000", (E - 43200, 0)),
        (b"Wed, 21 Aug 2002 8.30.52 -0400", (E, -240)),
        (b"Wed, 21 Aug 2002 12:30 XYZ", (E - 52, 0)),
        (b"Thu, 1 Jan 1970 00:00:00 +0000", (0, 0)),
        (b"Sat, 31 Dec 2016 23:59:60 +0000", (1483228799, 0)),
        (b"Tue, 29 Feb 2000 00:00:00 -0000", (951782400, 0)),
        (b"Wed, 21 Aug 2002 12:30:52 +9999", (E, 0)),
        (b"Mon, 29 Feb 2001 00:00:00 +0000", None),
        (b"Wed, 31 Feb 2002 08:30:52 -0400", None),
        (b"Wed, 21 Aug 2002 24:30:52 -0400", None),
        (b"sometime", None),
        (b"", None),
        (b"\xff\x00\r\n", None),
        (b"1" * 1_000_000, None),
    ],
)
def test_parse(value: bytes, moment: tuple[int, int] | None) -> None:
    assert date.parse(value) == moment


def test_only_ascii_digits_are_digits() -> None:
    assert date.parse("Wed, ２１ Aug 2002 08:30:52 -0400".encode()) is None


@pytest.mark.parametrize(
    ("seconds", "offset", "text"),
    [
        (E, -240, "Wed, 21 Aug 2002 08:30:52 -0400"),
        (E + 0.9, 330, "Wed, 21 Aug 2002 18:00:52 +0530"),
        (-1, 0, "Wed, 31 Dec 1969 23:59:59 +0000"),
        (0, -30, "Wed, 31 Dec 1969 23:30:00 -0030"),
    ],
)
def test_format_date(seconds: float, offset: int, text: str) -> None:
    assert date.format_date(seconds, offset) == text


def test_days_agree_with_the_calendar_both_ways() -> None:
    from datetime import date as calendar

    for ordinal in range(1, calendar.max.toordinal(), 97):
        day = calendar.fromordinal(ordinal)
        days = ordinal - calendar(1970, 1, 1).toordinal()
        assert date.days_before(day.year, day.month, day.day) == days
        assert date.civil(days) == (day.year, day.month, day.day)


def test_iso() -> None:
    assert date.iso((2002, 8, 21, 8, 30, 52, -240)) == "2002-08-21T08:30:52-04:00"


@pytest.mark.parametrize(
    ("value", "iso"),
    [
        (b"21. Aug. 2002 10:00:00", "2002-08-21T10:00:00+00:00"),
        (b"Mi, 21. Aug. 2002 10:00:00 +0200", "2002-08-21T10:00:00+02:00"),
        (b"Wed, 21 Aug 19102 10:00:00 +0200", "2002-08-21T10:00:00+02:00"),
        (b"Wed, 21 Aug 102 10:00:00 +0200", "2002-08-21T10:00:00+02:00"),
        (b"Wed, 21 Aug 2002 10:00:00 AEST", "2002-08-21T10:00:00+10:00"),
        (b"Wed, 21 Aug 2002 10:00:00 +0530 (IST)", "2002-08-21T10:00:00+05:30"),
        (b"Fri, 21 Nov 1997 09(comment):   55  :  06 -0600", "1997-11-21T09:55:06-06:00"),
        (
            b"Thu,      13        Feb          1969      23:32               -0330 (Newfoundland Time)",
            "1969-02-13T23:32:00-03:30",
        ),
    ],
)
def test_dates_as_users_have_them(value: bytes, iso: str) -> None:
    fields = date.clock_fields(value)
    assert fields is not None
    assert date.iso(fields) == iso
