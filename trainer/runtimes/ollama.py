"""Ollama over HTTP, all of it through net.py.

The `ollama` package is not used: it reads lines and bodies of any length, takes addresses and keys from
the environment, cannot ask for a blob (HEAD) or show an upload's progress, and passes a stream off as
finished that ended without `success`. Facts: server/routes.go and server/create.go of Ollama 0.24 to 0.35.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from trainer import net
from trainer.runtimes import ollama_adapter, ollama_versions, prompt
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
)
from trainer.runtimes.checked import checked
from trainer.runtimes.failures import clean
from trainer.runtimes.modelfile import create_body
from trainer.runtimes.ollama_answers import details, last, listed, share, short
from trainer.runtimes.ollama_layers import freed, layers
from trainer.runtimes.ollama_wire import Wire
from trainer.spec import Message

PIECE = 1 << 20
SLOWEST_DISK = 20e6  # bytes a second: an old Ollama rewrites a file between two lines


class OllamaRuntime:
    """An Ollama server. Publishing uploads one finished GGUF, which every version takes, or an adapter for its base."""

    name = "ollama"

    def __init__(self, url: str, token: str | None = None) -> None:
        self._wire = Wire(url, token)
        self.first_seconds = net.FIRST_SECONDS
        self.idle_seconds = net.IDLE_SECONDS

    def version(self) -> str:
        """Answer Ollama's version; refuse one with known holes that our files would pass through."""
        version = str(self._wire.ask("GET", "/api/version").get("version", ""))
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
        if not net.is_local(self._wire.url):
            found.append(
                f"Ollama runs on another machine ({self._wire.host}). Questions and answers leave this one, "
                "and Ollama asks nobody for a password. Make sure that only Curator reaches it."
            )
        return found

    def models(self) -> list[ServedModel]:
        return [listed(entry) for entry in self._wire.ask("GET", "/api/tags").get("models") or []]

    def show(self, tag: str) -> ServedModel:
        return self._described(tag, self._show(tag))

    def publish(self, publication: Publication, progress: Progress) -> ServedModel:
        """Upload a file, create the model, and read it back.

        The file is the merged GGUF, the base's for the base itself, or the adapter for a publication `on` a base.
        """
        tag, version = check_name(publication.tag), self.version()
        base: net.Json = {}
        if publication.on:
            path, summary = ollama_adapter.checked_file(publication, version)
            base = self._show(publication.on)  # asked for first: Ollama fetches a name that it does not know
            ollama_adapter.check_base(publication, summary, base)
        else:
            path = publication.merged or publication.base
            summary = checked(path)
        template = summary.chat_template
        if not template:
            raise RuntimeFailure(
                f"{path.name} has no chat template, so nobody knows how to ask it. Teach another base."
            )
        patience = self.idle_seconds + path.stat().st_size / SLOWEST_DISK
        digest = self._upload(path, patience, progress)
        self._create(publication, digest, patience, progress)
        try:
            self._ask_as_taught(publication, template, lambda one: self._create(one, digest, patience, progress))
            shown = self._show(tag)
            if publication.on:
                ollama_adapter.check_made(publication, digest, base, shown)
            elif ollama_versions.keeps_digests(version) and digest not in layers(shown).weights:
                raise RuntimeFailure(f"Ollama created {tag!r} but not from the file that was sent. Publish it again.")
        except RuntimeUnavailable:
            raise
        except RuntimeFailure:
            with suppress(RuntimeFailure):
                self.remove(tag)  # nobody is to be answered by it
            raise
        return self._described(tag, shown)

    def copy(self, source: str, destination: str) -> None:
        self._wire.ask("POST", "/api/copy", {"source": source, "destination": check_name(destination)}, tag=source)

    def remove(self, tag: str) -> None:
        self._wire.ask("DELETE", "/api/delete", {"model": check_name(tag)}, tag=tag)

    def frees(self, besides: Collection[str] = ()) -> dict[str, int]:
        """Answer what dropping each name frees; every model is asked what it is made of, which takes milliseconds."""
        apart = {short(name) for name in besides}
        counted = [model for model in self.models() if model.tag not in apart]
        return freed({model.tag: (model.size, layers(self._show(model.tag))) for model in counted})

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
        with self._wire.stream("/api/chat", body, first=self.first_seconds, idle=self.idle_seconds) as parts:
            for part in parts:
                text = str((part.get("message") or {}).get("content") or "")
                if part.get("done"):
                    yield last(text, part)
                    return
                if text:
                    yield Chunk(text)
        raise RuntimeUnavailable("Ollama broke the answer off. Ask again; if it stays so, look at Ollama's log.")

    def _create(self, publication: Publication, digest: str, patience: float, progress: Progress) -> None:
        body, status = create_body(publication, digest), ""
        with self._wire.stream("/api/create", body, first=patience, idle=patience) as parts:
            for part in parts:
                status = clean(str(part.get("status", "")))
                progress(status, share(part))
        if status != "success":
            raise RuntimeFailure(
                f"Ollama stopped creating {publication.tag!r} at {status!r} without an error. Publish it again; "
                "nothing that is in use has changed."
            )

    def _ask_as_taught(self, publication: Publication, template: str, create: Callable[[Publication], None]) -> None:
        """Create a model once more with a template of ours where Ollama's own rules make other prompts than the GGUF's.

        The server is asked rather than its version looked up in a table; what cannot be put right is refused.
        """
        ask = partial(self._prompt, publication.tag)
        if prompt.asked_as_taught(publication, template, ask):
            return
        ours = prompt.go_template(template, prompt.end_of(publication))
        if ours:
            create(replace(publication, template=ours))
            if prompt.asked_as_taught(publication, template, ask):
                return
        raise RuntimeFailure(
            f"Ollama would put questions to {publication.tag!r} otherwise than it was taught. Update Ollama to 0.35.0 "
            "or later, or use the embedded runtime."
        )

    def _prompt(self, tag: str, messages: Sequence[Message]) -> str | None:
        """Answer the prompt that Ollama makes of messages, which it tells since 0.11.5; None where it does not."""
        body = {**self._turns(tag, messages), "stream": False, "_debug_render_only": True}
        told = self._wire.ask("POST", "/api/chat", body, tag=tag).get("_debug_info")
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
        with self._wire.failures(), self._wire.client(patience) as http:
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
                self._wire.check(net.read(response), path.name)
            finally:
                response.close()
        return digest

    def _show(self, tag: str) -> net.Json:
        return self._wire.ask("POST", "/api/show", {"model": tag}, tag=tag)

    def _described(self, tag: str, shown: net.Json) -> ServedModel:
        name = short(tag)
        mine = next((model for model in self.models() if model.tag == name), ServedModel(name))
        found = details(shown.get("details"))
        found["capabilities"] = " ".join(str(word) for word in shown.get("capabilities") or [])
        found["parameters"] = str(shown.get("parameters") or "")
        return ServedModel(tag, mine.size, mine.digest, found)


def _pieces(path: Path, status: str, size: int, progress: Progress) -> Iterator[bytes]:
    done = 0
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece
            done += len(piece)
            progress(status, done / size)
