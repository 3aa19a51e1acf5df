"""The runtimes by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from trainer.runtimes.base import Runtime, RuntimeFailure
from trainer.runtimes.fake import FakeRuntime
from trainer.runtimes.llamacpp import LlamaCppRuntime
from trainer.runtimes.ollama import OllamaRuntime


@cache
def fake_at(home: Path) -> FakeRuntime:
    """Answer this process's one fake runtime of a home, so that what is published can be chatted with."""
    del home  # the cache's key
    return FakeRuntime()


def _llamacpp(home: Path, _url: str | None, _token: str | None) -> Runtime:
    return LlamaCppRuntime(home)


def _ollama(_home: Path, url: str | None, token: str | None) -> Runtime:
    if not url:
        raise RuntimeFailure("Ollama's address is not set. Set it, or use the embedded runtime.")
    return OllamaRuntime(url, token or None)


def _fake(home: Path, _url: str | None, _token: str | None) -> Runtime:
    return fake_at(home)


RUNTIMES: dict[str, Callable[[Path, str | None, str | None], Runtime]] = {
    "llamacpp": _llamacpp,
    "ollama": _ollama,
    "fake": _fake,
}


def open_runtime(name: str, *, home: Path, url: str | None = None, token: str | None = None) -> Runtime:
    """Answer a runtime by name. Nothing is asked or started yet; raises RuntimeFailure for an unknown name."""
    if name not in RUNTIMES:
        raise RuntimeFailure(f"There is no runtime {name!r}. Choose one of {', '.join(RUNTIMES)}.")
    return RUNTIMES[name](home, url, token)
