"""Any server that speaks OpenAI's chat API: One-API, LiteLLM, vLLM, OpenAI itself. It is asked, for comparison.

It is no Runtime on purpose: what cannot publish cannot be published to.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import httpx

from trainer import net
from trainer.runtimes.base import ChatOptions, Chunk, ModelMissing, RuntimeFailure, RuntimeUnavailable
from trainer.runtimes.failures import clean, told
from trainer.spec import Message

LIST_SECONDS = 5.0  # a page waits for the list
MOST_MODELS = 500
LONGEST_NAME = 200


class OpenAIServer:
    """A server by its base URL, which is what stands before /chat/completions and mostly ends in /v1."""

    def __init__(self, url: str, token: str | None = None) -> None:
        try:
            self.url = net.checked_url(url)
        except net.BadUrl as error:
            raise RuntimeFailure(f"The address to compare with cannot be used. {error}") from error
        self.token = token
        self.first_seconds = net.FIRST_SECONDS
        self.idle_seconds = net.IDLE_SECONDS

    @property
    def host(self) -> str:
        return httpx.URL(self.url).host

    @property
    def is_local(self) -> bool:
        """Tell whether what is asked stays on this machine, as far as the address says."""
        return net.is_local(self.url)

    def models(self) -> list[str]:
        """List the names that can be asked for, sorted; what cannot be shown as one short line is left out."""
        with self._failures(), net.client(self.url, token=self.token, timeout=LIST_SECONDS) as http:
            answer = net.fetch(http, "GET", "/models")
            if not answer.ok:
                raise self._refusal(answer, "")
            names = {str(entry.get("id") or "") for entry in objects(answer.json().get("data"))}
        return sorted(name for name in names if is_name(name))[:MOST_MODELS]

    def chat(self, name: str, messages: Sequence[Message], options: ChatOptions) -> Generator[Chunk]:
        """Stream an answer; what the model thinks beforehand is left out. Closing the generator ends the request."""
        body: net.Json = {
            "model": name,
            "messages": [message.model_dump() for message in messages],
            "stream": True,
            "temperature": options.temperature,
            "seed": options.seed,
            "max_tokens": options.max_tokens,
            **({"stop": list(options.stop)} if options.stop else {}),
        }
        waits, said = {"first": self.first_seconds, "idle": self.idle_seconds}, False
        with (
            self._failures(),
            net.client(self.url, token=self.token) as http,
            net.stream(http, "/chat/completions", body, **waits) as response,
        ):
            if response.status_code != 200:
                raise self._refusal(net.read(response), name)
            for chunk in chunks(net.sse(response), self._failed):
                said = said or bool(chunk.text.strip())
                if chunk.finish and not said:
                    raise RuntimeFailure(
                        f"{self.host} answered with nothing. A model that thinks first may have used up its "
                        f"{options.max_tokens} tokens."
                    )
                yield chunk

    def _failed(self, part: net.Json) -> RuntimeFailure:
        return RuntimeFailure(f"{self.host} could not do that. It says: {clean(words(part))}")

    def _refusal(self, answer: net.Answer, name: str) -> RuntimeFailure:
        if answer.status in (401, 403):
            return RuntimeFailure(f"{self.host} refuses the token. Check CURATOR_COMPARE_TOKEN.")
        if answer.status == 404 and name:
            return ModelMissing(f"{self.host} has no model {name[:LONGEST_NAME]!r}. Choose another one.")
        if answer.status == 429:
            return RuntimeUnavailable(f"{self.host} takes no more questions just now. Try again in a moment.")
        if answer.status >= 500:
            return RuntimeUnavailable(
                f"{self.host} has a problem of its own (status {answer.status}). Try again later."
            )
        if answer.status in (400, 422):
            try:
                return self._failed(answer.json())
            except net.BadAnswer:
                pass  # its words are no use to anybody; the status is
        return RuntimeFailure(
            f"What answers at {self.url} does not speak OpenAI's language (status {answer.status}). The address is "
            "what stands before /chat/completions and mostly ends in /v1; check CURATOR_COMPARE_URL."
        )

    def _failures(self) -> AbstractContextManager[None]:
        return told(
            down=f"{self.host} does not answer. Check CURATOR_COMPARE_URL, or try again later; nothing is lost.",
            silent=f"{self.host} has gone silent. Try again; if it stays so, look after that server.",
            broken=f"{self.host} broke off. Try again; if it stays so, look after that server.",
        )


def chunks(parts: Iterable[net.Json], failed: Callable[[net.Json], RuntimeFailure]) -> Generator[Chunk]:
    """Read the pieces of a streamed answer. The last one may lack its [DONE], not its reason to end.

    How many tokens it took, llama.cpp tells in `timings` and others in `usage`, if at all.
    """
    finish: str | None = None
    timings, usage = net.Json(), net.Json()
    try:
        for part in parts:
            if part.get("error"):
                raise failed(part)
            timings, usage = _object(part.get("timings")) or timings, _object(part.get("usage")) or usage
            for choice in objects(part.get("choices")):
                finish = str(choice.get("finish_reason") or "") or finish
                text = _object(choice.get("delta")).get("content")
                if isinstance(text, str) and text:
                    yield Chunk(text)
    except net.BadAnswer:
        if finish is None:
            raise
    tokens, ms = timings.get("predicted_n", usage.get("completion_tokens")), timings.get("predicted_ms")
    yield Chunk(
        "",
        "stop" if finish == "stop" else "length",
        tokens if isinstance(tokens, int) else None,
        ms / 1000 if isinstance(ms, int | float) else None,
    )


def words(part: net.Json) -> str:
    """Answer what an error says."""
    error = part.get("error")
    return str(error.get("message") if isinstance(error, dict) else error)


def is_name(name: str) -> bool:
    """Tell whether a model may be called so here: one short line that can be shown."""
    return name.isprintable() and 0 < len(name.strip()) <= len(name) <= LONGEST_NAME


def objects(found: Any) -> list[net.Json]:  # Any: JSON from outside
    """Answer the objects of a list; nothing for anything else."""
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _object(found: Any) -> net.Json:  # Any: JSON from outside
    return found if isinstance(found, dict) else {}
