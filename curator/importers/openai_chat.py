"""OpenAI's chat form: {"messages": [{"role", "content"}, …]}, as JSON Lines or JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curator.importers import chat, extras, fields
from curator.importers.draft import RecordDraft, Skipped
from curator.importers.files import LogFile
from curator.importers.readers import items
from curator.importers.values import text


def sniff(objects: Sequence[dict[str, Any]]) -> float:
    """Answer the share of objects with `messages` whose turns name a `role`."""
    return sum(chat.looks_like(values.get("messages"), ("role",)) for values in objects) / len(objects)


def guess(objects: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Answer the columns beside the messages that are understood."""
    return {"messages": "messages", **fields.guess(objects, (*fields.EXTRAS, "system"))}


def read(log: LogFile, mapping: Mapping[str, str]) -> Iterator[RecordDraft | Skipped]:
    """Yield one draft for each conversation: its last question and answer, with what came before."""
    columns = {"messages": "messages", **mapping}
    pick = fields.Picker(columns)
    for item in items(log):
        if isinstance(item, Skipped):
            yield item
            continue
        line, values = item
        picked = pick(values)
        messages = picked.pop("messages", None)
        if not isinstance(messages, list):
            yield Skipped(line, f"The record has no list of turns under “{columns['messages']}”.")
            continue
        chosen, rejected = values.get("chosen"), values.get("rejected")
        found = chat.exchange(messages, text(picked.pop("system", "")), chosen if isinstance(chosen, dict) else None)
        if isinstance(found, str):
            yield Skipped(line, found)
            continue
        worse = text(rejected.get("content") or rejected.get("value")) if isinstance(rejected, dict) else ""
        yield extras.draft(
            line, found.question, found.answer, picked, columns,
            turns=found.turns, system=found.system, rejected=worse,
        )  # fmt: skip
