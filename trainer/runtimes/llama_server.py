"""A llama-server that somebody else started, by its address.

No file can be sent to it over HTTP. So there are two ways of publishing. With a router (`--models-dir FOLDER`) whose
folder Curator may write, the file is linked into that folder, and the server is told to look again and to load it.
Otherwise it is started by hand with the command on the version's page, and publishing means to recognise it. Facts:
tools/server/README.md and server-models.cpp of llama.cpp b11434.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trainer import net
from trainer.runtimes.base import (
    ChatOptions,
    Chunk,
    ModelMissing,
    Progress,
    Publication,
    RuntimeFailure,
    RuntimeUnavailable,
    ServedModel,
    check_name,
    missing,
)
from trainer.runtimes.checked import checked
from trainer.runtimes.llama_http import NO_THINKING, LlamaHttp, Sentences, question
from trainer.runtimes.llama_offer import Offer, is_router, read_offer
from trainer.runtimes.llama_router import Router
from trainer.runtimes.openai import objects
from trainer.runtimes.recognise import recognise
from trainer.spec import Message


class LlamaServerRuntime:
    """A client of one llama-server. `folder` is the one that it was started on as a router, if Curator may write it."""

    name = "llama-server"

    def __init__(self, url: str, token: str | None = None, folder: Path | None = None) -> None:
        try:
            self.url = net.checked_url(url)
        except net.BadUrl as error:
            raise RuntimeFailure(f"llama-server's address cannot be used. {error}") from error
        self.token = token or ""
        self.folder = folder
        self.where = f"llama-server ({self.url})"
        self.http = LlamaHttp(self.url, self.token, _sentences(self.where))
        self.router = Router(self.http, self.where, folder)

    def version(self) -> str:
        """Answer llama.cpp's build, or say that something else answers there."""
        build = str(self.http.props().get("build_info") or "")
        if not build:
            raise RuntimeFailure(
                f"What answers at {self.url} is not llama.cpp's llama-server, or is too old. Update it."
            )
        return build.removeprefix("b")

    def warnings(self) -> list[str]:
        """Warn of an address outside this machine, and of a server there that anybody may ask."""
        if net.is_local(self.url):
            return []
        found = [f"{self.where} runs on another machine. Questions and answers leave this one."]
        if not self.token:
            found.append(f"{self.where} asks nobody for a key. Start it with --api-key, or let only Curator reach it.")
        return found

    def models(self) -> list[ServedModel]:
        offer = self._offer()
        names = {name for entry in offer.entries for name in entry.names}
        return [self._described(name, offer) for name in sorted(names)]

    def show(self, tag: str) -> ServedModel:
        offer = self._offer()
        if not offer.has(tag):
            raise missing(tag, self.where)
        return self._described(tag, offer)

    def publish(self, publication: Publication, progress: Progress) -> ServedModel:
        """See to it that the server serves a version, and recognise it. Where that fails nothing new is left behind."""
        tag, path = check_name(publication.tag), publication.merged or publication.base
        checked(path)
        self.version()
        progress("reading", None)
        placed = self.router.place(tag, path) if self.folder else False
        try:
            self._have_ready(publication, progress)
            progress("checking", None)
            self._recognise(publication, path)
        except RuntimeUnavailable:
            raise  # it is waited for, and goes on from here
        except RuntimeFailure:
            if placed:
                self.router.take_away(tag)
            raise
        progress("success", 1.0)
        return self.show(tag)

    def copy(self, source: str, destination: str) -> None:
        """Let a second name answer as the first does.

        A server with one model answers to every name, and one with adapters by the scales of who names none; so both
        are told nothing, or the scales. A router gets a second file.
        """
        check_name(destination)
        offer = self._offer()
        if not offer.has(source):
            raise self._elsewhere(source, offer)
        if offer.adapters:
            self.http.ask("/lora-adapters", offer.lora(source))
        elif offer.router and self.folder and (file := self.folder / f"{source}.gguf").exists():
            self.router.place(destination, file)
            self.router.load(destination)
        elif offer.router and not offer.has(destination):
            raise RuntimeFailure(
                f"{self.where} cannot give {source!r} a second name. Tell Curator its folder "
                "(CURATOR_LLAMA_SERVER_MODELS), or name the model in its presets."
            )

    def remove(self, tag: str) -> None:
        """Take a file of ours out of a router's folder. One that was started by hand serves it until it is stopped."""
        if not self._offer().has(check_name(tag)):
            raise missing(tag, self.where)
        self.router.take_away(tag)

    def frees(self, besides: Collection[str] = ()) -> dict[str, int]:
        """Nothing: in a router's folder are links to the versions' own files."""
        del besides
        return {}

    def chat(self, tag: str, messages: Sequence[Message], options: ChatOptions, side: int = 0) -> Generator[Chunk]:
        """Stream an answer. Its caches are the server's own business, so `side` says nothing to it.

        With adapters nothing of an earlier prompt is used again: llama.cpp may have computed it under other scales.
        """
        del side
        offer = self._offer()  # a server with one model answers to any name, so it is asked first what it has
        if not offer.has(tag):
            raise missing(tag, self.where)
        if offer.router:
            self.router.load(tag)
        asked = question([message.model_dump() for message in messages], options, options.stop)
        scales = {"lora": offer.lora(tag), "cache_prompt": False} if offer.adapters else {}
        yield from self.http.chat({**asked, "model": tag, **scales})

    def apply_template(self, tag: str, messages: Sequence[Message]) -> str:
        """Answer the prompt that a chat becomes, as text with its special tokens."""
        turns = [message.model_dump() for message in messages]
        body = {"model": tag, "messages": turns, "chat_template_kwargs": NO_THINKING}
        return str(self.http.ask("/apply-template", body).get("prompt", ""))

    def pieces(self, tag: str, text: str) -> list[bytes]:
        """Answer a text's tokens, as they are written."""
        body = {"model": tag, "content": text, "add_special": False, "parse_special": True, "with_pieces": True}
        return [_octets(token.get("piece")) for token in objects(self.http.ask("/tokenize", body).get("tokens"))]

    def _offer(self) -> Offer:
        props = self.http.props()
        return read_offer(
            props, self.http.get("/v1/models"), [] if is_router(props) else self.http.get("/lora-adapters")
        )

    def _have_ready(self, publication: Publication, progress: Progress) -> None:
        """Look whether the server has a version, and have a router load it."""
        tag, offer = publication.tag, self._offer()
        if not offer.has(tag):
            if publication.merged is None:
                raise missing(tag, self.where)  # a base that nobody has loaded: versions can be used without it
            raise self.router.unseen(tag) if self.folder else self._elsewhere(tag, offer)
        if offer.router:
            self.router.load(tag, progress)

    def _described(self, tag: str, offer: Offer) -> ServedModel:
        size = offer.meta(tag).get("size")
        return ServedModel(tag, size if isinstance(size, int) else self._size(tag), "", {"format": "gguf"})

    def _size(self, tag: str) -> int:
        """Answer the size of a file that a router has not loaded, which says nothing of it."""
        file = self.folder / f"{tag}.gguf" if self.folder else None
        return file.stat().st_size if file and file.exists() else 0

    def _elsewhere(self, tag: str, offer: Offer) -> ModelMissing:
        """Say what the server has instead of what it is to have, and what to do."""
        names = [name for entry in offer.entries for name in entry.names] + list(offer.adapters)
        has = ", ".join(names)[:300] or "nothing"
        if offer.router:
            return ModelMissing(
                f"{self.where} has no {tag!r}, but {has}. Put the file into its folder as {tag}.gguf, or tell Curator "
                "that folder (CURATOR_LLAMA_SERVER_MODELS); then load the version again."
            )
        return ModelMissing(
            f"{self.where} serves {has}, not {tag!r}. Start it with the command on the version's page, then load the "
            "version again."
        )

    def _recognise(self, publication: Publication, path: Path) -> None:
        offer = self._offer()
        loaded = path if offer.adapter(publication.tag) is None else publication.base
        recognise(_Behind(self, publication.tag, offer), publication, checked(loaded), self.where)


@dataclass(frozen=True)
class _Behind:
    """The model behind a name, as `recognise` asks it."""

    runtime: LlamaServerRuntime
    tag: str
    offer: Offer

    def meta(self) -> net.Json:
        return self.offer.meta(self.tag)

    def prompt(self, messages: Sequence[Message]) -> str:
        return self.runtime.apply_template(self.tag, messages)

    def pieces(self, text: str) -> list[bytes]:
        return self.runtime.pieces(self.tag, text)

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> str:
        return "".join(chunk.text for chunk in self.runtime.chat(self.tag, messages, options))


def _sentences(where: str) -> Sentences:
    return Sentences(
        where=where,
        down=f"{where} does not answer. Start it, or correct CURATOR_LLAMA_SERVER_URL; nothing is lost.",
        silent=f"{where} has gone silent. Try again; if it stays so, start it again.",
        broken=f"{where} broke off. Try again; if it stays so, look at its log.",
        refused=partial(RuntimeFailure, f"{where} refuses the key. Check CURATOR_LLAMA_SERVER_TOKEN."),
    )


def _octets(piece: Any) -> bytes:  # Any: JSON from outside; a text or, where it is no whole letter, a list of numbers
    """Read how a token is written; what cannot be one is like none."""
    if isinstance(piece, str):
        return piece.encode()
    numbers: list[Any] = piece if isinstance(piece, list) else [256]
    return bytes(numbers) if all(number in range(256) for number in numbers) else b"\xff"
