"""A llama-server that somebody else started, by its address.

No file can be sent to it over HTTP. So there are two ways of publishing. With a router (`--models-dir FOLDER`) whose
folder Curator may write, the file is linked into that folder, and the server is told to look again and to load it.
Otherwise it is started by hand with the command on the version's page, and publishing means to recognise it. Facts:
tools/server/README.md and server-models.cpp of llama.cpp b11434.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from trainer import net
from trainer.gguf_check import BadGguf, GgufSummary, check
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
from trainer.runtimes.llama_http import NO_THINKING, LlamaHttp, Sentences, question
from trainer.runtimes.llama_offer import READY, Offer, is_router, read_offer
from trainer.runtimes.openai import objects
from trainer.runtimes.recognise import recognise
from trainer.spec import Message

LOAD_SECONDS = 600.0
POLL_SECONDS = 0.1


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
        self.where = f"llama-server at {self.url}"
        self.load_seconds, self.poll_seconds = LOAD_SECONDS, POLL_SECONDS
        self.http = LlamaHttp(self.url, self.token, _sentences(self.where))

    def version(self) -> str:
        """Answer llama.cpp's build, or say that something else answers there."""
        props = self._props()
        build = str(props.get("build_info") or "")
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
        _checked(path)
        self.version()
        progress("reading", None)
        placed = self._place(tag, path) if self.folder else False
        try:
            self._load(tag, progress, publication)
            progress("checking", None)
            self._recognise(publication, path)
        except RuntimeUnavailable:
            raise  # it is waited for, and goes on from here
        except RuntimeFailure:
            if placed:
                self._take_away(tag)
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
            self._place(destination, file)
            self._load(destination)
        elif offer.router and not offer.has(destination):
            raise RuntimeFailure(
                f"{self.where} cannot give {source!r} a second name. Tell Curator its folder "
                "(CURATOR_LLAMA_SERVER_MODELS), or name the model in its presets."
            )

    def remove(self, tag: str) -> None:
        """Take a file of ours out of a router's folder. One that was started by hand serves it until it is stopped."""
        if not self._offer().has(check_name(tag)):
            raise missing(tag, self.where)
        self._take_away(tag)

    def chat(self, tag: str, messages: Sequence[Message], options: ChatOptions, side: int = 0) -> Generator[Chunk]:
        """Stream an answer. Its caches are the server's own business, so `side` says nothing to it.

        With adapters nothing of an earlier prompt is used again: llama.cpp may have computed it under other scales.
        """
        del side
        offer = self._offer()  # a server with one model answers to any name, so it is asked first what it has
        if not offer.has(tag):
            raise missing(tag, self.where)
        if offer.router:
            self._load(tag)
        asked = question([message.model_dump() for message in messages], options, options.stop)
        scales = {"lora": offer.lora(tag), "cache_prompt": False} if offer.adapters else {}
        yield from self.http.chat({**asked, "model": tag, **scales})

    def apply_template(self, tag: str, messages: Sequence[Message]) -> str:
        """Answer the prompt that a chat becomes, as text with its special tokens."""
        turns = [message.model_dump() for message in messages]
        body = {"model": tag, "messages": turns, "chat_template_kwargs": NO_THINKING}
        return str(self.http.ask("/apply-template", body).get("prompt", ""))

    def pieces(self, tag: str, text: str) -> list[Any]:  # Any: texts, or lists of bytes
        """Answer a text's tokens, as they are written."""
        body = {"model": tag, "content": text, "add_special": False, "parse_special": True, "with_pieces": True}
        return [token.get("piece", "") for token in objects(self.http.ask("/tokenize", body).get("tokens"))]

    def _props(self) -> net.Json:
        found = self.http.get("/props")
        return found if isinstance(found, dict) else {}

    def _offer(self, path: str = "/v1/models") -> Offer:
        props = self._props()
        return read_offer(props, self.http.get(path), [] if is_router(props) else self.http.get("/lora-adapters"))

    def _described(self, tag: str, offer: Offer) -> ServedModel:
        entry = offer.entry(tag) or offer.entries[0]
        size = entry.meta.get("size")
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
        recognise(_Behind(self, publication.tag, offer), publication, _checked(loaded), self.where)

    def _place(self, tag: str, file: Path) -> bool:
        """Give a file its name in the router's folder, and say whether that is new."""
        assert self.folder  # noqa: S101 - callers look
        target = self.folder / f"{tag}.gguf"
        if not is_router(self._props()):
            raise RuntimeFailure(
                f"{self.where} was started with one model, so it looks into no folder. Start it with --models-dir "
                f"{self.folder}, or take CURATOR_LLAMA_SERVER_MODELS away."
            )
        try:
            new = not target.exists()
            if not new and target.samefile(file):
                return False
            if not new:
                self._unload(tag)
            _put(file, target)
        except OSError as error:
            raise RuntimeFailure(
                f"{self.folder} cannot be written ({error.strerror}). Make room there, or give Curator's user the "
                "right to write; then load the version again."
            ) from error
        self._look_again()
        return new

    def _take_away(self, tag: str) -> None:
        if self.folder and (file := self.folder / f"{tag}.gguf").exists():
            self._unload(tag)
            file.unlink()
            self._look_again()

    def _look_again(self) -> None:
        self.http.get("/models?reload=1")

    def _load(self, tag: str, progress: Progress | None = None, publication: Publication | None = None) -> None:
        """Have a router load a model and wait until it has; for a server with one model, look whether it is that."""
        end, asked = time.monotonic() + self.load_seconds, False
        while True:
            offer = self._offer("/models")
            entry = offer.entry(tag)
            if not offer.has(tag):
                if publication and publication.merged is None:
                    raise missing(tag, self.where)  # a base that nobody has loaded: versions can be used without it
                raise self._unseen(tag) if self.folder else self._elsewhere(tag, offer)
            if not offer.router or not entry or entry.state in READY:
                return
            if asked and entry.status.get("failed"):
                raise RuntimeFailure(
                    f"{self.where} could not load {tag!r} (code {entry.status.get('exit_code')}). Look at its log; the "
                    "machine may be short of memory."
                )
            if not asked and entry.state == "unloaded":
                self._tell("load", tag, "unloaded")
            asked = True
            if time.monotonic() > end:
                raise RuntimeUnavailable(
                    f"{self.where} has not loaded {tag!r} within {self.load_seconds / 60:.0f} minutes."
                )
            if progress:
                progress("loading", None)
            time.sleep(self.poll_seconds)

    def _tell(self, what: str, tag: str, state: str) -> None:
        """Have a router load or unload a model. It refuses where somebody else has just asked, which is as good."""
        try:
            self.http.ask(f"/models/{what}", {"model": tag})
        except RuntimeUnavailable:
            raise
        except RuntimeFailure:
            entry = self._offer("/models").entry(tag)
            if entry and entry.state == state:
                raise

    def _unseen(self, tag: str) -> RuntimeFailure:
        return RuntimeFailure(
            f"{self.where} does not see {tag}.gguf in {self.folder}. Check that it was started with that folder as "
            "--models-dir and may read it; one from before May 2026 has to be started again for each version."
        )

    def _unload(self, tag: str) -> None:
        """Have a router end a model's process, so that its file can be replaced, and wait until it has."""
        entry = self._offer("/models").entry(tag)
        if entry is None or entry.state not in (*READY, "loading"):
            return
        self._tell("unload", tag, "loaded")
        end = time.monotonic() + self.load_seconds
        while (entry := self._offer("/models").entry(tag)) and entry.state != "unloaded" and time.monotonic() < end:
            time.sleep(self.poll_seconds)


@dataclass(frozen=True)
class _Behind:
    """The model behind a name, as `recognise` asks it."""

    runtime: LlamaServerRuntime
    tag: str
    offer: Offer

    def meta(self) -> net.Json:
        entry = self.offer.entry(self.tag) or self.offer.entries[0]
        return entry.meta

    def prompt(self, messages: Sequence[Message]) -> str:
        return self.runtime.apply_template(self.tag, messages)

    def pieces(self, text: str) -> list[Any]:
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


def _checked(path: Path) -> GgufSummary:
    try:
        return check(path, whole=True)
    except BadGguf as error:
        raise RuntimeFailure(str(error)) from error


def _put(file: Path, target: Path) -> None:
    """Give a file a second name, replacing what had it; it is copied where the disk cannot. Two at once do no harm."""
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            draft.hardlink_to(file)
        except OSError:  # another disk, or a file system without hard links
            shutil.copyfile(file, draft)
            with draft.open("rb+") as copied:
                os.fsync(copied.fileno())
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
