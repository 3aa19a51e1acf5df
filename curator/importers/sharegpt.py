"""The ShareGPT form: {"conversations": [{"from", "value"}, …], "system", "tools"}, with `chosen` and `rejected` in
preference sets. A file that is called so but holds `messages` is openai_chat's: keys decide, not names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curator.importers import chat, fields, openai_chat
from curator.importers.draft import RecordDraft, Skipped
from curator.importers.files import LogFile

KEYS = ("conversations", "conversation", "messages")


def sniff(objects: Sequence[dict[str, Any]]) -> float:
    """Answer the share of objects whose turns name a speaker under `from`, or are called conversations."""
    fits = 0
    for values in objects:
        turns = next((values[key] for key in KEYS if key in values), None)
        fits += chat.looks_like(turns, ("from",)) or ("messages" not in values and chat.looks_like(turns, ("role",)))
    return fits / len(objects)


def guess(objects: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Answer the column with the turns, and the columns beside it that are understood."""
    turns = next((key for key in KEYS if any(key in values for values in objects)), KEYS[0])
    rest = fields.guess(objects, (*fields.EXTRAS, "system"))
    return {"messages": turns, **{field: column for field, column in rest.items() if column != turns}}


def read(log: LogFile, mapping: Mapping[str, str]) -> Iterator[RecordDraft | Skipped]:
    """Yield one draft for each conversation, as openai_chat does."""
    return openai_chat.read(log, {"messages": KEYS[0], **mapping})
