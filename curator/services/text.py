"""Texts for the page: guidelines as safe HTML, long texts folded."""

from __future__ import annotations

from functools import cache

import nh3
from markdown_it import MarkdownIt
from markupsafe import Markup


@cache
def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "breaks": True}).enable("table")


def markdown(source: str) -> Markup:
    """Render Markdown as HTML that is safe to show: no HTML of its own, and what is left is cleaned again."""
    return Markup(nh3.clean(_parser().render(source)))  # noqa: S704 # cleaned on this line


def folded(text: str, length: int = 400) -> tuple[str, str]:
    """Split a long text into what is shown at once and the rest, between words where there is a space near."""
    if len(text) <= length * 1.5:
        return text, ""
    space = max(text.rfind(" ", length // 2, length), text.rfind("\n", length // 2, length))
    cut = space + 1 if space > 0 else length
    return text[:cut], text[cut:]
