"""The postmark: the "From " line that opens every record of an mbox.

Owns RFC 4155 appendix A (the line) and the other forms in use. It knows one line and its two neighbours;
`scan` finds the lines. Programs write many forms, and text has lines that begin with "From " too, so a line
is a postmark if one of these holds:

1. it is the first line of the mbox (`scan` checks this);
2. it ends in a date: asctime ("Thu Aug 22 12:00:00 2002", with a zone before or after the year, an offset as
   Google writes it, two digits of a year), RFC 822 ("22 Aug 2002 12:00"), or ISO 8601; whatever stands
   between ("bob at example.org", "-", nothing);
3. it is Mozilla's bare "From " or "From -", and a header field follows;
4. an empty line stands before it, it names a sender as a postmark does ("bob@example.org" or "bob",
   alone or with what may be a date behind it), and one of the usual header fields follows.

"From here on we ..." in the body of an unquoted mbox meets none of these rules, nor does "From the desk of
Bob" before a line with "Phone:". In an mbox quoted by the
mboxrd rule, every line that begins with "From " is a dated postmark and is recognised.

Invariants: nothing raises on any octets; at most `LOOK` octets behind "From " are read.
"""

import re

LOOK = (
    1536  # octets of the line and the next one that decide; a reverse-path ends at 256 (RFC 5321 §4.5.3.1.3)
)
_LINE = 1024  # octets; a longer line is no postmark

_WEEKDAY = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH = rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_CLOCK = rb"[0-2]?\d:[0-5]\d(?::[0-6]\d)?"
_ZONE = rb"(?:[A-Z]{1,5}(?: DST)?|[+-]\d{4}|\([A-Z]{1,5}\))"

# The most common form, at the end of the line; `scan` searches for it together with "From ".
USUAL_DATE = _WEEKDAY + b" " + _MONTH + rb" [ \d]\d \d\d:\d\d:\d\d \d{4}"
_DATES = (
    # Thu Aug 22 12:00[:00] [EDT] 2002 [+0200] [(CEST)]
    rb"%b,? %b +\d{1,2} +%b(?: +%b)? +\d{2,4}(?: +%b){0,2}" % (_WEEKDAY, _MONTH, _CLOCK, _ZONE, _ZONE),
    # [Thu,] 22 Aug 2002 12:00[:00] [+0200] [(CEST)]
    rb"(?:%b,? +)?\d{1,2}[ -]%b[ -]\d{2,4} +%b(?: +%b){0,2}" % (_WEEKDAY, _MONTH, _CLOCK, _ZONE),
    # 2002-08-22[T12:00[:00[.000]][+02:00]]
    rb"\d{4}-\d\d-\d\d(?:[T ]%b(?:\.\d{1,9})?(?: ?(?:Z|[+-]\d\d:?\d\d))?)?" % _CLOCK,
)
# UUCP mailers end the line with the host name.
_DATED = re.compile(
    rb"From +(?:[^\n]*? )??(?:" + b"|".join(_DATES) + rb")(?: remote from [^\s]{1,255})?[ \t\r]*"
).fullmatch
_FIELD = re.compile(rb"[!-9;-~]{1,200}[ \t]{0,9}:").match
_FIRST_FIELDS = (
    rb"Return-Path|Received|Delivered-To|Envelope-To|DKIM-Signature|Authentication-Results|From|Sender|Reply-To"
    rb"|To|Cc|Date|Subject|Message-ID|In-Reply-To|References|MIME-Version|Status|Lines|Path|Newsgroups"
    rb"|Organi[sz]ation|Precedence|Errors-To|Mailing-List|Apparently-To|Comments"
    rb"|(?:X|ARC|List|Content|Resent)-[!-9;-~]{1,200}"
)
_FIRST_FIELD = re.compile(rb"(?i)(?:" + _FIRST_FIELDS + rb")[ \t]{0,9}:").match
_FROM_SENDER = re.compile(
    rb"From +(?:[^\s@]+@\S+[ \t][^\n]*[0-9][^\n]*|\S+(?:[ \t][^\n]*[0-9]:[0-5][0-9][^\n]*)?)[ \t\r]*"
).fullmatch
_BARE = re.compile(rb"From (?:-[ \t]{0,9})?\r?").fullmatch


def is_postmark(octets: bytes, at: int, whole: bool = True) -> bool | None:
    """Tell whether the line at offset *at*, which begins with "From ", is a postmark (rules 2 to 4).

    *octets* also holds the neighbouring lines as far as they were read; *whole*: the stream ends with
    *octets*. None: more octets must be read to decide.
    """
    stop = octets.find(b"\n", at + 5, at + _LINE)
    if stop < 0:
        if not whole and len(octets) - at < _LINE:
            return None
        if len(octets) - at >= _LINE:
            return False
        stop = len(octets)
    if _DATED(octets, at, stop):
        return True
    if _BARE(octets, at, stop):
        is_field = _FIELD(octets, stop + 1)
    elif _after_empty_line(octets, at) and _FROM_SENDER(octets, at, stop):
        is_field = _FIRST_FIELD(octets, stop + 1)
    else:
        return False
    if is_field:
        return True
    # The buffer may end within a field name.
    return None if not whole and len(octets) - at < LOOK else False


def _after_empty_line(octets: bytes, at: int) -> bool:
    return octets.endswith((b"\n\n", b"\n\r\n"), max(at - 3, 0), at)
