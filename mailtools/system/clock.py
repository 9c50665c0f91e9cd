"""The clock, the host name and unique names: values that core takes as arguments."""

import os
import time
from functools import lru_cache
from itertools import count

from mailtools.core.message.date import format_date

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_numbers = count(1)
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def now() -> float:
    """Seconds since the epoch."""
    return time.time()


def monotonic() -> float:
    """Seconds since an arbitrary moment; changes of the clock do not affect it."""
    return time.monotonic()


@lru_cache(maxsize=2)
def asctime(seconds: int) -> str:
    """The date of a postmark (RFC 4155 appendix A): UTC, English names in any locale."""
    t = time.gmtime(seconds)
    return (
        f"{_DAYS[t.tm_wday]} {_MONTHS[t.tm_mon - 1]} {t.tm_mday:2d} "
        f"{t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} {t.tm_year}"
    )


@lru_cache(maxsize=2)
def date_field(seconds: int) -> str:
    """The value of a Date field (RFC 5322 §3.3): local time with its offset."""
    return format_date(seconds, time.localtime(seconds).tm_gmtoff // 60)


def identity() -> str:
    """A unique name for a message: process start and 40 random bits (base 32), a counter (hexadecimal)."""
    return f"{_origin()}{next(_numbers):x}"


@lru_cache(maxsize=1)
def _origin() -> str:
    """The common prefix of the names of one process."""
    number = int(time.time() * 1000) << 40 | int.from_bytes(os.urandom(5), "big")
    letters = []
    while number:
        number, digit = divmod(number, 32)
        letters.append(_ALPHABET[digit])
    return "".join(reversed(letters)) + "-"


os.register_at_fork(after_in_child=_origin.cache_clear)


def uptime() -> float:
    """Seconds since the boot of the machine, those of its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@lru_cache(maxsize=1)
def boot() -> str:
    """An identifier of this boot of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def host_name() -> str:
    """The name of this host, or "localhost" if SMTP cannot send it; never asks the network."""
    name = os.uname().nodename
    return name if name.isascii() and name and all(c.isalnum() or c in "-._" for c in name) else "localhost"
