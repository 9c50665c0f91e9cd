"""core/smtp/route: each form, and what is none."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtools.core.errors import ConfigurationError
from mailtools.core.smtp import route
from mailtools.core.smtp.route import Route


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("smtp://mail.example", Route("smtp", "mail.example", 25)),
        ("smtp://mail.example:2525/", Route("smtp", "mail.example", 2525)),
        ("smtps://mail.example", Route("smtps", "mail.example", 465)),
        ("lmtp://[::1]", Route("lmtp", "::1", 24)),
        ("smtp://[2001:db8::1]:26", Route("smtp", "2001:db8::1", 26)),
        ("unix:/run/lmtp", Route("unix", path="/run/lmtp")),
        ("mbox:out.mbox", Route("mbox", path="out.mbox")),
        ("mx:", Route("mx", port=25)),
        ("mx:2525", Route("mx", port=2525)),
    ],
)
def test_forms(text: str, expected: Route) -> None:
    assert route.parse(text) == expected
    assert route.parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    ["", "smtp:", "smtp://", "smtp://:25", "smtp://h:0", "smtp://h:65536", "smtp://h:x", "smtp://a b", "http://h",
     "unix:", "mbox:", "mx:x", "mail.example", "smtp://h/path", "smtp://h\n", "unix:a\0b", "smtp://u@h:1:2"],
)  # fmt: skip
def test_no_routes(text: str) -> None:
    with pytest.raises(ConfigurationError):
        route.parse(text)


@given(st.text())
def test_any_text_is_a_route_or_told(text: str) -> None:
    with suppress(ConfigurationError):
        route.parse(text)
