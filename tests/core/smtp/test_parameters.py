"""Parameters of MAIL and RCPT."""

import pytest

from mailtools.core.smtp.grammar import SyntaxProblemError, parse_bdat
from mailtools.core.smtp.parameters import MailParameters, RcptParameters, mail_parameters, rcpt_parameters


def test_all_of_mail() -> None:
    given = {
        "SIZE": "42",
        "BODY": "8bitmime",
        "SMTPUTF8": None,
        "RET": "hdrs",
        "ENVID": "a+2Bb",
        "AUTH": "<>",
    }
    assert mail_parameters(given, may_auth=True) == MailParameters(42, "8BITMIME", True, "HDRS", "a+2Bb")
    assert mail_parameters({}, may_auth=False) == MailParameters()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SIZE", None), ("SIZE", ""), ("SIZE", "-1"), ("SIZE", "١"), ("SIZE", "9" * 21), ("BODY", None),
        ("BODY", "BINARYMIME"), ("SMTPUTF8", ""), ("RET", None), ("RET", "BOTH"), ("ENVID", ""), ("ENVID", "x" * 101),
        ("ENVID", "a+2b"), ("ENVID", "a+"), ("ENVID", "é"), ("AUTH", "a b"), ("AUTH", None),
    ],
)  # fmt: skip
def test_bad_values_of_mail(key: str, value: str | None) -> None:
    with pytest.raises(SyntaxProblemError) as problem:
        mail_parameters({key: value}, may_auth=True)
    assert (problem.value.code, problem.value.enhanced) == (501, "5.5.4")


@pytest.mark.parametrize("key", ["X", "NOTIFY", "HOLDFOR", "REQUIRETLS", "AUTH"])
def test_unknown_ones_of_mail(key: str) -> None:
    with pytest.raises(SyntaxProblemError) as problem:
        mail_parameters({key: "x"}, may_auth=False)
    assert problem.value.code == 555


def test_all_of_rcpt() -> None:
    given = {"NOTIFY": "failure,delay", "ORCPT": "rfc822;Bob+40x"}
    assert rcpt_parameters(given) == RcptParameters("FAILURE,DELAY", "rfc822;Bob+40x")
    assert rcpt_parameters({"ORCPT": "utf-8;jürgen+40x"}).orcpt == "utf-8;jürgen+40x"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("NOTIFY", None), ("NOTIFY", "NEVER,DELAY"), ("NOTIFY", "SUCCESS,"), ("NOTIFY", "ALWAYS"), ("ORCPT", None),
        ("ORCPT", "bob"), ("ORCPT", "rfc822;"), ("ORCPT", ";x"), ("ORCPT", "rfc822;" + "x" * 501), ("ORCPT", "r f;x"),
    ],
)  # fmt: skip
def test_bad_values_of_rcpt(key: str, value: str | None) -> None:
    with pytest.raises(SyntaxProblemError) as problem:
        rcpt_parameters({key: value})
    assert problem.value.code == 501


def test_bdat() -> None:
    assert parse_bdat(b"0") == (0, False)
    assert parse_bdat(b"10 last") == (10, True)
    assert parse_bdat(b"10  LAST") == (10, True)
    for argument in (
        b"",
        b"-1",
        b"+1",
        b"0x10",
        b"1_0",
        b"1 2",
        b"1 LAST x",
        b"\xd9\xa1",
        b"9" * 21,
        b"LAST",
        b"1\tLAST",
    ):
        with pytest.raises(SyntaxProblemError):
            parse_bdat(argument)
