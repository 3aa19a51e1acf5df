"""The prompt that a GGUF's own chat template makes of messages, and the same rule in Ollama's language.

An Ollama may put questions to a model otherwise than it was taught: before 0.30 it cannot read the template inside a
GGUF, and it replaces one that resembles a known one by its own. So the prompt is compared when a model is published.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Never

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from trainer.runtimes.base import Publication
from trainer.spec import Message

SYSTEM, FIRST, ANSWER, NEXT = (f"zq{word}qz" for word in ("system", "first", "answer", "next"))
BOS = re.compile(r"<[^<>\s]{1,24}>")  # a server may or may not write what the tokenizer adds anyway


def rendered(template: str, messages: Sequence[Message], end: str = "") -> str:
    """Render a chat template as transformers does, with the beginning of an answer; raises jinja2.TemplateError.

    `end` is the text of the token that ends an answer. Nothing is written for the one that begins a text.
    """
    sandbox = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    sandbox.filters["tojson"] = _json
    turns = [message.model_dump() for message in messages]
    return sandbox.from_string(template).render(
        messages=turns,
        add_generation_prompt=True,
        bos_token="",
        eos_token=end,
        enable_thinking=False,
        raise_exception=_refuse,
        strftime_now=_today,
    )


def asked_as_taught(publication: Publication, template: str, ask: Callable[[Sequence[Message]], str | None]) -> bool:
    """Tell whether a server makes the same prompts as the template that was taught with; True where it will not say.

    `ask` answers the server's prompt for some messages, before which it puts the publication's system prompt itself.
    """
    end = end_of(publication)
    return all(
        theirs is None or _same(theirs, rendered(template, expected, end))
        for messages in _talks(end)
        if _takes(template, expected := with_system(messages, publication.system), end)
        for theirs in [ask(messages)]
    )


def end_of(publication: Publication) -> str:
    """Answer the text of the token that ends an answer; empty for a base, of which nobody noted it."""
    return publication.stop[0] if publication.stop else ""


def go_template(template: str, end: str) -> str | None:
    """Write the same rule in Go's template language, None where there is none that gives the same prompts."""
    around = _around(template, end)
    if around is None:
        return None
    parts = [
        f"{{{{ if not .System }}}}{_go(around.before)}{{{{ end }}}}{{{{ range .Messages }}}}",
        f'{{{{ if eq .Role "user" }}}}{_go(around.question)}{{{{ .Content }}}}{_go(around.asked)}',
        f'{{{{ else if eq .Role "assistant" }}}}{{{{ .Content }}}}{_go(around.answered)}',
    ]
    if around.system:
        before, after = around.system
        parts.append(f'{{{{ else if eq .Role "system" }}}}{_go(before)}{{{{ .Content }}}}{_go(after)}')
    return "".join([*parts, "{{ end }}{{ end }}"])


def for_every_ollama(publication: Publication, template: str) -> Publication:
    """Add a template that every Ollama knows from 0.1.14 on, and the system prompt that it takes for granted.

    Such a template writes one turn, .System .Prompt .Response, and cannot tell the first turn from others: what stands
    before a first question can only be said as a system prompt. Where it is none, nothing is added.
    """
    around = _around(template, end_of(publication))
    if around is None:
        return publication
    system = publication.system
    if around.before and system is None:
        before, after = around.system or ("", "")
        if not around.system or not (around.before.startswith(before) and around.before.endswith(after)):
            return publication
        system = around.before[len(before) : len(around.before) - len(after)]
    asked = f"{{{{ if .Prompt }}}}{_go(around.question)}{{{{ .Prompt }}}}{_go(around.asked)}{{{{ end }}}}"
    answered = f"{{{{ if .Response }}}}{{{{ .Response }}}}{_go(around.answered)}{{{{ end }}}}"
    said = ""
    if around.system:
        before, after = around.system
        said = f"{{{{ if .System }}}}{_go(before)}{{{{ .System }}}}{_go(after)}{{{{ end }}}}"
    return replace(publication, template=said + asked + answered, system=system)


@dataclass(frozen=True)
class _Around:
    """What a template writes: before all, before and after a question, after an answer, around a system prompt."""

    before: str
    question: str
    asked: str
    answered: str
    system: tuple[str, str] | None


def _around(template: str, end: str) -> _Around | None:
    """Ask a template what it writes around each message; None where that depends on more than who speaks.

    What stands between two messages is cut where the words before every question begin to agree; where exactly does
    not matter, because questions and answers take turns.
    """
    try:
        plain = rendered(template, _talk(), end)
    except TemplateError:
        return None
    before, _, rest = plain.partition(FIRST)
    asked, _, rest = rest.partition(ANSWER)
    between, _, last = rest.partition(NEXT)
    system = _around_system(template, end)
    question = _common_end([before, between, *([system[1]] if system else [])])
    cut = len(question)
    if last != asked or not between:
        return None
    around = (system[0], _without(system[1], cut)) if system else None
    return _Around(_without(before, cut), question, asked, _without(between, cut), around)


def _talks(end: str) -> list[list[Message]]:
    """Answer the conversations on which prompts are compared; with an answer in them only where its end is known."""
    talks = [_talk(system=system)[: 1 + system] for system in (False, True)]
    return talks + ([_talk(), _talk(system=True)] if end else [])


def _talk(*, system: bool = False) -> list[Message]:
    user, answer = Message(role="user", content=FIRST), Message(role="assistant", content=ANSWER)
    return [*with_system([], SYSTEM if system else None), user, answer, Message(role="user", content=NEXT)]


def with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    """Put a system prompt before a conversation that has none."""
    if system is None or (messages and messages[0].role == "system"):
        return list(messages)
    return [Message(role="system", content=system), *messages]


def _same(theirs: str, ours: str) -> bool:
    """Tell whether two prompts are the same but for a token that begins every text."""
    return theirs == ours or (theirs.endswith(ours) and bool(BOS.fullmatch(theirs[: len(theirs) - len(ours)])))


def _around_system(template: str, end: str) -> tuple[str, str] | None:
    """Answer what stands before a system prompt and between it and the first question, None where none is taken."""
    try:
        whole = rendered(template, _talk(system=True), end)
    except TemplateError:
        return None
    before, found, rest = whole.partition(SYSTEM)
    return (before, rest.partition(FIRST)[0]) if found else None


def _takes(template: str, messages: Sequence[Message], end: str) -> bool:
    try:
        rendered(template, messages, end)
    except TemplateError:
        return False
    return True


def _common_end(texts: Sequence[str]) -> str:
    shortest = min(len(text) for text in texts)
    size = next((n for n in range(shortest, 0, -1) if len({text[-n:] for text in texts}) == 1), 0)
    return texts[0][len(texts[0]) - size :]


def _without(text: str, cut: int) -> str:
    return text[: len(text) - cut]


def _go(text: str) -> str:
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def _refuse(message: str) -> Never:
    raise TemplateError(message)


def _today(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _json(value: object, indent: int | None = None) -> str:
    """Write JSON as transformers' filter does, which escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
