"""Ollama over HTTP, all of it through net.py.

The `ollama` package is not used: it reads lines and bodies of any length, takes addresses and keys from
the environment, cannot ask for a blob (HEAD) or show an upload's progress, and passes a stream off as
finished that ended without `success`. Facts: server/routes.go and server/create.go of Ollama 0.24 to 0.35.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx

from trainer import net
from trainer.gguf_check import BadGguf, check
from trainer.runtimes import ollama_versions, prompt
from trainer.runtimes.base import (
    SAMPLING,
    ChatOptions,
    Chunk,
    Progress,
    Publication,
    RuntimeFailure,
    RuntimeUnavailable,
    ServedModel,
    check_name,
    missing,
)
from trainer.runtimes.failures import clean, told
from trainer.runtimes.modelfile import create_body
from trainer.runtimes.ollama_answers import details, last, listed, share, short, words
from trainer.spec import Message

PIECE = 1 << 20
SLOWEST_DISK = 20e6  # bytes a second: an old Ollama rewrites a file between two lines


class OllamaRuntime:
    """An Ollama server. Publishing uploads one finished GGUF: the only form that every version takes."""

    name = "ollama"

    def __init__(self, url: str, token: str | None = None) -> None:
        try:
            self.url = net.checked_url(url)
        except net.BadUrl as error:
            raise RuntimeFailure(f"Ollama's address cannot be used. {error}") from error
        self.token = token
        self.first_seconds = net.FIRST_SECONDS
        self.idle_seconds = net.IDLE_SECONDS

    def version(self) -> str:
        """Answer Ollama's version; refuse one with known holes that our files would pass through."""
        version = str(self._ask("GET", "/api/version").get("version", ""))
        if ollama_versions.is_unsafe(version):
            raise RuntimeFailure(
                f"Ollama {clean(version)} is too old to be safe: a damaged model file can make it give away other "
                "people's chats (CVE-2026-7482). Update Ollama to 0.35.0 or later."
            )
        return version

    def warnings(self) -> list[str]:
        """Warn of an old version, and of an address outside this machine."""
        version, found = self.version(), list[str]()
        if ollama_versions.has_a_hole(version):
            found.append(
                f"Ollama {clean(version) or '(unknown version)'} has a known security hole (CVE-2026-103663): whoever "
                "reaches it can run programs on its machine. Update Ollama to 0.35.0 or later."
            )
        if not net.is_local(self.url):
            found.append(
                f"Ollama runs on another machine ({httpx.URL(self.url).host}). Questions and answers leave this one, "
                "and Ollama asks nobody for a password. Make sure that only Curator reaches it."
            )
        return found

    def models(self) -> list[ServedModel]:
        return [listed(entry) for entry in self._ask("GET", "/api/tags").get("models") or []]

    def show(self, tag: str) -> ServedModel:
        return self._described(tag, self._show(tag))

    def publish(self, publication: Publication, progress: Progress) -> ServedModel:
        """Upload the merged GGUF (the base's for the base itself), create the model, and read it back."""
        tag, path = check_name(publication.tag), publication.merged or publication.base
        version = self.version()
        try:
            summary = check(path, whole=True)
        except BadGguf as error:
            raise RuntimeFailure(str(error)) from error
        if not summary.chat_template:
            raise RuntimeFailure(
                f"{path.name} has no chat template, so nobody knows how to ask it. Teach another base."
            )
        patience = self.idle_seconds + path.stat().st_size / SLOWEST_DISK
        digest = self._upload(path, patience, progress)
        self._create(publication, digest, patience, progress)
        self._ask_as_taught(
            publication, summary.chat_template, lambda better: self._create(better, digest, patience, progress)
        )
        shown = self._show(tag)
        if ollama_versions.keeps_digests(version) and f"sha256-{digest}" not in str(shown.get("modelfile", "")):
            raise RuntimeFailure(f"Ollama created {tag!r} but not from the file that was sent. Publish it again.")
        return self._described(tag, shown)

    def copy(self, source: str, destination: str) -> None:
        self._ask("POST", "/api/copy", {"source": source, "destination": check_name(destination)}, tag=source)

    def remove(self, tag: str) -> None:
        self._ask("DELETE", "/api/delete", {"model": check_name(tag)}, tag=tag)

    def chat(self, tag: str, messages: Sequence[Message], options: ChatOptions, side: int = 0) -> Generator[Chunk]:
        """Stream an answer. Ollama keeps its own caches, so `side` says nothing to it."""
        del side
        body: net.Json = {
            **self._turns(tag, messages),
            "stream": True,
            "options": {
                **SAMPLING,
                "temperature": options.temperature,
                "seed": options.seed,
                "num_predict": options.max_tokens,
                "num_ctx": options.context,
                **({"stop": list(options.stop)} if options.stop else {}),
            },
        }
        waits = {"first": self.first_seconds, "idle": self.idle_seconds}
        with self._failures(), self._client() as http, net.stream(http, "/api/chat", body, **waits) as response:
            for part in self._parts(response, tag):
                text = str((part.get("message") or {}).get("content") or "")
                if part.get("done"):
                    yield last(text, part)
                    return
                if text:
                    yield Chunk(text)
        raise RuntimeUnavailable("Ollama broke the answer off. Ask again; if it stays so, look at Ollama's log.")

    def _create(self, publication: Publication, digest: str, patience: float, progress: Progress) -> None:
        body = create_body(publication, digest)
        waits = {"first": patience, "idle": patience}
        status = ""
        with self._failures(), self._client() as http, net.stream(http, "/api/create", body, **waits) as response:
            for part in self._parts(response, publication.tag):
                status = clean(str(part.get("status", "")))
                progress(status, share(part))
        if status != "success":
            raise RuntimeFailure(
                f"Ollama stopped creating {publication.tag!r} at {status!r} without an error. Publish it again; "
                "nothing that is in use has changed."
            )

    def _ask_as_taught(self, publication: Publication, template: str, create: Callable[[Publication], None]) -> None:
        """Create a model once more with a template of ours where Ollama's own rules make other prompts than the GGUF's.

        The server is asked rather than its version looked up in a table; what cannot be put right is taken away again.
        """
        ask = partial(self._prompt, publication.tag)
        if prompt.asked_as_taught(publication, template, ask):
            return
        ours = prompt.go_template(template, prompt.end_of(publication))
        if ours:
            create(replace(publication, template=ours))
            if prompt.asked_as_taught(publication, template, ask):
                return
        self.remove(publication.tag)
        raise RuntimeFailure(
            f"Ollama would put questions to {publication.tag!r} otherwise than it was taught. Update Ollama to 0.35.0 "
            "or later, or use the embedded runtime."
        )

    def _prompt(self, tag: str, messages: Sequence[Message]) -> str | None:
        """Answer the prompt that Ollama makes of messages, which it tells since 0.11.5; None where it does not."""
        body = {**self._turns(tag, messages), "stream": False, "_debug_render_only": True}
        told = self._ask("POST", "/api/chat", body, tag=tag).get("_debug_info")
        return told.get("rendered_template") if isinstance(told, dict) else None

    def _turns(self, tag: str, messages: Sequence[Message]) -> net.Json:
        body: net.Json = {"model": tag, "messages": [message.model_dump() for message in messages]}
        if "thinking" in (self._show(tag).get("capabilities") or []):
            body["think"] = False  # on by default where it can be, and refused where it cannot
        return body

    def _upload(self, path: Path, patience: float, progress: Progress) -> str:
        """Make sure that Ollama has the file's bytes, and answer their sha256 in hex."""
        size, sha = path.stat().st_size, hashlib.sha256()
        for piece in _pieces(path, "reading", size, progress):
            sha.update(piece)
        digest = sha.hexdigest()
        place = f"/api/blobs/sha256:{digest}"
        with self._failures(), net.client(self.url, token=self.token, timeout=patience) as http:
            if http.head(place).status_code == 200:
                progress("uploading", 1.0)
                return digest
            sent = http.build_request(
                "POST",
                place,
                content=_pieces(path, "uploading", size, progress),
                headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
            )
            response = http.send(sent, stream=True)
            try:
                self._checked(net.read(response), path.name)
            finally:
                response.close()
        return digest

    def _show(self, tag: str) -> net.Json:
        return self._ask("POST", "/api/show", {"model": tag}, tag=tag)

    def _described(self, tag: str, shown: net.Json) -> ServedModel:
        name = short(tag)
        mine = next((model for model in self.models() if model.tag == name), ServedModel(name))
        found = details(shown.get("details"))
        found["capabilities"] = " ".join(str(word) for word in shown.get("capabilities") or [])
        found["parameters"] = str(shown.get("parameters") or "")
        return ServedModel(tag, mine.size, mine.digest, found)

    def _client(self) -> httpx.Client:
        return net.client(self.url, token=self.token)

    def _ask(self, method: str, path: str, body: object = None, tag: str = "") -> net.Json:
        with self._failures(), self._client() as http:
            answer = net.fetch(http, method, path, body)
            self._checked(answer, tag)
            return answer.json() if answer.body.strip() else {}

    def _parts(self, response: httpx.Response, tag: str) -> Iterator[net.Json]:
        """Yield a stream's objects. A failure may come with any of them, under status 200."""
        if response.status_code != 200:
            self._checked(net.read(response), tag)
        for part in net.ndjson(response):
            if part.get("error"):
                raise RuntimeFailure(words(part))
            yield part

    def _checked(self, answer: net.Answer, subject: str) -> None:
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

    def _failures(self) -> AbstractContextManager[None]:
        return told(
            down=f"Ollama does not answer at {self.url}. Start it, or correct its address; nothing is lost.",
            silent=f"Ollama at {self.url} has gone silent. Try again; if it stays so, restart Ollama.",
            broken=f"Ollama at {self.url} broke off. Try again; if it stays so, look at Ollama's log.",
        )


def _pieces(path: Path, status: str, size: int, progress: Progress) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
            done += len(piece)
            progress(status, done / size)
