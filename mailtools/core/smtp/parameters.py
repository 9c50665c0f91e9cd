"""The parameters of MAIL and RCPT: which values are allowed, and which are kept.

Knows no session; what is offered is an argument. Owns RFC 1870 §3 (SIZE), RFC 6152 §2 (BODY), RFC 6531 §3.4
(SMTPUTF8), RFC 3461 §4 (RET, ENVID, NOTIFY, ORCPT), RFC 4954 §5 (AUTH).
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mailtools.core.patterns import lazy
from mailtools.core.smtp.grammar import SyntaxProblemError, parse_size

_XTEXT = r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})"
_ENVID = lazy(rf"{_XTEXT}{{1,100}}")
# RFC 6533 §3 allows UTF-8 in an ORCPT of type utf-8, directly or as \x{HEX}.
_ORCPT = lazy(rf"[A-Za-z0-9-]{{1,30}};(?:{_XTEXT}|[^\x00-\x7f]){{1,500}}")
_AUTH = lazy(rf"<>|{_XTEXT}{{1,500}}")
_NOTIFY = lazy(r"NEVER|(?:SUCCESS|FAILURE|DELAY)(?:,(?:SUCCESS|FAILURE|DELAY)){0,2}")


class MailParameters(NamedTuple):
    """The parameters of MAIL; "" and 0 for those that were not given. ENVID stays in xtext."""

    size: int = 0  # octets, as the client declared them
    body: str = ""  # 7BIT or 8BITMIME
    smtputf8: bool = False
    ret: str = ""  # FULL or HDRS
    envid: str = ""


class RcptParameters(NamedTuple):
    """The parameters of RCPT. ORCPT stays in xtext."""

    notify: str = ""  # NEVER, or some of SUCCESS,FAILURE,DELAY
    orcpt: str = ""  # address type, a semicolon, the address


NO_MAIL_PARAMETERS = MailParameters()
NO_RCPT_PARAMETERS = RcptParameters()


def mail_parameters(given: Mapping[str, str | None], may_auth: bool) -> MailParameters:
    """Check the parameters of MAIL.

    Raises SyntaxProblemError: 555 for an unknown one, 501 for a bad value.
    """
    for key, value in given.items():
        if key not in _MAIL or (key == "AUTH" and not may_auth):
            raise SyntaxProblemError(555, "5.5.4", f"Parameter {key} not recognized")
        if not _MAIL[key](value):
            raise SyntaxProblemError(501, "5.5.4", f"{key} takes {_SYNTAX[key]}")
    return MailParameters(
        parse_size(given["SIZE"]) if "SIZE" in given else 0,
        (given.get("BODY") or "").upper(),
        "SMTPUTF8" in given,
        (given.get("RET") or "").upper(),
        given.get("ENVID") or "",
    )


def rcpt_parameters(given: Mapping[str, str | None]) -> RcptParameters:
    """Check the parameters of RCPT. Raises as `mail_parameters`."""
    for key, value in given.items():
        if key not in _RCPT:
            raise SyntaxProblemError(555, "5.5.4", f"Parameter {key} not recognized")
        if not _RCPT[key](value):
            raise SyntaxProblemError(501, "5.5.4", f"{key} takes {_SYNTAX[key]}")
    return RcptParameters((given.get("NOTIFY") or "").upper(), given.get("ORCPT") or "")


_Check = Callable[[str | None], bool]
_MAIL: dict[str, _Check] = {
    "SIZE": lambda value: value is not None,  # `parse_size` checks the value
    "BODY": lambda value: (value or "").upper() in ("7BIT", "8BITMIME"),
    "SMTPUTF8": lambda value: value is None,
    "RET": lambda value: (value or "").upper() in ("FULL", "HDRS"),
    "ENVID": lambda value: bool(_ENVID.fullmatch(value or "")),
    "AUTH": lambda value: bool(_AUTH.fullmatch(value or "")),
}
_RCPT: dict[str, _Check] = {
    "NOTIFY": lambda value: bool(_NOTIFY.fullmatch((value or "").upper())),
    "ORCPT": lambda value: bool(_ORCPT.fullmatch(value or "")),
}
_SYNTAX = {
    "SIZE": "a number of octets",
    "BODY": "7BIT or 8BITMIME",
    "SMTPUTF8": "no value",
    "RET": "FULL or HDRS",
    "ENVID": "xtext, at most 100 characters",
    "AUTH": "<> or an address in xtext",
    "NOTIFY": "NEVER, or some of SUCCESS, FAILURE, DELAY",
    "ORCPT": "an address type, a semicolon and an address in xtext",
}
