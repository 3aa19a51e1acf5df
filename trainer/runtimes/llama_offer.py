"""What a llama-server has, as it tells over HTTP: one model, one with adapters on top, or a router's list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from trainer import net
from trainer.runtimes.openai import objects

READY = ("loaded", "sleeping")  # one that sleeps wakes up when it is asked


@dataclass(frozen=True)
class Entry:
    """A model as the server lists it: all of its names, what it says of the file, and a router's state of it."""

    names: tuple[str, ...]
    meta: net.Json
    status: net.Json

    @property
    def state(self) -> str:
        return str(self.status.get("value") or "loaded")


@dataclass(frozen=True)
class Offer:
    """What a server has: its models, and the adapters on top of the one that it was started with, by file."""

    router: bool
    entries: tuple[Entry, ...]
    adapters: tuple[str, ...] = ()

    def entry(self, name: str) -> Entry | None:
        return next((entry for entry in self.entries if name in entry.names), None)

    def adapter(self, tag: str) -> int | None:
        """Answer the id of a version's adapter: it lies in a folder, or is a file, called as `beside` says."""
        files = [PurePath(path.replace("\\", "/")) for path in self.adapters]
        return next((at for at, file in enumerate(files) if beside(tag) in (file.stem, file.parent.name)), None)

    def meta(self, tag: str) -> net.Json:
        """Answer what is told of the file behind a name: its own, or the one that its adapter stands on."""
        entry = self.entry(tag) or next(iter(self.entries), None)
        return entry.meta if entry else {}

    def has(self, tag: str) -> bool:
        return self.entry(tag) is not None or self.adapter(tag) is not None

    def lora(self, tag: str) -> list[net.Json]:
        """Answer the scales that choose a version; none at all where there is no adapter."""
        chosen = self.adapter(tag)
        return [{"id": at, "scale": 1.0 if at == chosen else 0.0} for at in range(len(self.adapters))]


def beside(tag: str) -> str:
    """Answer a version's name as a file or folder has it, by which its adapter is known."""
    return tag.replace(":", "-")


def read_offer(props: net.Json, models: Any, adapters: Any) -> Offer:  # Any: JSON from outside
    """Read the answers of /props, /v1/models or /models, and /lora-adapters."""
    listed = objects(models.get("data") if isinstance(models, dict) else None)
    files = tuple(str(one.get("path", "")) for one in objects(adapters))
    return Offer(is_router(props), tuple(map(_entry, listed)), files)


def is_router(props: net.Json) -> bool:
    """Tell whether a server has a list of models and loads those that are asked."""
    return props.get("role") == "router"


def _entry(found: net.Json) -> Entry:
    aliases = found.get("aliases")
    names = (found.get("id"), *(aliases if isinstance(aliases, list) else ()))
    meta, status = found.get("meta"), found.get("status")
    return Entry(
        tuple(dict.fromkeys(str(name) for name in names if name)),
        meta if isinstance(meta, dict) else {},
        status if isinstance(status, dict) else {},
    )
