"""HTML as a terminal shows it."""

import pytest

from mailtools.core.message.html import to_text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>A <b>bold</b>\n word</p><p>next", "A bold word\n\nnext\n"),
        ("one<br>two<div>three</div>four", "one\ntwo\nthree\nfour\n"),
        ("<ul><li>a<li>b<ol><li>x<li>y</ol></ul>", "* a\n* b\n\n  1. x\n  2. y\n"),
        (
            '<a href="https://x/?a=1&amp;b=2">here</a> <a href="#top">up</a>',
            "here [1] up\n\n[1] https://x/?a=1&b=2\n",
        ),
        ("<a href='http://x'>a</a><a href=http://x>b</a>", "a [1]b [1]\n\n[1] http://x\n"),
        ("<a href='javascript:alert(1)'>x</a>", "x\n"),
        ("<blockquote>said<br>so</blockquote>", "> said\n> so\n"),
        ("<pre>a  b\n  c</pre>", "a  b\n  c\n"),
        ("<style>p{}</style>a<script>if (a<b) x()</script>b<title>t</title>", "ab\n"),
        ("a<!-- <p>no</p> -->b<!doctype html>c", "abc\n"),
        ("&lt;b&gt; &eacute; &#233; &#xe9; &nosuch; & &#0;", "<b> é é é &nosuch; & \ufffd\n"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a  b\nc\n"),
        ("1 < 2 <3 > 1", "1 < 2 <3 > 1\n"),
        ("<img alt='Logo' src=x>", "[Logo]\n"),
        ("", "\n"),
    ],
)
def test_to_text(html: str, text: str) -> None:
    assert to_text(html) == text


@pytest.mark.parametrize(
    "piece",
    [
        "<!--", "<", "<a ", '<a "', "<a b='", "<script>", "<blockquote>x", "<ul><li>x", "&", "&#99999999;",
        "<br>", "<a href=http://x>", "</a>", "<a href=", "\n", "<p", "</", "<!", '<a href="http://x">y</a>',
        "<pre>\n", "a ",
    ],
)  # fmt: skip
def test_floods_take_linear_time(piece: str) -> None:
    to_text(piece * (500_000 // len(piece)))


def test_a_number_of_many_digits() -> None:
    assert to_text("&#" + "9" * 10_000 + ";x") == "\ufffdx\n"
    to_text("<a href='" + " " * 300_000 + "'>x</a><a " + "href " * 100_000 + ">")
