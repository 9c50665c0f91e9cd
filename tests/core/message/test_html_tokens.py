"""HTML in texts and tags."""

import pytest

from mailtools.core.message.html_tokens import Tag, tokens


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ("a &lt; b", ["a < b"]),
        ("<B Title='x &amp; y' hidden-x=1 title=no>", [Tag("b", False, {"title": "x & y", "hidden-x": "1"})]),
        ("<br/><img src = x/y alt>", [Tag("br", False, {}), Tag("img", False, {"src": "x/y", "alt": ""})]),
        ("</p class=x>", [Tag("p", True, {})]),
        ("<b hidden>no</b>yes", ["yes"]),
        ("<img hidden>yes", [Tag("img", False, {"hidden": ""}), "yes"]),
        ("<script>no</script>", [Tag("script", False, {}), Tag("script", True, {})]),
        ("<p x", ["<p", " x"]),
    ],
)
def test_tokens(html: str, found: list[str | Tag]) -> None:
    assert list(tokens(html)) == found
