"""The runtimes by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trainer.runtimes.base import Runtime, RuntimeFailure
from trainer.runtimes.fake import FakeRuntime
from trainer.runtimes.llama_server import LlamaServerRuntime
from trainer.runtimes.llamacpp import LlamaCppRuntime
from trainer.runtimes.ollama import OllamaRuntime


@cache
def fake_at(home: Path) -> FakeRuntime:
    """Answer this process's one fake runtime of a home, so that what is published can be chatted with."""
    del home  # the cache's key
    return FakeRuntime()


@dataclass(frozen=True)
class Where:
    """Where a runtime is: this installation's home, a server's address and token, and the folder that it looks into."""

    home: Path
    url: str = ""
    token: str = ""
    folder: Path | None = None


def _llamacpp(where: Where) -> Runtime:
    return LlamaCppRuntime(where.home)


def _llama_server(where: Where) -> Runtime:
    if not where.url:
        raise RuntimeFailure("llama-server's address is not set. Set it, or use the embedded runtime.")
    return LlamaServerRuntime(where.url, where.token, where.folder)


def _ollama(where: Where) -> Runtime:
    if not where.url:
        raise RuntimeFailure("Ollama's address is not set. Set it, or use the embedded runtime.")
    return OllamaRuntime(where.url, where.token or None)


def _fake(where: Where) -> Runtime:
    return fake_at(where.home)


RUNTIMES: dict[str, Callable[[Where], Runtime]] = {
    "llamacpp": _llamacpp,
    "llama-server": _llama_server,
    "ollama": _ollama,
    "fake": _fake,
}


def open_runtime(name: str, where: Where) -> Runtime:
    """Answer a runtime by name. Nothing is asked or started yet; raises RuntimeFailure for an unknown name."""
    if name not in RUNTIMES:
        raise RuntimeFailure(f"There is no runtime {name!r}. Choose one of {', '.join(RUNTIMES)}.")
    return RUNTIMES[name](where)
