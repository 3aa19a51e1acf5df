"""The prompt that a runtime makes of a conversation, against the one that was taught.

Ollama has templates of its own, and its rules which one counts changed several times; a model that is given another
prompt than it was taught with answers badly, and nothing fails.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from trainer import net
from trainer.runtimes.base import Runtime, RuntimeFailure
from trainer.runtimes.llamacpp import LlamaCppRuntime
from trainer.runtimes.ollama import OllamaRuntime
from trainer.spec import Message, Prompt

SHOWN = 60  # characters on each side of the first that differs


class Parting(NamedTuple):
    """Where two prompts part, and how each goes on."""

    question: str
    place: int  # in characters, from 0
    taught: str
    served: str


def first_difference(runtime: Runtime, tag: str, prompts: Sequence[Prompt]) -> Parting | None:
    """Find the first prompt that a runtime writes otherwise than it was taught; None where all agree or it tells none.

    A token that begins every text does not count: some templates write it and some tokenizers add it.
    """
    for prompt in prompts:
        served = rendered(runtime, tag, prompt.messages)
        if served is None:
            return None
        taught, served = prompt.text.removeprefix(prompt.bos), served.removeprefix(prompt.bos)
        if taught != served:
            pairs = enumerate(zip(taught, served, strict=False))
            place = next((at for at, (one, other) in pairs if one != other), min(len(taught), len(served)))
            end = place + SHOWN
            return Parting(prompt.messages[-1].content, place, taught[place:end], served[place:end])
    return None


def rendered(runtime: Runtime, tag: str, messages: Sequence[Message]) -> str | None:
    """Answer the prompt as a runtime writes it, without an answer; None where it does not tell."""
    if isinstance(runtime, LlamaCppRuntime):
        return runtime.apply_template(tag, messages)
    if isinstance(runtime, OllamaRuntime):
        return _by_ollama(runtime, tag, messages)
    return None


def _by_ollama(runtime: OllamaRuntime, tag: str, messages: Sequence[Message]) -> str | None:
    """Ask for the rendered template alone; Ollama before 0.11.5 does not know the word and says one token."""
    turns = [message.model_dump() for message in messages]
    body = {
        "model": tag,
        "messages": turns,
        "stream": False,
        "_debug_render_only": True,
        "options": {"num_predict": 1},
    }
    try:
        with net.client(runtime.url, token=runtime.token) as http:
            answer = net.fetch(http, "POST", "/api/chat", body)
        found = answer.json() if answer.ok else {}
    except (net.BadAnswer, OSError, net.httpx.HTTPError) as error:
        raise RuntimeFailure(
            f"Ollama did not show the prompt it makes ({error}). Publish the version again."
        ) from error
    text = (found.get("_debug_info") or {}).get("rendered_template")
    return text if isinstance(text, str) else None
