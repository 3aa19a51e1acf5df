"""OpenAI's fine-tuning files, one JSON Lines file a split.

sft: {"messages": [{"role", "content"}, …]}. Preference: {"input": {"messages"}, "preferred_output",
"non_preferred_output"}, OpenAI's DPO form. It has none for single judgements, which are left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curator.exporters.example import Judgement, PreferenceExample, Splits
from curator.exporters.files import to_json, write_lines
from trainer.spec import Example, Message


def write(folder: Path, name: str, splits: Splits) -> list[Path]:
    """Write <name>_<split>.jsonl for each split that has examples; answer the files."""
    found: list[Path | None] = []
    for split, values in splits.items():
        lines = (line(value) for value in values if not isinstance(value, Judgement))
        found.append(write_lines(folder / f"{name}_{split}.jsonl", lines))
    return [path for path in found if path]


def line(example: Example | PreferenceExample) -> str:
    """Answer one example as one line of JSON."""
    if isinstance(example, Example):
        return to_json({"messages": _plain(example.messages)})
    value = {
        "input": {"messages": _plain(example.prompt)},
        "preferred_output": [{"role": "assistant", "content": example.chosen}],
        "non_preferred_output": [{"role": "assistant", "content": example.rejected}],
    }
    return to_json(value)


def _plain(messages: list[Message]) -> list[dict[str, Any]]:
    return [{"role": message.role, "content": message.content} for message in messages]
