"""trl's files, one JSON Lines file a split; its trainers take their columns as they are.

sft: {"prompt", "completion"}, preference: {"prompt", "chosen", "rejected"}, each a list of messages; judgements:
{"prompt", "completion", "label"}, the label being true for a good answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curator.exporters.example import Judgement, PreferenceExample, Splits
from curator.exporters.files import to_json, write_lines
from trainer.spec import Example, Message


def write(folder: Path, name: str, splits: Splits) -> list[Path]:
    """Write <name>_<split>.jsonl for each split that has examples; answer the files."""
    written = (write_lines(folder / f"{name}_{split}.jsonl", map(line, values)) for split, values in splits.items())
    return [path for path in written if path]


def line(example: Example | PreferenceExample | Judgement) -> str:
    """Answer one example as one line of JSON."""
    if isinstance(example, Example):
        return to_json({"prompt": _plain(example.messages[:-1]), "completion": _plain(example.messages[-1:])})
    prompt = {"prompt": _plain(example.prompt)}
    if isinstance(example, Judgement):
        return to_json(prompt | {"completion": _said(example.answer), "label": example.good})
    return to_json(prompt | {"chosen": _said(example.chosen), "rejected": _said(example.rejected)})


def _said(answer: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": answer}]


def _plain(messages: list[Message]) -> list[dict[str, Any]]:
    return [message.model_dump() for message in messages]
