"""A full-precision folder: weights of this very model and nothing that could run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.trainer.folders import make_run
from tests.trainer.originals import LLAMA3_ROPE, llama3_rope_freqs, write_original
from tests.trainer.tiny import Shape, tiny_weights, write_gguf
from trainer import __main__ as command
from trainer.bases import folder as folders
from trainer.bases.folder import check_folder
from trainer.failures import TrainerFailure
from trainer.gguf_check import check
from trainer.loading import load_base
from trainer.rundir import write_model

pytestmark = pytest.mark.filterwarnings(
    "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
)
SHAPE = Shape()


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "base.gguf", tiny_weights(SHAPE), SHAPE, tensor_type="Q4_0")


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return write_original(tmp_path / "original", tiny_weights(SHAPE), SHAPE)


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def split(folder: Path, target: str = "model-00001-of-00001.safetensors") -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = {"weight_map": {"model.norm.weight": target}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def test_weights_come_from_the_folder_in_the_type_that_is_asked_for(gguf: Path, original: Path) -> None:
    name, weights = "model.layers.0.mlp.up_proj.weight", tiny_weights(SHAPE)

    exact = load_base(gguf, folder=original)
    rounded = load_base(gguf)
    half = load_base(gguf, "bfloat16", original)

    assert torch.equal(exact.model.state_dict()[name], torch.from_numpy(weights[name]))
    assert not torch.equal(rounded.model.state_dict()[name], torch.from_numpy(weights[name]))
    assert half.model.dtype == torch.bfloat16
    assert exact.tokenizer.chat_template == rounded.tokenizer.chat_template


def test_split_weights_are_taken_too(gguf: Path, original: Path) -> None:
    split(original)

    check_folder(original, check(gguf))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b""), folders.HAS_PICKLES),
        (lambda folder: (folder / "extra.PT").write_bytes(b""), folders.HAS_PICKLES),
        (lambda folder: change(folder / "config.json", auto_map={"AutoModel": "code.Model"}), folders.HAS_CODE),
        (lambda folder: (folder / "tokenizer_config.json").write_text('{"auto_map": {}}'), folders.HAS_CODE),
        (lambda folder: (folder / "config.json").unlink(), folders.NO_CONFIG),
        (lambda folder: (folder / "config.json").write_text("{"), folders.NO_CONFIG),
        (lambda folder: (folder / "model.safetensors").unlink(), folders.NO_WEIGHTS),
        (lambda folder: split(folder, "../elsewhere.safetensors"), folders.NO_WEIGHTS),
        (lambda folder: split(folder, "model-00002-of-00002.safetensors"), folders.NO_WEIGHTS),
        (cut, folders.CUT_SHORT),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"short"), folders.CUT_SHORT),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64), folders.CUT_SHORT),
        (lambda folder: change(folder / "config.json", hidden_size=128), folders.ANOTHER_MODEL),
        (lambda folder: change(folder / "config.json", num_hidden_layers=3), folders.ANOTHER_MODEL),
        (lambda folder: change(folder / "config.json", vocab_size=385), folders.ANOTHER_MODEL),
        (lambda folder: change(folder / "config.json", model_type="qwen2"), folders.ANOTHER_MODEL),
        (lambda folder: change(folder / "config.json", intermediate_size=64), folders.ANOTHER_MODEL),
    ],
)
def test_what_does_not_belong_is_refused(
    gguf: Path, original: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    spoil(original)

    with pytest.raises(TrainerFailure) as refusal:
        check_folder(original, check(gguf))

    assert str(refusal.value) == sentence


@pytest.mark.slow
def test_a_run_is_taught_from_the_folder_and_its_version_serves_from_the_file(tmp_path: Path) -> None:
    shape = Shape(hidden=128, heads=4, kv_heads=2)
    weights, stretched = tiny_weights(shape), {"rope_freqs.weight": llama3_rope_freqs(shape)}
    gguf = write_gguf(tmp_path / "base.gguf", weights, shape, tensor_type="Q4_0", extra=stretched)
    folder = write_original(tmp_path / "original", weights, shape, rope_scaling=LLAMA3_ROPE)
    run = make_run(tmp_path / "run", base=gguf)
    spec = run.spec()
    beside = spec.base.model_copy(update={"folder": str(folder)})
    write_model(run.spec_file, spec.model_copy(update={"base": beside}))

    assert command.main(["all", str(run.path)]) == 0

    found = run.evaluation()
    assert found
    assert next(one for one in found.checks if one.name == "parity").passed


def test_a_folder_that_is_not_there_is_a_sentence(gguf: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainerFailure, match="There is no such folder"):
        check_folder(tmp_path / "nowhere", check(gguf))
