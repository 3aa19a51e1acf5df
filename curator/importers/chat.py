"""Read a conversation: which turn is the answer, which the question, and what came before.

The last assistant turn is the answer, the user turn before it the question, all earlier ones `turns`. Turns of one
speaker in a row become one, parted by a blank line, so that turns alternate. What a user said last, unanswered, is
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from curator.importers import values

ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "customer": "user",
    "assistant": "assistant", "gpt": "assistant", "ai": "assistant", "model": "assistant", "bot": "assistant",
    "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
}  # fmt: skip
TOOLS = frozenset({"tool", "function", "function_call", "observation", "ipython", "tool_call", "tool_response"})
NO_ANSWER = "The conversation has no answer by the assistant."
NO_QUESTION = "The conversation has no question before the answer."
HAS_TOOLS = "The conversation calls tools; only plain questions and answers can be reviewed."


class Exchange(NamedTuple):
    """One conversation taken apart."""

    system: str
    turns: tuple[dict[str, str], ...]
    question: str
    answer: str


def looks_like(messages: Any, role: tuple[str, ...]) -> bool:
    """Tell whether a value is a list of messages that name their speaker under one of the keys."""
    return (
        isinstance(messages, list)
        and bool(messages)
        and isinstance(messages[0], dict)
        and any(isinstance(messages[0].get(key), str) for key in role)
    )


def exchange(messages: Sequence[Any], system: str = "", chosen: Any = None) -> Exchange | str:
    """Take a conversation apart; a sentence where that cannot be done. `chosen` is an answer kept apart from it."""
    turns: list[tuple[str, str]] = []
    for message in [*messages, chosen] if chosen else messages:
        if not isinstance(message, dict):
            return "A turn of the conversation is not an object with a speaker and a text."
        spoken = message.get("role") or message.get("from") or message.get("type")
        name = spoken.casefold() if isinstance(spoken, str) else ""
        if name in TOOLS or message.get("tool_calls") or message.get("function_call"):
            return HAS_TOOLS
        role = ROLES.get(name)
        if role is None:
            return "A turn of the conversation does not say who spoke."
        content = _content(message)
        if content is None:
            return "A turn of the conversation holds an image or another part that is not text."
        if role == "system":
            system = content or system
        elif turns and turns[-1][0] == role:
            turns[-1] = (role, f"{turns[-1][1]}\n\n{content}")
        else:
            turns.append((role, content))
    while turns and turns[-1][0] != "assistant":
        turns.pop()
    if not turns:
        return NO_ANSWER
    if len(turns) < 2:
        return NO_QUESTION
    earlier = tuple({"role": role, "content": content} for role, content in turns[:-2])
    return Exchange(system, earlier, turns[-2][1], turns[-1][1])


def _content(message: dict[str, Any]) -> str | None:
    content = next((message[key] for key in ("content", "value", "text") if message.get(key) is not None), "")
    if isinstance(content, str):
        return values.text(content)
    if not isinstance(content, list):
        return None
    parts: list[str] = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            parts.append(part["text"])
        else:
            return None
    return "\n".join(parts)
