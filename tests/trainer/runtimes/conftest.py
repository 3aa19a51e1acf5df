"""Runtimes to test against: the fake, Ollama's HTTP fake in three versions, and llama.cpp in a child process."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fakes.llama_router import LlamaRouter
from tests.fakes.ollama_server import FakeOllama
from tests.trainer.tiny import write_tiny_llama_gguf
from tests.trainer.tiny_lora import write_adapter
from trainer.runtimes import ollama_versions
from trainer.runtimes.base import Publication, Runtime
from trainer.runtimes.embedded import EmbeddedHost
from trainer.runtimes.fake import FakeRuntime
from trainer.runtimes.llama_server import LlamaServerRuntime
from trainer.runtimes.llamacpp import LlamaCppRuntime
from trainer.runtimes.ollama import OllamaRuntime

REAL_OLLAMA = os.environ.get("CURATOR_TEST_OLLAMA_URL", "")
"""A server that the contract may be tried on; it needs no model, and is left with none of ours."""


@dataclass(frozen=True)
class Files:
    """What a run ends with, small: a base, an adapter of it, and a merged model."""

    base: Path
    adapter: Path
    merged: Path

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.base.read_bytes()).hexdigest()

    def on_base(self, tag: str, base: str = "base-1") -> Publication:
        """The same version, as an adapter on a base that the runtime has by that name."""
        return replace(self.publication(tag), on=base, base_sha256=self.sha256)

    def publication(self, tag: str) -> Publication:
        return Publication(tag, self.base, self.adapter, self.merged, stop=("<|im_end|>",), context=512)

    def base_publication(self, tag: str) -> Publication:
        return Publication(tag, self.base, context=512)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("tiny")
    base = write_tiny_llama_gguf(folder / "base.gguf")
    return Files(base, write_adapter(base, folder / "adapter.gguf"), write_tiny_llama_gguf(folder / "m.gguf", seed=2))


@pytest.fixture(scope="session")
def slow_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that takes a few seconds over a long answer, so that something can happen meanwhile."""
    path = tmp_path_factory.mktemp("slow") / "base.gguf"
    return write_tiny_llama_gguf(path, layers=16, hidden=192, heads=6, kv_heads=6, ffn=384)


@pytest.fixture(scope="session")
def real_files(tmp_path_factory: pytest.TempPathFactory, real_base: Path) -> Files:
    adapter = tmp_path_factory.mktemp("real") / "adapter.gguf"
    return Files(real_base, write_adapter(real_base, adapter, size=0.15), real_base)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppRuntime]:
    """The embedded runtime with a host in a thread; tests use names of their own."""
    if find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed")
    home = tmp_path_factory.mktemp("embedded")
    with EmbeddedHost(home, threads=1):
        yield LlamaCppRuntime(home)


@pytest.fixture(scope="session")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServerRuntime]:
    """A router that somebody runs, with real llama.cpp servers behind it; tests use names of their own."""
    folder = tmp_path_factory.mktemp("models")
    with LlamaRouter(folder, key="k") as router:
        runtime = LlamaServerRuntime(router.url, "k", folder)
        runtime.router.poll_seconds = 0.02
        yield runtime


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama() as server:
        yield server


@pytest.fixture(
    params=[
        "fake",
        "ollama-0.24.0",
        "ollama-0.33.0",
        "ollama-0.34.1",
        "ollama-0.35.0",
        "ollama-real",
        "ollama-0.30.0-adapter",
        "ollama-0.33.0-adapter",
        "ollama-real-adapter",
        "llamacpp-tiny",
        "llama-server",
        pytest.param("llamacpp-real", marks=pytest.mark.slow),
    ]
)
def runtime(request: pytest.FixtureRequest) -> Iterator[Runtime]:
    kind, _, version = request.param.removesuffix("-adapter").partition("-")
    if kind == "fake":
        yield FakeRuntime()
    elif version == "real" and kind == "ollama":
        if not REAL_OLLAMA:
            pytest.skip("CURATOR_TEST_OLLAMA_URL names no Ollama")
        real = OllamaRuntime(REAL_OLLAMA, os.environ.get("CURATOR_TEST_OLLAMA_TOKEN"))
        if request.param.endswith("-adapter") and not ollama_versions.takes_adapters(real.version()):
            pytest.skip("this Ollama takes no adapters")
        yield real
    elif request.param == "llama-server":
        yield request.getfixturevalue("routed")
    elif kind == "ollama":
        with FakeOllama(version) as server:
            yield OllamaRuntime(server.url)
    else:
        yield request.getfixturevalue("embedded")


@pytest.fixture
def published(request: pytest.FixtureRequest, runtime: Runtime) -> Iterator[Publication]:
    """A version that the runtime serves under a name of this test's own."""
    real = "-real" in request.node.name  # a real Ollama, too, answers in words only with a model that has some
    made: Files = request.getfixturevalue("real_files" if real else "files")
    tag = f"v-{abs(hash(request.node.nodeid)) % 10**8}"
    publication = made.publication(tag)
    if "-adapter" in request.node.name:
        publication = made.on_base(tag, f"base-{tag}")
        runtime.publish(made.base_publication(publication.on), lambda _status, _share: None)
    runtime.publish(publication, lambda _status, _share: None)
    yield publication
    for model in runtime.models():
        if model.tag.startswith(publication.tag) or model.tag == publication.on:
            runtime.remove(model.tag)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def host(home: Path) -> Iterator[EmbeddedHost]:
    """A host that runs in a thread."""
    with EmbeddedHost(home, threads=1) as host:
        yield host


@pytest.fixture
def own_runtime(home: Path, host: EmbeddedHost) -> LlamaCppRuntime:
    return LlamaCppRuntime(home)


@pytest.fixture
def stepped(home: Path) -> Iterator[EmbeddedHost]:
    """A host that a test steps by hand."""
    host = EmbeddedHost(home, threads=1)
    yield host
    host.close()
