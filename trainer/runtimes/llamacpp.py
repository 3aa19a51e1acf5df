"""The embedded runtime as its users see it: names in served.json, questions over loopback HTTP.

Base and versions are one loaded model: every request says at which scale each adapter works, all 0 but the
chosen one's 1. Differing scales never share a batch, so two sides answer one after the other.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

from trainer import net
from trainer.runtimes.base import (
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
from trainer.runtimes.checked import checked, checked_adapter
from trainer.runtimes.home import (
    BaseFile,
    Loaded,
    Served,
    ServedTag,
    changing_served,
    host_lives,
    read_actual,
    read_served,
    want,
)
from trainer.runtimes.llama_http import NO_THINKING, LlamaHttp, Sentences, question
from trainer.spec import Message

LOAD_SECONDS = 600.0
POLL_SECONDS = 0.02
REPLACED_SECONDS = 5.0
WHERE = "The embedded runtime"
SENTENCES = Sentences(
    where=WHERE,
    down=f"{WHERE} is being restarted. Ask again in a moment.",
    silent=f"{WHERE} has gone silent. Ask again; if it stays so, restart Curator.",
    broken=f"{WHERE} stopped in the middle of its answer and is being started again. Ask again in a moment.",
    refused=partial(RuntimeUnavailable, f"{WHERE} has just been replaced. Ask again in a moment."),
)


@dataclass(frozen=True)
class _Place:
    """Where a name answers now, and which scales choose it."""

    tag: ServedTag
    loaded: Loaded

    @property
    def lora(self) -> list[dict[str, float]]:
        ids = enumerate(self.loaded.adapters)
        return [{"id": place, "scale": 1.0 if sha == self.tag.adapter else 0.0} for place, sha in ids]


class LlamaCppRuntime:
    """A client of the embedded runtime of one home. Needs an EmbeddedHost somewhere; `curator up` has one."""

    name = "llamacpp"

    def __init__(self, home: Path) -> None:
        self.home = home
        self.load_seconds = LOAD_SECONDS
        self.first_seconds = net.FIRST_SECONDS
        self.idle_seconds = net.IDLE_SECONDS

    def version(self) -> str:
        """Answer xllamacpp's version."""
        try:
            found = version_of("xllamacpp")
        except PackageNotFoundError:
            text = "The embedded runtime is not installed. Install it: pip install 'curator[llamacpp]'."
            raise RuntimeUnavailable(text) from None
        self._check_host()
        return found

    def warnings(self) -> list[str]:
        return []

    def models(self) -> list[ServedModel]:
        served = read_served(self.home)
        return [_model(name, served) for name in sorted(served.tags)]

    def show(self, tag: str) -> ServedModel:
        served = read_served(self.home)
        if tag not in served.tags:
            raise missing(tag, WHERE)
        return _model(tag, served)

    def publish(self, publication: Publication, progress: Progress) -> ServedModel:
        """Load base and adapter under a name and wait until both answer.

        Other answers are finished first. If it cannot be loaded, everything stays as it was. Without an adapter
        file, the merged one is loaded as a base of its own.
        """
        name, adapter = check_name(publication.tag), publication.adapter
        base = publication.base if adapter else publication.merged or publication.base
        summary = checked(base)
        size = checked_adapter(adapter, summary).size if adapter else summary.size
        self._check_host()
        progress("reading", None)
        base_file = self._base_file(base)
        base_sha = self._known_sha(base_file) or _sha256(base)
        tag = ServedTag(
            base=base_sha,
            adapter=_sha256(adapter) if adapter else None,
            size=size,
            system=publication.system,
            stop=publication.stop,
            context=publication.context,
        )
        with changing_served(self.home) as served:
            before = served.model_copy(deep=True)
            served.tags[name] = tag
            served.bases[base_sha] = base_file
            if adapter and tag.adapter:
                served.adapters[tag.adapter] = self._stored(adapter)
        progress("loading", None)
        try:
            self._place(name)
        except RuntimeFailure:
            self._put_back(name, tag, before)
            raise
        progress("success", 1.0)
        return self.show(name)

    def copy(self, source: str, destination: str) -> None:
        check_name(destination)
        with changing_served(self.home) as served:
            if source not in served.tags:
                raise missing(source, WHERE)
            served.tags[destination] = served.tags[source]

    def remove(self, tag: str) -> None:
        with changing_served(self.home) as served:
            if served.tags.pop(tag, None) is None:
                raise missing(tag, WHERE)

    def frees(self, besides: Collection[str] = ()) -> dict[str, int]:
        """Nothing: what is served are the versions' own files."""
        del besides
        return {}

    def chat(self, tag: str, messages: Sequence[Message], options: ChatOptions, side: int = 0) -> Generator[Chunk]:
        """Stream an answer, starting the model if need be. If it is replaced before the first word, ask once more."""
        for attempt in (1, 2):
            place, begun = self._place(tag), False
            body = {**self._question(place, messages, options), "id_slot": side % 2}
            try:
                with closing(self._server(place).chat(body)) as pieces:
                    for piece in pieces:
                        begun = True
                        yield piece
                return
            except RuntimeUnavailable:
                if begun or attempt == 2 or not self._replaced(place):
                    raise

    def apply_template(self, tag: str, messages: Sequence[Message]) -> str:
        """Answer the prompt that a chat becomes, as text with its special tokens."""
        place = self._place(tag)
        turns = {"messages": _turns(place, messages), "chat_template_kwargs": NO_THINKING}
        return str(self._server(place).ask("/apply-template", turns)["prompt"])

    def tokenize(self, tag: str, text: str) -> list[int]:
        """Answer a prompt's token ids: special tokens are read, a bos is added if the model wants one."""
        body = {"content": text, "add_special": True, "parse_special": True}
        return [int(token) for token in self._server(self._place(tag)).ask("/tokenize", body)["tokens"]]

    def next_token_logprobs(self, tag: str, prompt: str | Sequence[int], top: int = 10) -> dict[int, float]:
        """Answer the most likely next tokens, by id, with their log probabilities before any sampling.

        Computed afresh, without any cache. llama.cpp withholds them for a token that is half a letter or ends the
        text, so a plain letter is forced on the sampler; they are taken before it.
        """
        place = self._place(tag)
        body = {
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "n_predict": 1,
            "n_probs": top,
            "temperature": 0.0,
            "logit_bias": [["a", 1000]],
            "cache_prompt": False,
            "lora": place.lora,
        }
        first = self._server(place).ask("/completion", body)["completion_probabilities"][0]
        return {int(token["id"]): float(token["logprob"]) for token in first["top_logprobs"]}

    def _question(self, place: _Place, messages: Sequence[Message], options: ChatOptions) -> net.Json:
        stop = [*place.tag.stop, *(word for word in options.stop if word not in place.tag.stop)]
        return {**question(_turns(place, messages), options, stop), "cache_prompt": True, "lora": place.lora}

    def _server(self, place: _Place) -> LlamaHttp:
        return LlamaHttp(place.loaded.address, place.loaded.key, SENTENCES, self.first_seconds, self.idle_seconds)

    def _place(self, name: str) -> _Place:
        """Ask for a model and wait until it is loaded; what the host said before the last change does not count."""
        end = time.monotonic() + self.load_seconds
        while True:
            self._check_host()
            served, actual = read_served(self.home), read_actual(self.home)
            tag = served.tags.get(name)
            if tag is None:
                raise missing(name, WHERE)
            want(self.home, tag.base)
            loaded = actual.bases.get(tag.base, Loaded())
            if loaded.error and actual.revision >= served.revision:
                raise RuntimeFailure(loaded.error)
            if tag.adapter in loaded.rejected and actual.revision >= served.revision:
                raise RuntimeFailure(loaded.rejected[tag.adapter or ""])
            adapters = (None, *loaded.adapters)
            if loaded.address and tag.adapter in adapters and tag.context <= loaded.context:
                return _Place(tag, loaded)
            if time.monotonic() > end:
                raise RuntimeUnavailable(
                    f"{name!r} was not loaded within {self.load_seconds / 60:.0f} minutes. "
                    "The machine may be short of memory. Close other programs and try again."
                )
            time.sleep(POLL_SECONDS)

    def _replaced(self, place: _Place) -> bool:
        """Tell whether another process takes the place of the one that did not answer."""
        end = time.monotonic() + REPLACED_SECONDS
        while time.monotonic() < end:
            if read_actual(self.home).bases.get(place.tag.base) != place.loaded:
                return True
            time.sleep(POLL_SECONDS)
        return False

    def _check_host(self) -> None:
        if not host_lives(self.home):
            raise RuntimeUnavailable(f"{WHERE} is not running. Is `curator up` running? Start it, then try again.")

    def _put_back(self, name: str, tag: ServedTag, before: Served) -> None:
        with changing_served(self.home) as served:
            if served.tags.get(name) != tag:
                return  # somebody published over it meanwhile
            del served.tags[name]
            if old := before.tags.get(name):
                served.tags[name] = old
                served.bases[old.base] = before.bases[old.base]
                served.adapters.update(before.adapters)  # what no name needs is left out when it is written

    def _stored(self, path: Path) -> Path:
        """Answer a path as it is kept: from the home if it lies in there, so that a home can be moved."""
        path, home = path.resolve(), self.home.resolve()
        return path.relative_to(home) if path.is_relative_to(home) else path

    def _base_file(self, path: Path) -> BaseFile:
        state = path.stat()
        return BaseFile(path=self._stored(path), size=state.st_size, modified=state.st_mtime_ns)

    def _known_sha(self, file: BaseFile) -> str:
        """Answer the sha256 of a base that was read before; reading 5 GB takes ten seconds."""
        return next((sha for sha, known in read_served(self.home).bases.items() if known == file), "")


def _model(name: str, served: Served) -> ServedModel:
    tag = served.tags[name]
    details = {"format": "gguf", "base": tag.base, "adapter": tag.adapter or ""}
    return ServedModel(name, tag.size, tag.adapter or tag.base, details)


def _turns(place: _Place, messages: Sequence[Message]) -> list[dict[str, str]]:
    turns = [message.model_dump() for message in messages]
    if place.tag.system and messages[0].role != "system":
        return [{"role": "system", "content": place.tag.system}, *turns]
    return turns


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
