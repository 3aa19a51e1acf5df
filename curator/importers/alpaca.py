"""The Alpaca form: {"instruction", "input", "output", "history", "system"}, or `chosen` and `rejected` for `output`.

The question is the instruction, with the input under it as LLaMA-Factory joins them: one newline between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curator.importers import extras, fields
from curator.importers.draft import RecordDraft, Skipped
from curator.importers.files import LogFile
from curator.importers.readers import items
from curator.importers.values import text

COLUMNS = {"question": "instruction", "input": "input", "answer": "output", "history": "history"}


def sniff(objects: Sequence[dict[str, Any]]) -> float:
    """Answer the share of objects with an instruction and an output, chosen or rejected."""
    return sum(
        isinstance(values.get("instruction"), str) and isinstance(values.get("output", values.get("chosen")), str)
        for values in objects
    ) / len(objects)


def guess(objects: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Answer Alpaca's columns and those beside them that are understood."""
    return {**COLUMNS, **fields.guess(objects, (*fields.EXTRAS, "system"))}


def read(log: LogFile, mapping: Mapping[str, str]) -> Iterator[RecordDraft | Skipped]:
    """Yield one draft for each row; its history becomes earlier turns."""
    columns = {**COLUMNS, **mapping}
    pick = fields.Picker(columns)
    for item in items(log):
        if isinstance(item, Skipped):
            yield item
            continue
        line, values = item
        picked = pick(values)
        question = "\n".join(filter(None, (text(picked.pop("question", "")), text(picked.pop("input", "")))))
        answer = text(picked.pop("answer", "")) or text(values.get("chosen"))
        turns = _turns(picked.pop("history", None))
        if turns is None:
            yield Skipped(line, "The history is not a list of [question, answer] pairs.")
            continue
        system = text(picked.pop("system", ""))
        rejected = text(values.get("rejected"))
        yield extras.draft(line, question, answer, picked, columns, turns=turns, system=system, rejected=rejected)


def _turns(history: Any) -> tuple[dict[str, str], ...] | None:
    turns: list[dict[str, str]] = []
    if not isinstance(history, list | None):
        return None
    for pair in history or ():
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(part, str) for part in pair)):
            return None
        turns += [{"role": "user", "content": text(pair[0])}, {"role": "assistant", "content": text(pair[1])}]
    return tuple(turns)
