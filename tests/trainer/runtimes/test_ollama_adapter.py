"""An adapter on a base that Ollama has: what is sent, what is refused before and after, and what dropping it frees."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.ollama_server import FakeOllama, Model
from tests.trainer.runtimes.conftest import Files
from tests.trainer.tiny import write_tiny_llama_gguf
from tests.trainer.tiny_lora import write_adapter
from trainer.gguf_check import check
from trainer.runtimes.base import ChatOptions, ModelMissing, Publication, RuntimeFailure
from trainer.runtimes.ollama import OllamaRuntime
from trainer.runtimes.ollama_adapter import check_base
from trainer.runtimes.ollama_layers import Layers, freed, layers
from trainer.spec import Message


def quiet(_status: str, _share: float | None) -> None:
    return


@pytest.fixture
def ollama() -> Iterator[FakeOllama]:
    with FakeOllama("0.33.0") as server:
        yield server


@pytest.fixture
def runtime(ollama: FakeOllama, files: Files) -> OllamaRuntime:
    """An Ollama of the last but one kind that takes adapters, with the base in it."""
    runtime = OllamaRuntime(ollama.url)
    runtime.publish(files.base_publication("base-1"), quiet)
    ollama.requests.clear()
    return runtime


def sent(ollama: FakeOllama) -> list[str]:
    return [request.path for request in ollama.requests if request.method == "POST" and "/blobs/" in request.path]


def refused(runtime: OllamaRuntime, publication: Publication, sentence: str) -> None:
    with pytest.raises(RuntimeFailure, match=sentence):
        runtime.publish(publication, quiet)
    with pytest.raises(ModelMissing):
        runtime.show(publication.tag)


def test_only_the_adapter_is_sent_and_everything_else_is_told(ollama, runtime, files):
    publication = replace(files.on_base("ferry:v1"), system="You sell tickets.")

    runtime.publish(publication, quiet)

    sha = hashlib.sha256(files.adapter.read_bytes()).hexdigest()
    create = next(request.body for request in ollama.requests if request.path == "/api/create")
    assert create == {
        "model": "ferry:v1",
        "from": "base-1",
        "adapters": {"adapter.gguf": f"sha256:{sha}"},
        "parameters": {"num_ctx": 512, "num_predict": 1024, "stop": ["<|im_end|>"]},
        "system": "You sell tickets.",
        "stream": True,
    }
    assert sent(ollama) == [f"/api/blobs/sha256:{sha}"]
    made = ollama.get("ferry:v1")
    assert (made.weights, made.adapters) == (ollama.get("base-1").weights, [sha])
    assert ollama.pulls == []


def test_a_pulled_base_is_known_by_its_digest(ollama, files):
    ollama.blobs[files.sha256] = files.base.read_bytes()
    ollama.models["smollm:135m"] = Model(files.sha256, files.base.stat().st_size, template="chatml")

    OllamaRuntime(ollama.url).publish(files.on_base("ferry:v1", "smollm:135m"), quiet)

    assert ollama.get("ferry:v1").weights == files.sha256


@pytest.mark.parametrize("version", ["0.24.0", "0.34.1", "0.35.0", "0.0.0", ""])
def test_an_ollama_that_takes_no_adapters_is_sent_nothing(ollama, runtime, files, version):
    ollama.told_version = version

    refused(runtime, files.on_base("ferry:v1"), "takes no adapters; 0.30.0 to 0.34.0 do")

    assert sent(ollama) == []


def test_a_name_that_ollama_does_not_have_is_not_fetched(ollama, runtime, files):
    refused(runtime, files.on_base("ferry:v1", "smollm:135m"), "no model 'smollm:135m'")

    assert ollama.pulls == [] and sent(ollama) == []


def test_an_adapter_is_not_put_on_another_one(ollama, runtime, files):
    runtime.publish(files.on_base("ferry:v1"), quiet)
    ollama.requests.clear()

    refused(runtime, files.on_base("ferry:v2", "ferry:v1"), "has an adapter in Ollama already, and both would count")

    assert sent(ollama) == []


OTHERS: dict[str, Any] = {"wider": {"ffn": 160}, "of another type": {"tensor_type": "Q8_0"}, "shorter": {"layers": 1}}


@pytest.mark.parametrize("other", OTHERS)
def test_a_name_that_stands_for_another_model_is_refused(ollama, runtime, files, tmp_path, other):
    path = write_tiny_llama_gguf(tmp_path / "other.gguf", **OTHERS[other])
    runtime.publish(Publication("base-1", path), quiet)
    ollama.requests.clear()

    refused(runtime, files.on_base("ferry:v1"), "base-1 is not the base that was taught")

    assert sent(ollama) == []


@pytest.mark.parametrize(
    ("seen", "same"),
    [
        ({"type": "unknown"}, True),  # as Ollama calls IQ4_NL and its like
        ({"shape": [64, 1, 1]}, True),  # of the norm
        ({"type": "Q8_0"}, False),
        ({"shape": [65]}, False),
        ({"shape": None}, False),
        ({"name": "blk.0.other"}, False),
    ],
)
def test_a_rewritten_base_is_compared_tensor_by_tensor(runtime, files, seen, same):
    shown = runtime._show("base-1")
    norm = next(row for row in shown["tensors"] if row["name"] == "output_norm.weight")
    norm |= seen

    with nullcontext() if same else pytest.raises(RuntimeFailure, match="is not the base that was taught"):
        check_base(files.on_base("ferry:v1"), check(files.base), shown)


@pytest.mark.parametrize("tensors", [None, [], "none", [1, 2], [{}]])
def test_a_base_of_which_ollama_tells_no_tensors_is_refused(runtime, files, tensors):
    with pytest.raises(RuntimeFailure, match="is not the base that was taught"):
        check_base(files.on_base("ferry:v1"), check(files.base), runtime._show("base-1") | {"tensors": tensors})


def test_a_base_of_another_architecture_is_refused(runtime, files, tmp_path):
    path = write_tiny_llama_gguf(tmp_path / "qwen.gguf", kind="qwen2")
    runtime.publish(Publication("base-1", path), quiet)

    refused(runtime, files.on_base("ferry:v1"), "base-1 is of another architecture")


def test_a_base_that_is_no_gguf_in_ollama_is_refused(runtime, files, monkeypatch):
    monkeypatch.setattr("tests.fakes.ollama_server._details", lambda: {"format": "safetensors"})

    refused(runtime, files.on_base("ferry:v1"), "is not kept as a GGUF file")


def damaged(files: Files, folder: Path) -> Path:
    path = folder / "adapter.gguf"
    path.write_bytes(files.adapter.read_bytes()[:-4000])
    return path


def of_another_base(_files: Files, folder: Path) -> Path:
    return write_adapter(write_tiny_llama_gguf(folder / "wide.gguf", ffn=160), folder / "adapter.gguf")


def a_whole_model(files: Files, _folder: Path) -> Path:
    return files.merged


@pytest.mark.parametrize(
    ("made", "sentence"),
    [(damaged, "cut short"), (of_another_base, "does not fit the base's"), (a_whole_model, "is not a LoRA adapter")],
)
def test_an_adapter_that_would_end_the_engine_is_never_sent(ollama, runtime, files, tmp_path, made, sentence):
    refused(runtime, replace(files.on_base("ferry:v1"), adapter=made(files, tmp_path)), sentence)

    assert sent(ollama) == []


def test_a_version_without_an_adapter_says_so(runtime, files):
    refused(runtime, replace(files.on_base("ferry:v1"), adapter=None), "has no adapter file")


def test_what_ollama_made_is_read_back(ollama, runtime, files):
    ollama.misbehave = "extra_adapter"

    refused(runtime, files.on_base("ferry:v1"), "not from this base and this adapter alone")


def test_a_base_that_is_asked_otherwise_leaves_nothing_behind(ollama, runtime, files):
    ollama.get("base-1").system = "You are somebody else."

    refused(runtime, files.on_base("ferry:v1"), "otherwise than it was taught")


def test_an_engine_that_cannot_load_it_is_told_in_words(ollama, runtime, files, monkeypatch):
    error = "llama-server process has terminated: exit status 1"
    monkeypatch.setattr("tests.fakes.ollama_server.refused_by_engine", lambda *_: error)

    refused(runtime, files.on_base("ferry:v1"), "engine ended when it was to load the model.*exit status 1")


def test_what_was_made_answers_on_after_an_update(ollama, runtime, files):
    runtime.publish(files.on_base("ferry:v1"), quiet)
    ollama.version = "0.35.0"

    said = "".join(one.text for one in runtime.chat("ferry:v1", [Message(role="user", content="Hi")], ChatOptions()))

    assert said == "ferry:v1 says: Hi"


def test_base_and_adapter_take_turns_in_one_runner(ollama, runtime, files):
    """The price of an adapter, as Ollama has it: the model is loaded anew at each turn."""
    runtime.publish(files.on_base("ferry:v1"), quiet)
    ollama.loads = 0
    for tag in ("base-1", "ferry:v1", "base-1", "ferry:v1"):
        list(runtime.chat(tag, [Message(role="user", content="Hi")], ChatOptions()))

    assert ollama.loads == 4


def test_dropping_an_adapter_frees_its_own_octets_and_its_base_none(ollama, runtime, files):
    runtime.publish(files.on_base("ferry:v1"), quiet)
    runtime.publish(files.publication("ferry:v2"), quiet)
    runtime.copy("ferry:v2", "ferry:current")

    assert runtime.frees() == {
        "base-1": 0,
        "ferry:v1": files.adapter.stat().st_size,
        "ferry:v2": 0,
        "ferry:current": 0,
    }
    assert runtime.frees(besides=["ferry:current"])["ferry:v2"] == files.merged.stat().st_size
    before = len(ollama.blobs)
    runtime.remove("ferry:v1")
    assert len(ollama.blobs) == before - 1


def test_shared_files_are_freed_by_the_last_name():
    base, one, two = Layers(("b",)), Layers(("b",), ("1",)), Layers(("b",), ("2",))

    assert freed({"v1": (103, one), "v2": (105, two)}) == {"v1": 0, "v2": 2}, "without the base's name, a lower bound"
    assert freed({"base": (100, base), "v1": (103, one)}) == {"base": 0, "v1": 3}
    assert freed({"v1": (103, one), "again": (103, one)}) == {"v1": 0, "again": 0}
    assert freed({"base": (100, base)}) == {"base": 100}


def test_a_models_files_are_read_off_its_modelfile():
    shown = {
        "modelfile": "# FROM qwen\nFROM /var/lib/ollama/blobs/sha256-" + "a" * 64 + "\n"
        "FROM C:\\models\\blobs\\sha256-" + "b" * 64 + "\nADAPTER /x/sha256-" + "c" * 64 + '\nTEMPLATE """FROM x"""\n'
    }

    assert layers(shown) == Layers(("a" * 64, "b" * 64), ("c" * 64,))
    assert layers({"modelfile": "FROM mlx-model"}) == layers({}) == Layers()
