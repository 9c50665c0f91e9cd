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
        ('<a title="a > b" href="http://x">t</a>', "t [1]\n\n[1] http://x\n"),
        (f'<p style="x:{"y" * 9000}" title="<b>">t</p>', "t\n"),
        ("<a href=http://x/'y>t</a> it's <b title='x>y", "t [1] it's y\n\n[1] http://x/'y\n"),
        (
            'a<div style="color:red; DISPLAY : none!important">no<div>no</div>no</div>b',
            "a\nb\n".replace("\n", "", 1),
        ),
        ("a<span hidden>no</span>b<span style='visibility:hidden'>no</span>c", "abc\n"),
        ("a<p hidden>no<p>b</p>c</p>", "a\n\nb\n\nc\n"),
        ("a<div hidden>never closed", "a\nnever closed\n"),
        ("<blockquote>x<blockquote hidden>no</blockquote>y</blockquote>z", "> xy\n\nz\n"),
        ("<p style='display:none-such'>a</p><p data-display='display:none'>b", "a\n\nb\n"),
        ("<STYLE type='a>b'>p > a {}</Style >a<script src=x>if (a<b) '</scripty>'</script\n>b", "ab\n"),
        ("<style>never closed", "never closed\n"),
        (
            "a<!-->b<!--->c<!-- x --!>d<!--[if mso]>no<![endif]-->e<!--[if !mso]><!-->f<!--<![endif]-->",
            "abcdef\n",
        ),
        ("<noscript>a</noscript><object>b</object>", "ab\n"),
        ("<table><tr><td>a<td>b<tr><th>c<td><td>d</table>", "a  b\nc  d\n"),
        (
            "so\u00adft wo\u200brd \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 &zwnj; &#8203;x",
            "soft word \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 x\n",
        ),
        ("<p>cut <a href='http", "cut <a href='http\n"),
        ("a<!--b<!--c", "abc\n"),
        ("<a b <a c", "<a b <a c\n"),
        ("x</a>y", "xy\n"),
        ("", "\n"),
    ],
)
def test_to_text(html: str, text: str) -> None:
    assert to_text(html) == text


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    "piece",
    [
        "<!--", "<", "<a ", '<a "', "<a b='", "<script>", "<blockquote>x", "<ul><li>x", "&", "&#99999999;",
        "<br>", "<a href=http://x>", "</a>", "<a href=", "\n", "<p", "</", "<!", '<a href="http://x">y</a>',
        "<pre>\n", "a ", "<div>", "<p hidden>", "<p hidden>x</p>", "<b style=display:none>", "<a b=\"'>", "<a b='\">",
        "<template>", "<!-->", "<td>", "<td>x", "<a=", "<table><tr><td hidden><table>",
    ],
)  # fmt: skip
def test_floods_take_linear_time(piece: str) -> None:
    to_text(piece * (500_000 // len(piece)))


def test_a_number_of_many_digits() -> None:
    assert to_text("&#" + "9" * 10_000 + ";x") == "\ufffdx\n"
    to_text("<a href='" + " " * 300_000 + "'>x</a><a " + "href " * 100_000 + ">")
