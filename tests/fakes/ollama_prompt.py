"""How the fake Ollama makes a prompt: with a template in Go's language, with the GGUF's own, or with none at all."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from tests.fakes.ollama_server import Model

KEY = b"tokenizer.chat_template" + (8).to_bytes(4, "little")
CHATML = """{{ range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
ACTION = re.compile(r"\{\{ (.*?) \}\}", re.DOTALL)


def chat_template(gguf: bytes) -> str:
    """Read the chat template out of a GGUF's bytes."""
    at = gguf.find(KEY)
    if at < 0:
        return ""
    begin = at + len(KEY) + 8
    return gguf[begin : begin + int.from_bytes(gguf[begin - 8 : begin], "little")].decode()


def prompt_of(model: Model, messages: list[dict[str, Any]], *, reads_jinja: bool) -> str:
    """Answer what the runner would be given."""
    if model.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": model.system}, *messages]
    if model.renderer:
        return "".join(f"<{model.renderer}:{turn['role']}>{turn['content']}" for turn in messages)
    if model.template:
        return _go(CHATML if model.template == "chatml" else model.template, messages)
    if reads_jinja and model.jinja:
        sandbox = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)  # noqa: S701  prompts are no HTML
        return sandbox.from_string(model.jinja).render(messages=messages, add_generation_prompt=True, bos_token="")
    return messages[-1]["content"]


def turn_by_turn(template: str, messages: list[dict[str, Any]], system: str = "") -> str:
    """Render a template that knows no .Messages, as Ollama has done from 0.1.14 on: once for each question.

    Later ones end the last time right behind .Response, which says the same for a template that writes nothing there.
    """
    turns: list[dict[str, str]] = []
    turn = {"System": system, "Prompt": "", "Response": ""}
    for one in messages:
        kind = {"system": "System", "user": "Prompt", "assistant": "Response"}[one["role"]]
        turn[kind] = one["content"]
        if kind == "Response":
            turns.append(turn)
            turn = dict.fromkeys(turn, "")
    every = jinja2.Environment(keep_trailing_newline=True).from_string(ACTION.sub(_field, template))  # noqa: S701
    return "".join(every.render(**one) for one in [*turns, turn])


def _field(found: re.Match[str]) -> str:
    words = found[1]
    if words.startswith('"'):
        return "{{ " + repr(json.loads(words)) + " }}"
    if words == "end":
        return "{% endif %}"
    return "{% if " + words.removeprefix("if .") + " %}" if words.startswith("if .") else "{{ " + words[1:] + " }}"


def _go(template: str, messages: list[dict[str, Any]]) -> str:
    """Render the few of Go's actions that chat templates need, by way of Jinja."""
    opened: list[str] = []

    def action(found: re.Match[str]) -> str:
        words = found[1]
        if words.startswith('"'):
            return "{{ " + repr(json.loads(words)) + " }}"
        if words == "range .Messages":
            opened.append("for")
            return "{% for turn in messages %}"
        if words == "if not .System":
            opened.append("if")
            return "{% if not system %}"
        if equal := re.fullmatch(r'(else )?if eq \.Role ("\w+")', words):
            if not equal[1]:
                opened.append("if")
            return "{% " + ("elif" if equal[1] else "if") + f" turn.role == {equal[2]} %}}"
        if words == "end":
            return "{% end" + opened.pop() + " %}"
        return {".Role": "{{ turn.role }}", ".Content": "{{ turn.content }}"}[words]

    system = any(turn["role"] == "system" for turn in messages)
    rendering = jinja2.Environment(keep_trailing_newline=True)  # noqa: S701  as above
    return rendering.from_string(ACTION.sub(action, template)).render(messages=messages, system=system)
