"""One Ollama's address: ask it, read its streams, and turn what it refuses into sentences."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx

from trainer import net
from trainer.runtimes.base import RuntimeFailure, RuntimeUnavailable, missing
from trainer.runtimes.failures import told
from trainer.runtimes.ollama_answers import words


class Wire:
    """An address and its token."""

    def __init__(self, url: str, token: str | None) -> None:
        try:
            self.url = net.checked_url(url)
        except net.BadUrl as error:
            raise RuntimeFailure(f"Ollama's address cannot be used. {error}") from error
        self.token = token

    @property
    def host(self) -> str:
        return httpx.URL(self.url).host

    def client(self, timeout: float = net.FIRST_SECONDS) -> httpx.Client:
        """Make a client for it; `timeout` is the longest silence, in seconds."""
        return net.client(self.url, token=self.token, timeout=timeout)

    def ask(self, method: str, path: str, body: object = None, tag: str = "") -> net.Json:
        """Ask one thing, about `tag` if it is about one, and answer what it says."""
        with self.failures(), self.client() as http:
            answer = net.fetch(http, method, path, body)
            self.check(answer, tag)
            return answer.json() if answer.body.strip() else {}

    @contextmanager
    def stream(self, path: str, body: net.Json, *, first: float, idle: float) -> Generator[Iterator[net.Json]]:
        """Post and yield the answer's objects while they come; the waits are those of net.stream."""
        with self.failures(), self.client() as http, net.stream(http, path, body, first=first, idle=idle) as response:
            yield self._parts(response, str(body["model"]))

    def _parts(self, response: httpx.Response, tag: str) -> Iterator[net.Json]:
        """Yield a stream's objects. A failure may come with any of them, under status 200."""
        if response.status_code != 200:
            self.check(net.read(response), tag)
        for part in net.ndjson(response):
            if part.get("error"):
                raise RuntimeFailure(words(part))
            yield part

    def check(self, answer: net.Answer, subject: str) -> None:
        """Raise RuntimeFailure for an answer that is none."""
        if answer.ok:
            return
        if answer.status == 404 and subject:
            raise missing(subject, "Ollama")
        if answer.status in (401, 403):
            raise RuntimeFailure(f"Ollama at {self.url} refuses the token. Check it in the settings.")
        if 300 <= answer.status < 400:
            raise RuntimeFailure(f"{self.url} sends us on to another address, which is not followed. Set the real one.")
        if answer.status == 503:
            raise RuntimeUnavailable("Ollama is busy: it has too many questions at once. Try again in a moment.")
        try:
            sentence = words(answer.json())
        except net.BadAnswer:
            sentence = f"What answers at {self.url} is not Ollama, or Ollama is broken (status {answer.status})."
        raise RuntimeFailure(sentence)

    def failures(self) -> AbstractContextManager[None]:
        """Raise RuntimeUnavailable with a sentence for whatever goes wrong on the way."""
        return told(
            down=f"Ollama does not answer at {self.url}. Start it, or correct its address; nothing is lost.",
            silent=f"Ollama at {self.url} has gone silent. Try again; if it stays so, restart Ollama.",
            broken=f"Ollama at {self.url} broke off. Try again; if it stays so, look at Ollama's log.",
        )
