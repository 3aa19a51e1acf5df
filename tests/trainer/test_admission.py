"""A base is admitted when transformers and llama.cpp agree on it, and refused in plain words when they do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.bases.store import OllamaStore
from tests.trainer.originals import LLAMA3_ROPE, llama3_rope_freqs, write_original
from tests.trainer.tiny import Shape, tiny_weights, write_gguf, write_tiny_llama_gguf
from trainer import __main__ as command
from trainer import admission, loading
from trainer.bases import refusals
from trainer.parity import Parity
from trainer.recipe import BaseRef
from trainer.rundir import sha256_of, write_model
from trainer.spec import Admission

pytest.importorskip("xllamacpp")

pytestmark = pytest.mark.filterwarnings(
    "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
)
SHAPE = Shape(hidden=128, heads=4, kv_heads=2)  # heads of 32: enough angles for some to be stretched


def admitted(tmp_path: Path, gguf: Path, folder: Path | None = None) -> Admission:
    asked = tmp_path / "asked"
    asked.mkdir(exist_ok=True)
    reference = BaseRef(name="x", gguf=str(gguf), sha256=sha256_of(gguf), folder=str(folder or ""))
    write_model(asked / "base.json", reference)
    assert command.main(["admit", str(asked)]) == 0
    assert not (asked / ".runtime").exists()
    return Admission.model_validate_json((asked / "admission.json").read_text())


def test_a_tiny_base_passes(tmp_path: Path) -> None:
    found = admitted(tmp_path, write_tiny_llama_gguf(tmp_path / "base.gguf"))

    assert (found.state, found.sentence) == ("passed", "")
    assert found.detail.startswith("3 of 3 prompts become the same tokens")


def test_stretched_angles_need_the_full_precision_folder_and_pass_with_it(tmp_path: Path) -> None:
    weights = tiny_weights(SHAPE)
    stretched = {"rope_freqs.weight": llama3_rope_freqs(SHAPE)}
    gguf = write_gguf(tmp_path / "base.gguf", weights, SHAPE, tensor_type="Q8_0", extra=stretched)
    original = write_original(tmp_path / "original", weights, SHAPE, rope_scaling=LLAMA3_ROPE)
    plain = write_original(tmp_path / "plain", weights, SHAPE)

    alone, beside, wrong = (admitted(tmp_path, gguf, folder) for folder in (None, original, plain))

    assert (alone.state, alone.sentence) == ("failed", refusals.ROPE)
    assert (beside.state, beside.sentence) == ("passed", "")
    assert (wrong.state, wrong.sentence) == ("failed", refusals.OTHER_FOLDER)


def test_the_folder_of_another_model_is_noticed_by_its_answers(tmp_path: Path) -> None:
    gguf = write_gguf(tmp_path / "base.gguf", tiny_weights(SHAPE), SHAPE)
    folder = write_original(tmp_path / "original", tiny_weights(SHAPE, seed=5), SHAPE)

    assert admitted(tmp_path, gguf, folder).sentence == refusals.OTHER_FOLDER


def test_a_mistake_below_what_rounding_may_cost_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = write_tiny_llama_gguf(tmp_path / "base.gguf")
    right = loading.load_base(gguf)
    with torch.no_grad():
        right.model.model.norm.weight.mul_(1.02)
    monkeypatch.setattr(admission, "load_base", lambda *_args, **_options: right)

    found = admitted(tmp_path, gguf)
    loading.load_base.cache_clear()

    assert (found.state, found.sentence) == ("failed", refusals.OTHER_WEIGHTS)
    assert Parity(prompts=3, same_tokens=3, gap=_served_gap(found.detail)).agrees, "the older limit would let it pass"


def test_a_base_with_no_room_for_the_comparison_is_judged_as_it_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.asking.SPARE", 1 << 60)

    found = admitted(tmp_path, write_tiny_llama_gguf(tmp_path / "base.gguf"))

    assert found.state == "passed"
    assert "not compared with no weight rounded" in found.detail


def _served_gap(detail: str) -> float:
    return float(detail.split("it differs by ")[1].split()[0])


def test_a_file_that_changed_since_it_was_added_is_refused(tmp_path: Path) -> None:
    gguf = write_tiny_llama_gguf(tmp_path / "base.gguf")
    reference = BaseRef(name="x", gguf=str(gguf), sha256="0" * 64)
    write_model(tmp_path / "base.json", reference)

    assert admission.admit(tmp_path).sentence == refusals.CHANGED


def test_an_architecture_that_transformers_cannot_read_is_refused(tmp_path: Path) -> None:
    gguf = tmp_path / "granite.gguf"
    gguf.write_bytes(write_tiny_llama_gguf(tmp_path / "base.gguf").read_bytes().replace(b"llama", b"apple"))

    found = admitted(tmp_path, gguf)

    assert (found.state, found.sentence) == ("failed", refusals.UNREADABLE)
    assert "full-precision folder" in found.detail


def test_without_the_runtime_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "runtime_installed", lambda: False)

    found = admitted(tmp_path, write_tiny_llama_gguf(tmp_path / "base.gguf"))

    assert (found.state, found.sentence) == ("not checked", refusals.NO_RUNTIME)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (Parity(prompts=3, same_tokens=2, gap=0.0), refusals.OTHER_TOKENS),
        (Parity(prompts=3, same_tokens=3, gap=0.2), refusals.OTHER_WEIGHTS),
        (Parity(prompts=3, same_tokens=3, gap=0.2, exact=False), ""),
        (Parity(prompts=3, same_tokens=3, gap=0.4, exact=False), refusals.OTHER_FOLDER),
        (Parity(prompts=3, same_tokens=3, gap=float("inf")), refusals.OTHER_WEIGHTS),
    ],
)
def test_each_difference_has_its_sentence(found: Parity, sentence: str) -> None:
    assert admission.judged(found).sentence == sentence


def test_the_angles_of_the_converter_and_of_transformers_are_the_same() -> None:
    factors = llama3_rope_freqs(SHAPE)

    assert factors[0] == 1.0 and factors[-1] == 8.0
    assert np.any((factors > 1.0) & (factors < 8.0))


def test_a_file_of_ollamas_store_passes_where_it_lies(tmp_path: Path) -> None:
    store = OllamaStore(tmp_path / "models")
    blob = store.add_model("tiny", write_tiny_llama_gguf(tmp_path / "base.gguf"))

    assert admitted(tmp_path, blob).state == "passed"
    assert list(blob.parent.iterdir()) == [blob]


@pytest.mark.slow
def test_the_embedded_base_passes(tmp_path: Path, real_base: Path) -> None:
    found = admitted(tmp_path, real_base)

    assert (found.state, found.sentence) == ("passed", ""), found.detail
