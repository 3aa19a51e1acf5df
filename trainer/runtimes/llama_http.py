"""Speak with one llama.cpp server over HTTP: the embedded runtime's child, or one that somebody runs.

Knows no files, and of names only that a router wants one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from trainer import net
from trainer.runtimes.base import SAMPLING, ChatOptions, Chunk, RuntimeFailure, RuntimeUnavailable
from trainer.runtimes.failures import clean, told
from trainer.runtimes.openai import chunks, words

NO_THINKING = {"enable_thinking": False}


@dataclass(frozen=True)
class Sentences:
    """What people are told when it does not answer, goes silent, breaks off, or refuses the key."""

    where: str
    down: str
    silent: str
    broken: str
    refused: Callable[[], RuntimeFailure]


@dataclass(frozen=True)
class LlamaHttp:
    """One server by its address and key; the waits are in seconds."""

    address: str
    key: str
    sentences: Sentences
    first_seconds: float = net.FIRST_SECONDS
    idle_seconds: float = net.IDLE_SECONDS

    def ask(self, path: str, body: net.Json | list[net.Json]) -> net.Json:
        """Post JSON and answer the JSON object that comes back."""
        return self._fetched("POST", path, body).json()

    def get(self, path: str) -> Any:  # Any: JSON from outside, an object or a list
        """Answer the JSON at a path."""
        return self._fetched("GET", path).any_json()

    def props(self) -> net.Json:
        """Answer what a server says of itself."""
        found = self.get("/props")
        return found if isinstance(found, dict) else {}

    def chat(self, body: net.Json) -> Generator[Chunk]:
        """Stream the answer to a chat request in OpenAI's form. Closing the generator stops the model."""
        waits = {"first": self.first_seconds, "idle": self.idle_seconds}
        with (
            self._failures(),
            net.client(self.address, token=self.key) as http,
            net.stream(http, "/v1/chat/completions", body, **waits) as response,
        ):
            if response.status_code != 200:
                raise self._refusal(net.read(response))
            yield from chunks(net.sse(response), self._failed)

    def _fetched(self, method: str, path: str, body: object = None) -> net.Answer:
        with self._failures(), net.client(self.address, token=self.key) as http:
            answer = net.fetch(http, method, path, body)
            if not answer.ok:
                raise self._refusal(answer)
            answer.any_json()  # here, where what is no JSON becomes a sentence
            return answer

    def _failures(self) -> AbstractContextManager[None]:
        return told(down=self.sentences.down, silent=self.sentences.silent, broken=self.sentences.broken)

    def _refusal(self, answer: net.Answer) -> RuntimeFailure:
        if answer.status in (401, 403):
            return self.sentences.refused()
        try:
            part = answer.json()
        except net.BadAnswer:
            part = net.Json()
        error = part.get("error")
        if not error:
            return RuntimeFailure(
                f"{self.sentences.where} does not answer as llama.cpp does (status {answer.status}). Check its address."
            )
        if answer.status == 503:
            return RuntimeUnavailable(f"{self.sentences.where} is still loading its model. Ask again in a moment.")
        if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
            return RuntimeFailure(
                f"The question is too long: {error.get('n_prompt_tokens')} tokens, and the model was loaded for "
                f"{error.get('n_ctx')}. Ask less, or start a new conversation."
            )
        return self._failed(part)

    def _failed(self, part: net.Json) -> RuntimeFailure:
        return RuntimeFailure(f"{self.sentences.where} could not do that. llama.cpp says: {clean(words(part))}")


def question(messages: Sequence[dict[str, str]], options: ChatOptions, stop: Sequence[str]) -> net.Json:
    """Write a chat request; everything that changes an answer is said, since servers have defaults of their own."""
    return {
        **SAMPLING,
        "messages": list(messages),
        "chat_template_kwargs": NO_THINKING,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": options.temperature,
        "seed": options.seed,
        "max_tokens": options.max_tokens,
        "stop": list(stop),
    }
