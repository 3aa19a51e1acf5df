"""Speak with one llama.cpp server over HTTP. Knows no names of models and no files."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from trainer import net
from trainer.runtimes.base import Chunk, RuntimeFailure, RuntimeUnavailable
from trainer.runtimes.failures import clean, told

WHERE = "The embedded runtime"


@dataclass(frozen=True)
class LlamaServer:
    """One server by its address and key; the waits are in seconds."""

    address: str
    key: str
    first_seconds: float = net.FIRST_SECONDS
    idle_seconds: float = net.IDLE_SECONDS

    def ask(self, path: str, body: net.Json) -> net.Json:
        """Post JSON and answer the JSON that comes back."""
        with _failures(), net.client(self.address, token=self.key) as http:
            answer = net.fetch(http, "POST", path, body)
            if not answer.ok:
                raise _refusal(answer)
            return answer.json()

    def chat(self, body: net.Json) -> Generator[Chunk]:
        """Stream the answer to a chat request in OpenAI's form. Closing the generator stops the model."""
        finish, timings = None, net.Json()
        waits = {"first": self.first_seconds, "idle": self.idle_seconds}
        with (
            _failures(),
            net.client(self.address, token=self.key) as http,
            net.stream(http, "/v1/chat/completions", body, **waits) as response,
        ):
            if response.status_code != 200:
                raise _refusal(net.read(response))
            for part in net.sse(response):
                if part.get("error"):
                    raise RuntimeFailure(_words(part))
                timings = part.get("timings") or timings
                for choice in part.get("choices") or []:
                    finish = choice.get("finish_reason") or finish
                    if text := (choice.get("delta") or {}).get("content"):
                        yield Chunk(text)
        seconds = float(timings["predicted_ms"]) / 1000 if "predicted_ms" in timings else None
        yield Chunk("", "stop" if finish == "stop" else "length", timings.get("predicted_n"), seconds)


def _failures() -> AbstractContextManager[None]:
    return told(
        down=f"{WHERE} is being restarted. Ask again in a moment.",
        silent=f"{WHERE} has gone silent. Ask again; if it stays so, restart Curator.",
        broken=f"{WHERE} stopped in the middle of its answer and is being started again. Ask again in a moment.",
    )


def _refusal(answer: net.Answer) -> RuntimeFailure:
    if answer.status == 401:
        return RuntimeUnavailable(f"{WHERE} has just been replaced. Ask again in a moment.")
    part = answer.json()
    error = part.get("error")
    if isinstance(error, dict) and error.get("type") == "exceed_context_size_error":
        return RuntimeFailure(
            f"The question is too long: {error.get('n_prompt_tokens')} tokens, and the model was loaded for "
            f"{error.get('n_ctx')}. Ask less, or start a new conversation."
        )
    return RuntimeFailure(_words(part))


def _words(part: net.Json) -> str:
    error = part.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    return f"{WHERE} could not do that. llama.cpp says: {clean(str(said))}"
