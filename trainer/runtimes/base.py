"""What every runtime can do: serve chats, and take in, name, show and drop models.

A runtime is reached over HTTP or is a fake; it never runs in the web process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from trainer.spec import Message

SAMPLING = {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "repeat_penalty": 1.0}
"""The rest of what changes an answer. Both servers know these names; unsent, each has its own defaults."""

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")


class RuntimeFailure(Exception):  # noqa: N818 - named as people say it, like curator.errors
    """A runtime could not do what was asked; the text is a full sentence for people."""


class RuntimeUnavailable(RuntimeFailure):
    """The runtime does not answer."""


class ModelMissing(RuntimeFailure):
    """The runtime has no model of that name."""


@dataclass(frozen=True)
class ChatOptions:
    """How to answer. Everything that changes an answer is sent, so that two sides are comparable."""

    temperature: float = 0.0
    seed: int = 17
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    context: int = 2048


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer. The last one has `finish`: "stop" when the model ended by itself, else "length".

    It also has how many `tokens` were generated in how many `seconds`, by the runtime's own clock, if it tells.
    """

    text: str
    finish: str | None = None
    tokens: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Remembered:
    """A question that was asked when a version was examined, and how the untaught and the taught model began."""

    messages: tuple[Message, ...]
    old: str
    new: str


@dataclass(frozen=True)
class Taught:
    """What a version's run knows of it, by which it is recognised on a server that was started by hand.

    `tokens` are those of one lesson as texts, special ones included; empty where they cannot be put together again.
    """

    tokens: tuple[str, ...] = ()
    answers: tuple[Remembered, ...] = ()


@dataclass(frozen=True)
class Publication:
    """A finished model version, ready for a runtime. `merged` and `adapter` are None for the base itself.

    `template` is Ollama's (Go); None keeps the one inside the GGUF, which is the one that was trained with. `system`,
    `stop`, `context` and `answer_tokens` hold for whoever asks without saying otherwise. `on` is for Ollama: the name
    that the base has there, on which only the adapter is put; empty stands for one merged file.
    """

    tag: str
    base: Path
    adapter: Path | None = None
    merged: Path | None = None
    template: str | None = None
    system: str | None = None
    stop: tuple[str, ...] = ()
    context: int = 2048
    answer_tokens: int = 1024
    on: str = ""
    base_sha256: str = ""  # of the base's file, by which `on` is known to be that base
    taught: Taught = Taught()


@dataclass(frozen=True)
class ServedModel:
    """A model as the runtime lists it."""

    tag: str
    size: int = 0
    digest: str = ""
    details: dict[str, str] = field(default_factory=dict)


def check_name(tag: str) -> str:
    """Answer a name for a model of ours, `name` or `name:tag`, or raise RuntimeFailure.

    Ollama's own rule for a part, and no `..`, so that a name is safe in a path and in an address.
    """
    parts = tag.split(":")
    if len(parts) > 2 or ".." in tag or not all(_PART.fullmatch(part) for part in parts):
        raise RuntimeFailure(
            f"{tag[:100]!r} cannot be a model's name. Use at most 80 letters, digits, dots, dashes and underscores, "
            "then a colon and as many again if you like."
        )
    return tag


def missing(tag: str, where: str) -> ModelMissing:
    """Say that a runtime does not have a model."""
    return ModelMissing(f"{where} has no model {tag[:100]!r}. Publish it first, or choose another one.")


Progress = Callable[[str, float | None], None]
"""Called with a status word and a share between 0 and 1 (None when unknown)."""


class Runtime(Protocol):
    """One place where models run. Every method raises RuntimeFailure with a sentence."""

    name: str

    def version(self) -> str:
        """Answer the server's version, or raise RuntimeUnavailable."""
        ...

    def warnings(self) -> list[str]:
        """List what people should know about this runtime, in full sentences; mostly nothing."""
        ...

    def models(self) -> list[ServedModel]:
        """List what can be chatted with."""
        ...

    def show(self, tag: str) -> ServedModel:
        """Describe one model, or raise ModelMissing."""
        ...

    def publish(self, publication: Publication, progress: Progress) -> ServedModel:
        """Make a version loadable under its tag, and read it back. Doing it twice changes nothing."""
        ...

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name, replacing what had it."""
        ...

    def remove(self, tag: str) -> None:
        """Drop a name and what only it used; ModelMissing when it is not there."""
        ...

    def frees(self, besides: Collection[str] = ()) -> dict[str, int]:
        """Answer the octets that dropping each name alone would free in the runtime, as if it had not those `besides`.

        What several names share is freed by none. Empty where models are served from our own files.
        """
        ...

    def chat(self, tag: str, messages: Sequence[Message], options: ChatOptions, side: int = 0) -> Generator[Chunk]:
        """Stream an answer. `side` 0 and 1 keep two conversations' caches apart. Closing the generator stops the model.

        Nothing is asked before the first piece is taken, so that is also where failures begin.
        """
        ...
