"""Texts for the page: Markdown as safe HTML, long texts folded, and what a reader cannot see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

from curator.services.intake import CONTROL
from curator.words import N_

RENDERED = 50_000  # characters; a longer text is shown as it is
_TAGS = {
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol",
    "li", "table", "thead", "tbody", "tr", "th", "td", "a",
}  # fmt: skip
_MARKDOWN = re.compile(
    r"^(?:#{1,6} |[-*+] |\d{1,2}[.)] |> |```|\|.+\|\s*$)|\*\*[^*\n]+\*\*|`[^`\n]+`"
    r"|\[[^\[\]\n]{1,500}\]\([^)\s]{1,2000}\)",
    re.MULTILINE,
)
_UNUSUAL = (
    (CONTROL, N_("control signs of a chat template")),
    (re.compile("[\u202a-\u202e\u2066-\u2069]"), N_("hidden signs that turn the reading direction")),
    (
        re.compile(
            "[\u00ad\u180e\u200b\u2060-\u2064\ufeff]|(?<=[A-Za-z0-9])[\u200c\u200d](?=[A-Za-z0-9])"
            "|(?<![\U0001f3f4\U000e0020-\U000e007e])[\U000e0001-\U000e007f]"  # the flag of Wales is made of these
        ),
        N_("invisible signs"),
    ),
    (re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u20d0-\u20ff]{4}"), N_("piled-up accents")),
)


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table")
    parser.add_render_rule("image", _description)
    return parser


def _description(renderer: Any, tokens: Sequence[Token], place: int, options: OptionsDict, env: Any) -> str:
    """Answer what an image shows in words, in its stead; `renderer` and `env` are the library's own, untyped."""
    return str(escape(renderer.renderInlineAsText(tokens[place].children or [], options, env)))


def markdown(source: str) -> Markup:
    """Render Markdown as HTML that is safe to show: no HTML of its own, no images, and cleaned once more.

    An image would tell its server that somebody reads here. A link leads only where http or mail can.
    """
    if len(source) > RENDERED:
        return Markup("<pre>") + source + Markup("</pre>")
    return _rendered(source)


@lru_cache(maxsize=32)  # guidelines stand on every desk, and an answer twice on its card
def _rendered(source: str) -> Markup:
    clean = nh3.clean(
        _parser().render(source), tags=_TAGS, attributes={"a": {"href"}, "td": {"align"}, "th": {"align"}},
        url_schemes={"http", "https", "mailto"}, link_rel="noopener noreferrer nofollow", attribute_filter=_inward,
    )  # fmt: skip
    return Markup(clean)  # noqa: S704 # cleaned on the line above


def _inward(_tag: str, name: str, value: str) -> str | None:
    """Leave out addresses that are another server's without saying so (//evil), or whose scheme is in disguise."""
    if name != "href":
        return value
    begin = re.split("[/?#]", value, maxsplit=1)[0].lower()
    hidden = value.replace("\\", "/").lstrip().startswith("//")
    return None if hidden or (":" in begin and not begin.startswith(("http:", "https:", "mailto:"))) else value


def looks_like_markdown(source: str) -> bool:
    """Tell whether a text reads better rendered: headings, lists, bold, code, tables or links."""
    return len(source) <= RENDERED and bool(_MARKDOWN.search(source))


def unusual(source: str) -> list[str]:
    """Say what is in a text that a reader cannot see and that would spoil teaching."""
    return [sentence for pattern, sentence in _UNUSUAL if pattern.search(source)]


def folded(text: str, length: int = 400) -> tuple[str, str]:
    """Split a long text into what is shown at once and the rest, between words where there is a space near."""
    if len(text) <= length * 1.5:
        return text, ""
    space = max(text.rfind(" ", length // 2, length), text.rfind("\n", length // 2, length))
    cut = space + 1 if space > 0 else length
    return text[:cut], text[cut:]


def folded_pieces(pieces: Sequence[tuple[str, bool]]) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Split a long text in marked pieces the same way."""
    start, _ = folded("".join(text for text, _ in pieces))
    shown: list[tuple[str, bool]] = []
    rest: list[tuple[str, bool]] = []
    room = len(start)
    for text, marked in pieces:
        shown += [(text[:room], marked)] if room else []
        rest += [(text[room:], marked)] if text[room:] else []
        room = max(0, room - len(text))
    return shown, rest
