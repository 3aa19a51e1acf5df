"""Ollama's store: what is there is listed, used in place and never changed; what is broken says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.trainer.bases.store import TEMPLATE, OllamaStore
from tests.trainer.tiny import write_tiny_llama_gguf
from tests.trainer.tiny_lora import write_adapter
from trainer.bases import ollama_store
from trainer.bases.files import NO_TEMPLATE
from trainer.bases.ollama_store import ADAPTER, MODEL, StoredModel
from trainer.failures import TrainerFailure

PROJECTOR = "application/vnd.ollama.image.projector"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OllamaStore:
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    return OllamaStore(tmp_path / "models")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_tiny_llama_gguf(tmp_path / "base.gguf")


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def listed() -> dict[str, StoredModel]:
    return {model.name: model for model in ollama_store.models()}


def test_models_are_listed_by_ollamas_own_names_and_used_where_they_lie(store: OllamaStore, base: Path) -> None:
    text = base.with_name("template")
    text.write_text("{{ .Prompt }}")
    blob = store.add("smollm2:135m", (MODEL, base), (TEMPLATE, text))
    store.add("mine", (MODEL, base), library="registry.ollama.ai/somebody")
    store.add("tiny:Q8_0", (MODEL, base), library="hf.co/somebody")
    before = snapshot(store.root)

    found = listed()

    assert list(found) == ["hf.co/somebody/tiny:Q8_0", "smollm2:135m", "somebody/mine:latest"]
    assert (found["smollm2:135m"].path, found["smollm2:135m"].size) == (blob, base.stat().st_size)
    assert found["smollm2:135m"].parameters > 90_000
    assert not any(model.problem for model in found.values())
    assert ollama_store.find("somebody/mine") == found["somebody/mine:latest"]
    assert snapshot(store.root) == before


def test_what_cannot_be_taught_says_why(store: OllamaStore, base: Path, tmp_path: Path) -> None:
    adapter, other = write_adapter(base, tmp_path / "adapter.gguf"), write_tiny_llama_gguf(tmp_path / "b.gguf", seed=2)
    plain, half = tmp_path / "plain.gguf", tmp_path / "half.gguf"
    plain.write_bytes(base.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.that_template"))
    half.write_bytes(base.read_bytes()[:200_000])
    store.add("tuned", (MODEL, base), (ADAPTER, adapter))
    store.add_model("only-adapter", adapter)
    store.add("seeing", (PROJECTOR, adapter), (MODEL, base))
    store.add_model("plain", plain)
    store.add_model("half", half)
    store.add_model("gone", other).unlink()
    store.add("apple", ("application/vnd.ollama.image.tensor", base))

    problems = {name.removesuffix(":latest"): model.problem for name, model in listed().items()}

    assert problems == {
        "tuned": ollama_store.HAS_ADAPTER,
        "only-adapter": ollama_store.NOT_WHOLE,
        "seeing": "",
        "plain": NO_TEMPLATE,
        "half": ollama_store.NOT_WHOLE,
        "gone": ollama_store.MISSING,
        "apple": ollama_store.NOT_GGUF,
    }


@pytest.mark.parametrize(
    "manifest",
    [
        "{", "[]", "null", "\x00", "{}", '{"layers": 3}', '{"layers": [3]}', '{"layers": [{"mediaType": "x"}]}',
        json.dumps({"layers": [{"mediaType": MODEL, "digest": "sha256:../../../../etc/passwd"}]}),
        json.dumps({"layers": [{"mediaType": MODEL, "digest": "sha256-" + "a" * 64}]}),
        "[" * 100_000,
    ],
)  # fmt: skip
def test_a_broken_manifest_is_told_apart(store: OllamaStore, base: Path, manifest: str) -> None:
    store.write("broken", manifest)
    store.add_model("fine", base)

    assert {name: model.problem for name, model in listed().items()} == {
        "broken:latest": ollama_store.DAMAGED,
        "fine:latest": "",
    }


def test_without_a_store_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ollama_store, "SERVICE_STORE", tmp_path / "service")

    assert ollama_store.models() == []


def test_the_users_store_comes_before_the_services(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ollama_store, "SERVICE_STORE", tmp_path / "service")
    own = OllamaStore(tmp_path / ".ollama" / "models").add_model("tiny", base)
    service = OllamaStore(tmp_path / "service")
    service.add_model("tiny", write_tiny_llama_gguf(tmp_path / "other.gguf", seed=3))
    service.add_model("second", base)

    assert listed()["tiny:latest"].path == own
    assert list(listed()) == ["second:latest", "tiny:latest"]


@pytest.mark.parametrize("name", ["nothing", "../../etc/passwd", "", "a/b/c/d/e"])
def test_an_unknown_name_is_a_sentence(store: OllamaStore, name: str) -> None:
    with pytest.raises(TrainerFailure, match="Pull it with Ollama first"):
        ollama_store.find(name)


def test_what_cannot_be_taught_is_not_found_either(store: OllamaStore, base: Path) -> None:
    store.add_model("gone", base).unlink()

    with pytest.raises(TrainerFailure, match="missing from Ollama's store"):
        ollama_store.find("gone")
