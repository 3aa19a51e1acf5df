"""`curator base`: the same as the page, for people at a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from curator.cli import base as command
from tests.curator.teaching import launcher
from tests.curator.test_cli import run
from tests.fakes.hub import FakeHub
from tests.trainer.bases.store import OllamaStore
from tests.trainer.tiny import write_tiny_llama_gguf
from tests.trainer.tiny_lora import write_adapter
from trainer.bases import refusals


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, httpserver: HTTPServer) -> Path:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CURATOR_HUB_URL", httpserver.url_for("").rstrip("/"))
    monkeypatch.setattr(command, "open_launcher", lambda _settings: launcher())
    run("init", "--home", tmp_path / "home", "--base", write_tiny_llama_gguf(tmp_path / "first.gguf"))
    return tmp_path / "home"


def test_bases_come_from_a_file_from_ollama_and_from_the_hub(
    home: Path, tmp_path: Path, httpserver: HTTPServer
) -> None:
    file, pulled, remote = (write_tiny_llama_gguf(tmp_path / f"{n}.gguf", seed=n) for n in (2, 3, 4))
    OllamaStore(tmp_path / "models").add_model("qwen3:0.6b", pulled)
    FakeHub(httpserver).add("owner/tiny-GGUF", "tiny-Q8_0.gguf", remote.read_bytes())

    assert "Tiny: can be taught. 3 of 3" in run("base", "add", "--home", home, "--file", file)
    assert "Qwen3-0.6B: can be taught." in run("base", "add", "--home", home, "--ollama", "qwen3:0.6b")
    assert "100 %" in run("base", "add", "--home", home, "--repository", "owner/tiny-GGUF", "--no-check")

    listed = run("base", "list", "--home", home)
    assert listed.count("can be taught") == 2 and listed.count("not checked") == 2
    assert "ollama  qwen3:0.6b" in listed and "hub  Qwen/Qwen3-0.6B-GGUF" in listed
    assert "tiny-Q8_0.gguf" in run("base", "list", "--home", home, "--repository", "owner/tiny-GGUF")


def test_a_base_that_fails_its_check_ends_with_code_1(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "open_launcher", lambda _settings: launcher("poor"))

    assert refusals.ROPE in run("base", "check", "--home", home, code=1)
    assert f"Tiny cannot be taught as it is. {refusals.ROPE}" in run("doctor", "--home", home, code=1)


def test_mistakes_are_one_sentence(home: Path, tmp_path: Path, httpserver: HTTPServer) -> None:
    FakeHub(httpserver)
    adapter = write_adapter(tmp_path / "first.gguf", tmp_path / "adapter.gguf")
    for arguments, said in (
        (["add"], "Say where the base comes from"),
        (["add", "--file", adapter], "is an adapter, not a whole model"),
        (["add", "--ollama", "nothing"], "Ollama has no model nothing on this machine"),
        (["add", "--repository", "owner/nothing"], "no public repository of that name"),
        (["check", "99"], "There is no base 99."),
        (["list", "--repository", "a/b/../c"], "no public repository"),
    ):
        assert said in run("base", *arguments, "--home", home, code=2)
