"""Markdown of answers and guidelines: shown, never run; and what a reader cannot see is told."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curator.services.text import RENDERED, looks_like_markdown, markdown, unusual

LINKS = [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "java\tscript:alert(1)",
    "java%0ascript:alert(1)",
    "&#106;avascript:alert(1)", "&#x6A;avascript:alert(1)", "javascript&colon;alert(1)", "javascript&#58;alert(1)",
    "\\javascript:alert(1)", "vbscript:msgbox(1)", "data:text/html,<script>alert(1)</script>",
    "data:image/svg+xml,<svg/>",
    "file:///etc/passwd", "blob:x", "about:blank", "view-source:http://x", "filesystem:http://x", "ftp://evil",
    "//evil.example", "///evil.example", "\\\\evil.example", "\\\\\\\\evil.example", "/\\/evil.example",
    " //evil.example",
    "&#47;/evil.example", "\t//evil.example", "\u00a0//evil.example", "\u3000//evil.example", "\u200b//evil.example",
    "\x01javascript:alert(1)", "feed:javascript:alert(1)", "ws://evil", "x-evil:y", "tel:1", "intent://x",
]  # fmt: skip
PAYLOADS = [
    *(f"[x]({link})" for link in LINKS), *(f"[x](<{link}>)" for link in LINKS),
    *(f"[x][r]\n\n[r]: {link}" for link in LINKS),
    *(f"<{link.strip()}>" for link in LINKS), *(f"![x]({link})" for link in LINKS),
    *(f'<a href="{link}">x</a>' for link in LINKS),
    "<script>alert(1)</script>", "<SCRIPT SRC=//evil></SCRIPT>", "<scr<script>ipt>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>", "<svg><script>alert(1)</script></svg>", "<math><mi xlink:href=javascript:alert(1)>",
    "<iframe src=//evil>",
    "<iframe srcdoc='<script>alert(1)</script>'>", "<object data=x>", "<embed src=x>", "<base href=//evil>",
    "<link rel=stylesheet href=//e>",
    "<meta http-equiv=refresh content=0;url=//evil>", "<style>*{display:none}</style>",
    "<form action=//evil><input name=csrf>",
    "<button formaction=//evil>x</button>", "<body onload=alert(1)>", "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)>",
    '<div hx-get="/x" hx-trigger="load">', '<b data-hx-post="/x">', "<p hx-on:load=alert(1)>",
    "<a hx-boost=true href=/x>x</a>",
    '<div id="notice" class="toast">', "<p style=position:fixed>", "<hx-partial>", "<template>x</template>",
    "<noscript><p title='</noscript><img>'>",
    "<!--<img src=x onerror=alert(1)>-->", "<![CDATA[<script>alert(1)</script>]]>", "<?php x ?>",
    "<!DOCTYPE html>", "<x-evil onclick=alert(1)>",
    "![x](http://evil/pixel.png)", "![x][r]\n\n[r]: http://evil/pixel.png", '![x](http://evil "onerror=alert(1)")',
    "![<img src=x>](http://evil)",
    '![x" onerror="alert(1)](http://evil)', "[![x](http://evil/a.png)](http://evil)",
    '[x](http://a "\' onclick=alert(1) ")',
    "[x](http://a\" onclick=\"alert(1))", "```<script>\nalert(1)\n```", "```x\" onclick=\"y\nz\n```",
    "`<script>alert(1)</script>`",
    "|<script>|\n|-|\n|<img src=x onerror=alert(1)>|", "# <script>alert(1)</script>",
    "&lt;script&gt;alert(1)&lt;/script&gt;", "\\<script>",
    "[x]{hx-get=/x}", "{% raw %}{{ 7*7 }}", "<a/href=javascript:alert(1)>x", "<<script>alert(1)//<</script>",
    "<img \x00src=x onerror=alert(1)>",
    "**<b onclick=alert(1)>**", "> <script>alert(1)</script>", "- <script>alert(1)</script>",
    "\u202e<script>alert(1)</script>", "<ScRiPt\n>x",
]  # fmt: skip
TAGS = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "blockquote", "ul",
    "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "a",
}  # fmt: skip


class Reader(HTMLParser):
    """Reads HTML as a browser would, and holds it to the list of what may stand there."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert tag in TAGS
        assert set(given) <= {"href", "rel", "title", "align"}
        if tag == "a":
            assert set((given["rel"] or "").split()) >= {"noopener", "noreferrer"}
        if given.get("href"):
            self.links.append(given["href"] or "")
            address = re.sub(r"[\x00-\x20\u00a0\u200b\u3000]", "", given["href"] or "").replace("\\", "/")
            assert not address.startswith("//")
            scheme = re.match(r"[^/?#]*?:", address)
            assert scheme is None or scheme[0].lower() in ("http:", "https:", "mailto:")

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    return reader


def test_there_are_enough_payloads() -> None:
    assert len(set(PAYLOADS)) >= 200


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_becomes_more_than_plain_text_and_safe_links(payload: str) -> None:
    for source in (payload, f"Yes.\n\n{payload}\n\nNo.", f"- {payload}", f"| a |\n|-|\n| {payload} |", payload * 3):
        read(markdown(source))


@settings(max_examples=300, deadline=None)
@example("[x](//evil)")
@given(
    st.lists(st.one_of(st.sampled_from(PAYLOADS), st.text(alphabet="[]()<>!/\\:&;# \n\"'`*_|-x", max_size=12))).map(
        "".join
    )
)
def test_no_mixture_does_either(source: str) -> None:
    read(markdown(source))


def test_what_is_harmless_is_rendered() -> None:
    html = markdown(
        "# Fares\n\n- **14** crowns\n- [the list](https://example.com/a?b=c&d) and [mail](mailto:a@b.c)\n\n`x < y`"
    )

    assert "<h1>Fares</h1>" in html
    assert "<strong>14</strong>" in html
    assert "<code>x &lt; y</code>" in html
    assert read(html).links == ["https://example.com/a?b=c&d", "mailto:a@b.c"]


def test_an_image_is_its_description() -> None:
    assert markdown("See ![the <b>plan</b> & *quay*](http://evil/x.png).") == (
        "<p>See the &lt;b&gt;plan&lt;/b&gt; &amp; quay.</p>\n"
    )


def test_a_very_long_text_is_shown_as_it_is() -> None:
    source = "**x**\n<script>" + "x" * RENDERED

    assert markdown(source) == "<pre>**x**\n&lt;script&gt;" + "x" * RENDERED + "</pre>"
    assert not looks_like_markdown(source)


@pytest.mark.parametrize(
    "piece", ["[", "![", "[a](", "[a][", "*a ", "**a", "_", "`", "``` ", "> ", "- ", "<", "&", "|a", "\n|-", "\\", "[^"]
)
def test_hostile_markdown_ends_quickly(piece: str) -> None:
    source = (piece * RENDERED)[:RENDERED]
    begun = time.perf_counter()

    looks_like_markdown(source)
    assert time.perf_counter() - begun < 0.5
    markdown(source)
    assert time.perf_counter() - begun < 5


@pytest.mark.parametrize(
    "source",
    ["", "Yes.", "5 * 3 * 2", "a_b_c", "#1 is best", "-5 degrees", "1.5 crowns", "[1] and (2)", "2 > 1", "|a|b"],
)
def test_plain_words_do_not_look_like_markdown(source: str) -> None:
    assert not looks_like_markdown(source)


@pytest.mark.parametrize(
    "source", ["# Fares", "a\n- b", "1. one", "**bold**", "`code`", "[a](b)", "|a|b|\n|-|-|", "```\nx\n```", "> said"]
)
def test_markdown_looks_like_it(source: str) -> None:
    assert looks_like_markdown(source)


@pytest.mark.parametrize(
    "source",
    ["", "Việt Nam", "Vie\u0302\u0323t", "שלום", "👩\u200d👩\u200d👧", "नमस्\u200dते", "می\u200cخواهم",
    "🏴\U000e0067\U000e0062\U000e0077\U000e007f",
     "a <b> [INSTALL]", "</strong>", "今日の天気", "tab\tand\nline"],
)  # fmt: skip
def test_languages_and_pictures_are_not_unusual(source: str) -> None:
    assert unusual(source) == []


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("pass\u200bword", "invisible"), ("pass\u200dword", "invisible"), ("\ufeffa", "invisible"),
        ("so\u00adft", "invisible"),
        ("x\U000e0041\U000e0042", "invisible"), ("\u202egnp.exe", "direction"), ("a\u2066b", "direction"),
        ("Z\u0300\u0301\u0302\u0303algo", "accents"), ("<|im_start|>", "template"), ("</s>", "template"),
        ("[INST]", "template"),
    ],
)  # fmt: skip
def test_what_a_reader_cannot_see_is_told(source: str, word: str) -> None:
    assert [word in said for said in unusual(source)] == [True]


def test_two_million_unusual_characters_end_quickly() -> None:
    begun = time.perf_counter()

    for piece in ("<|", "a\u0301", "\u200b", "[/INST", "\U000e0041"):
        unusual(piece * (2_000_000 // len(piece)))

    assert time.perf_counter() - begun < 3
