"""Dates of messages: reads all common forms, writes the standard form.

Owns RFC 5322 §3.3 (date-time) and §4.3 (obsolete forms: two-digit years, named zones), and reads the other
forms found in Date fields and postmarks: asctime, ISO 8601, missing weekday, seconds or zone, comments
anywhere. It knows no clock and no local time zone: both are arguments.

A *moment* is ``(seconds since 1970-01-01 UTC, offset in minutes east)``. A date whose zone is unknown
("-0000", missing, or an unknown name) is read as UTC, as RFC 5322 §4.3 asks.

Invariants: never raises on any octets; time is linear in the value, of which no more than 200 octets are
read; ``parse(format_date(s, o)) == (s, o)`` for whole seconds in the years 1 to 9999.
"""

from functools import cache

from mailtools.core.lean import TYPE_CHECKING, NamedTuple
from mailtools.core.patterns import lazy

if TYPE_CHECKING:
    import re

_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.lower().encode(): number for number, name in enumerate(_MONTHS, 1)}
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# RFC 5322 §4.3, and the names that old programs of Europe and Asia wrote. Minutes east.
_ZONES = {
    b"aest": 600, b"aedt": 660, b"acst": 570, b"acdt": 630, b"awst": 480, b"nzst": 720, b"nzdt": 780,
    b"hkt": 480, b"sgt": 480, b"ist": 330, b"pkt": 300, b"wib": 420, b"ict": 420, b"brt": -180, b"brst": -120,
    b"art": -180, b"ast": -240, b"adt": -180, b"nst": -210, b"ndt": -150, b"akst": -540, b"akdt": -480,
    b"hst": -600, b"sast": 120, b"cat": 120, b"eat": 180, b"wat": 60,
    b"ut": 0, b"utc": 0, b"gmt": 0, b"z": 0, b"wet": 0, b"bst": 60, b"west": 60, b"cet": 60, b"met": 60,
    b"mez": 60, b"cest": 120, b"mest": 120, b"mesz": 120, b"eet": 120, b"eest": 180, b"msk": 180, b"msd": 240,
    b"jst": 540, b"kst": 540, b"est": -300, b"edt": -240, b"cst": -360, b"cdt": -300, b"mst": -420,
    b"mdt": -360, b"pst": -480, b"pdt": -420,
}  # fmt: skip

_MONTH = rb"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_CLOCK = (
    rb"(?P<hour>\d{1,2})\s?[:.]\s?(?P<minute>\d{1,2})(?:\s?[:.]\s?(?P<second>\d{1,2})(?:[.,]\d{1,9})?)?"
    rb"(?:\s{0,9}(?P<half>[ap]m)\b)?"
)
_ZONE = rb"\s{0,9}\(?(?:(?:gmt|utc)?(?P<sign>[+-])(?P<zh>\d\d):?(?P<zm>\d\d)|(?P<zone>[a-z]{1,5}))?"
_GAP = rb"[\s,.-]{1,9}"

_DAY_OF_WEEK = rb"(?:[a-z]{2,12}[.,\s]{1,9})?"  # ignored: the date is complete without it

_FORMS = (
    # RFC 5322 and 822: [Wed,] 21 Aug 2002 08:30:52 -0400
    _DAY_OF_WEEK + rb"(?P<day>\d{1,2})" + _GAP + _MONTH + _GAP + rb"(?P<year>\d{2,5})[\s,]{1,9}"
    + _CLOCK + _ZONE,
    # asctime: Wed Aug 21 08:30:52 [EDT] 2002 [-0400], as in postmarks
    _DAY_OF_WEEK + _MONTH + rb"\s{1,9}(?P<day>\d{1,2}),?\s{1,9}(?:(?P<year1>\d{4}),?\s{1,9})?" + _CLOCK
    + rb"(?:\s{1,9}(?P<zone1>[a-z]{1,5}|[+-]\d{4}))?(?:\s{1,9}(?P<year>\d{2,4})\b)?" + _ZONE,
    # ISO 8601 and RFC 3339: 2002-08-21T08:30:52-04:00
    rb"(?P<year>\d{4})[-/](?P<mon>\d{1,2})[-/](?P<day>\d{1,2})(?:[\sT]{1,9}" + _CLOCK + _ZONE + rb")?",
)  # fmt: skip
_COMMENT = lazy(rb"\([^()]{0,100}\)")


class Moment(NamedTuple):
    """A point in time, with the UTC offset that its writer used."""

    seconds: int  # since 1970-01-01 00:00 UTC
    offset: int  # of the writer's clock, minutes east of UTC


# The form of nearly all messages, with numbered groups: one match and no groupdict.
_USUAL = lazy(
    rb"(?:[A-Z][a-z][a-z], {1,2})?(\d{1,2}) ([A-Z][a-z][a-z]) (\d{4}) (\d\d):(\d\d):(\d\d) ([+-]\d{4})\b"
)
_USUAL_MONTHS = {name.encode(): number for number, name in enumerate(_MONTHS, 1)}


def parse(value: bytes) -> Moment | None:
    """The moment that the unfolded field value *value* gives; None if it holds no valid date."""
    fields = clock_fields(value)
    if fields is None:
        return None
    return Moment(seconds(fields, True), fields[6])


def clock_fields(value: bytes) -> tuple[int, int, int, int, int, int, int] | None:
    """(year, month, day, hour, minute, second, offset in minutes east) as written; None if invalid."""
    match = _USUAL.match(value)
    if match:
        month = _USUAL_MONTHS.get(match[2], 0)
        day, year, hour, minute, second, zone = map(int, match.group(1, 3, 4, 5, 6, 7))
        offset = zone // 100 * 60 + zone % 100 if zone >= 0 else -(-zone // 100 * 60 + -zone % 100)
        if (
            0 < day < 29
            and month
            and hour < 24
            and minute < 60
            and second < 60
            and year
            and -1440 < offset < 1440
        ):
            return year, month, day, hour, minute, second, offset
        return _checked(year, month, day, hour, minute, second, offset)
    return _unusual(value[:200])


def seconds(clock: tuple[int, int, int, int, int, int, int], utc: bool) -> int:
    """Seconds since 1970-01-01 of `clock_fields`. *utc*: subtract the offset; else count local time."""
    year, month, day, hour, minute, second, offset = clock
    at = days_before(year, month, day) * 86400 + hour * 3600 + minute * 60 + min(second, 59)
    return at - offset * 60 if utc else at


@cache
def _forms() -> "list[re.Pattern[bytes]]":
    """Compile `_FORMS` at the first unusual date: it takes as long as importing the rest of the module."""
    import re

    return [re.compile(form, re.IGNORECASE) for form in _FORMS]


def _unusual(value: bytes) -> tuple[int, int, int, int, int, int, int] | None:
    value = b" ".join(value.split())
    for text in (value, b" ".join(_COMMENT.sub(b" ", value).split())):
        for form in _forms():
            match = form.match(text)
            if match:
                return _read(match.groupdict())
    return None


def _read(part: dict[str, bytes | None]) -> tuple[int, int, int, int, int, int, int] | None:
    year = part["year"] or part.get("year1")
    if not year:
        return None
    month = part.get("month")
    hour = int(part["hour"] or 0)
    if part["half"] and 1 <= hour <= 12:
        hour = hour % 12 + (12 if part["half"].lower() == b"pm" else 0)
    return _checked(
        _full_year(int(year), len(year)),
        _MONTH_NUMBERS[month.lower()] if month else int(part.get("mon") or 0),
        int(part["day"] or 0),
        hour,
        int(part["minute"] or 0),
        int(part["second"] or 0),
        _offset(part),
    )


def _full_year(year: int, digits: int) -> int:
    """RFC 5322 §4.3: two digits 00-49 mean 20xx, 50-99 and three digits add 1900.

    Five digits: a program has put "19" before the years since 1900 (19102 is 2002).
    """
    if digits == 5:
        return 1900 + year - 19000 if 19000 <= year < 20000 else year
    if digits == 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if digits == 3 else year


def _offset(part: dict[str, bytes | None]) -> int:
    sign, hours, minutes = part["sign"], part["zh"], part["zm"]
    zone = part["zone"] or part.get("zone1") or b""
    if not sign and zone[:1] in (b"+", b"-"):
        sign, hours, minutes = zone[:1], zone[1:3], zone[3:5]
    if not sign:
        return _ZONES.get(zone.lower(), 0)
    offset = int(hours or 0) * 60 + int(minutes or 0)
    return -offset if sign == b"-" else offset


def _checked(
    year: int, month: int, day: int, hour: int, minute: int, second: int, offset: int
) -> tuple[int, int, int, int, int, int, int] | None:
    if not (1 <= month <= 12 and 1 <= day <= _LENGTHS[month - 1] and 1 <= year <= 9999):
        return None
    if hour > 23 or minute > 59 or second > 60:
        return None
    if day == 29 and month == 2 and (year % 4 or (year % 100 == 0 and year % 400)):
        return None
    # RFC 5322 §3.3 allows offsets up to 99:59; one of a day or more counts as an unknown zone.
    return year, month, day, hour, minute, second, offset if -1440 < offset < 1440 else 0


def days_before(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a Gregorian date. Years are counted from March, so leap days come last."""
    year -= month < 3
    month = (month + 9) % 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (month * 306 + 5) // 10 + day - 719469


def civil(days: int) -> tuple[int, int, int]:
    """The inverse of `days_before`: (year, month, day)."""
    days += 719468
    era, day_of_era = divmod(days, 146097)
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    return year + era * 400 + (month < 3), month, day


def format_date(epoch_seconds: float, offset_minutes: int) -> str:
    """The Date field's value for a moment: ``Wed, 21 Aug 2002 08:30:52 -0400`` (RFC 5322 §3.3)."""
    local = int(epoch_seconds // 1) + offset_minutes * 60
    days, seconds = divmod(local, 86400)
    year, month, day = civil(days)
    minutes, second = divmod(seconds, 60)
    sign = "-" if offset_minutes < 0 else "+"
    east = abs(offset_minutes)
    return (
        f"{_WEEKDAYS[(days + 3) % 7]}, {day} {_MONTHS[month - 1]} {year:04d} "
        f"{minutes // 60:02d}:{minutes % 60:02d}:{second:02d} {sign}{east // 60:02d}{east % 60:02d}"
    )


def iso(fields: tuple[int, int, int, int, int, int, int]) -> str:
    """`clock_fields` as ISO 8601 with the writer's offset: ``2002-08-21T08:30:52-04:00``."""
    year, month, day, hour, minute, second, offset = fields
    sign = "-" if offset < 0 else "+"
    east = abs(offset)
    zone = f"{sign}{east // 60:02d}:{east % 60:02d}"
    return f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}{zone}"
