"""Any table or list of objects with a question and an answer: CSV, TSV, JSON Lines, JSON.

Reads what RAGAS, RAGChecker, LangChain, LlamaIndex, Langfuse, Dify, HuixiangDou and Azure's evaluator write, and most
home-made exports, because columns are found by their many usual names (fields.SYNONYMS) or given by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curator.importers import chat, extras, fields
from curator.importers.draft import RecordDraft, Skipped
from curator.importers.files import LogFile
from curator.importers.readers import items
from curator.importers.values import parsed, text


def sniff(objects: Sequence[dict[str, Any]]) -> float:
    """Answer 0.6 where both a question and an answer column are found, so that a closer form wins."""
    mapping = fields.guess(objects)
    return 0.6 if "question" in mapping and "answer" in mapping else 0.0


def guess(objects: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Answer which column holds which field."""
    return fields.guess(objects)


def read(log: LogFile, mapping: Mapping[str, str]) -> Iterator[RecordDraft | Skipped]:
    """Yield one draft for each row."""
    columns = dict(mapping)
    pick = fields.Picker(columns)
    for item in items(log):
        if isinstance(item, Skipped):
            yield item
            continue
        line, values = item
        picked = pick(values)
        question, answer = picked.pop("question", ""), text(picked.pop("answer", ""))
        system, turns = text(picked.pop("system", "")), ()
        if isinstance(question, list | dict) or question[:1] == "[":
            found = _conversation(parsed(question), answer, system)
            if isinstance(found, str):
                yield Skipped(line, found)
                continue
            if found:
                system, turns, question, answer = found
        yield extras.draft(line, text(question), answer, picked, columns, turns=turns, system=system)


def _conversation(value: Any, answer: str, system: str) -> chat.Exchange | str | None:
    """Read a question that is a list of turns, as RAGAS writes multi-turn samples; None for any other value."""
    if not chat.looks_like(value, ("role", "type", "from")):
        return None
    return chat.exchange(value, system, {"role": "assistant", "content": answer} if answer else None)
