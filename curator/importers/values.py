"""Turn the many ways logs write texts, times, thumbs and passages into the one way of a draft."""

from __future__ import annotations

import ast
import json
import re
from datetime import UTC, datetime
from typing import Any

_ESCAPE = re.compile(r"\\u[0-9a-fA-F]{4}")
_LONE = re.compile("[\ud800-\udfff]")
_PAIR = re.compile(r"(?:\\u[0-9a-fA-F]{4})+")
THUMBS = {
    "like": 1, "liked": 1, "up": 1, "thumbs_up": 1, "thumbsup": 1, "positive": 1, "good": 1, "yes": 1, "true": 1,
    "👍": 1, "赞同": 1, "赞": 1, "有用": 1, "满意": 1, "点赞": 1, "1": 1, "+1": 1, "1.0": 1, "5": 1, "4": 1,
    "dislike": -1, "disliked": -1, "down": -1, "thumbs_down": -1, "thumbsdown": -1, "negative": -1, "bad": -1, "no": -1,
    "false": -1, "👎": -1, "反对": -1, "踩": -1, "无用": -1, "没用": -1, "不满意": -1, "点踩": -1, "-1": -1,
    "-1.0": -1, "2": -1,
}  # fmt: skip


def text(value: Any) -> str:
    """Answer a value as text: strings as they are, numbers written out, all else empty.

    A text that is mostly `\\uXXXX` (escaped once more by whatever wrote the log) is decoded; one that merely
    mentions an escape is left alone.
    """
    if isinstance(value, str):
        return unescaped(value) if "\\u" in value else value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return ""


def unescaped(value: str) -> str:
    """Decode a text of which escapes of non-ASCII characters are the greater part."""
    if not value.isascii() or 6 * len(_ESCAPE.findall(value)) * 2 < len(value):
        return value
    try:
        whole = json.loads(f'"{value}"')
    except ValueError:
        whole = _PAIR.sub(lambda match: json.loads(f'"{match[0]}"'), value)
    return value if whole.isascii() or _LONE.search(whole) else whole


def parsed(value: Any) -> Any:
    """Answer what a string holds when it is a list or an object written as JSON or as Python; else the value."""
    if not isinstance(value, str) or value[:1] not in ("[", "{") or len(value) > 1_000_000:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value


def moment(value: Any) -> datetime | None:
    """Read a time: ISO 8601, or seconds or milliseconds since 1970. One without a zone is taken as UTC."""
    if isinstance(value, str):
        if not value.replace(".", "", 1).isdigit():
            try:
                at = datetime.fromisoformat(value.strip().replace("/", "-"))
                return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
            except (ValueError, OverflowError):
                return None
        value = float(value) if len(value) < 32 else 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1e8 < value < 1e14:
        return None
    return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)


def thumbs(value: Any) -> int | None:
    """Answer 1 for liked, -1 for disliked, None for neither. Stars: 4 and 5 are liked, 2 is not, 3 says nothing.

    A single 1 is a thumb up, as in Open WebUI and Langfuse; of a list the last entry counts.
    """
    if isinstance(value, bool):
        return 1 if value else -1
    if isinstance(value, list):
        return thumbs(value[-1]) if value else None
    if isinstance(value, dict):
        return next((mark for key in ("rating", "score", "value") if (mark := thumbs(value.get(key)))), None)
    if isinstance(value, (str, int, float)):
        return THUMBS.get(str(value).strip().casefold())
    return None


def number(value: Any) -> float | None:
    """Answer a finite number, also from a string; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):  # a union would be made at every call
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if abs(found) < 1e15 else None
