"""LLaMA-Factory's ShareGPT form: <name>_<split>.jsonl beside a dataset_info.json that registers them.

Every key of `columns` and `tags` is written out, because LLaMA-Factory takes a key that is missing there as
“not in the file” and drops it: the system prompt, or the system turn's meaning.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from curator.exporters.example import Judgement, PreferenceExample, Splits
from curator.exporters.files import to_json, write_lines, write_text
from trainer.spec import Example, Message

TAGS = {
    "role_tag": "from",
    "content_tag": "value",
    "user_tag": "human",
    "assistant_tag": "gpt",
    "observation_tag": "observation",
    "function_tag": "function_call",
    "system_tag": "system",
}
COLUMNS: dict[str, str | None] = {
    "prompt": None, "query": None, "response": None, "history": None, "messages": "conversations",
    "system": "system", "tools": None, "images": None, "videos": None, "audios": None,
    "chosen": None, "rejected": None, "kto_tag": None,
}  # fmt: skip
ANSWERS: dict[type[Any], tuple[str, ...]] = {
    Example: (), PreferenceExample: ("chosen", "rejected"), Judgement: ("kto_tag",),
}  # fmt: skip
"""The columns that each kind has besides the conversation."""


def write(folder: Path, name: str, splits: Splits) -> list[Path]:
    """Write a file for each split that has examples, and dataset_info.json; answer the files."""
    found: list[Path] = []
    info: dict[str, Any] = {}
    for split, values in splits.items():
        kind: type[Any] = Example

        def lines(values: Any = values) -> Any:
            nonlocal kind
            for value in values:
                kind = type(value)
                yield line(value)

        file = write_lines(folder / f"{name}_{split}.jsonl", lines())
        if file:
            found.append(file)
            info[f"{name}_{split}"] = entry(file.name, kind)
    return [*found, write_text(folder / "dataset_info.json", json.dumps(info, ensure_ascii=False, indent=2) + "\n")]


def entry(file_name: str, kind: type[Any]) -> dict[str, Any]:
    """Answer the dataset_info.json entry of one file that holds examples of a kind."""
    return {
        "file_name": file_name,
        "formatting": "sharegpt",
        "ranking": kind is PreferenceExample,
        "columns": COLUMNS | {name: name for name in ANSWERS[kind]},
        "tags": dict(TAGS),
    }


def line(example: Example | PreferenceExample | Judgement) -> str:
    """Answer one example as one line of JSON; the system prompt has a column of its own."""
    system, turns = _turns(example.messages if isinstance(example, Example) else example.prompt)
    value: dict[str, Any] = {"conversations": turns, "system": system}
    if isinstance(example, PreferenceExample):
        value |= {"chosen": _turn("gpt", example.chosen), "rejected": _turn("gpt", example.rejected)}
    if isinstance(example, Judgement):
        turns.append(_turn("gpt", example.answer))
        value["kto_tag"] = example.good
    return to_json(value)


def _turns(messages: list[Message]) -> tuple[str, list[dict[str, str]]]:
    """Answer the system prompt and the turns; a greeting before the first question is left out.

    LLaMA-Factory skips a conversation whose odd turns are not the user's.
    """
    system = messages[0].content if messages[0].role == "system" else ""
    turns = messages[1:] if messages[0].role == "system" else messages
    turns = turns[1:] if turns[0].role == "assistant" else turns
    return system, [_turn("human" if turn.role == "user" else "gpt", turn.content) for turn in turns]


def _turn(speaker: str, value: str) -> dict[str, str]:
    return {"from": speaker, "value": value}
