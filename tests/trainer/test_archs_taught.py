"""Every architecture of the table is taught as transformers itself would, from its full-precision folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.trainer.folders import make_run
from tests.trainer.tiny_archs import MODELS, arch_of
from tests.trainer.tiny_models import tiny, write_base
from trainer import __main__ as command
from trainer.archs import PERMUTES
from trainer.bases.folder import MODEL_TYPES
from trainer.batches import micro_batches
from trainer.data import Encoded
from trainer.failures import TrainerFailure
from trainer.loading import load_base, load_tokenizer
from trainer.loss import answer_losses, example_losses
from trainer.rundir import write_model

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]


def test_every_architecture_can_be_taught_from_a_folder():
    assert {kind for kinds in MODEL_TYPES.values() for kind in kinds.split()} == set(PERMUTES)


@pytest.mark.parametrize("key", MODELS)
def test_the_weights_and_the_tokenizer_are_found(key: str, tmp_path: Path) -> None:
    model = tiny(key)
    gguf = write_base(tmp_path / "base.gguf", model, key)
    model.save_pretrained(tmp_path / "original")

    base = load_base(gguf, folder=tmp_path / "original")

    assert base.tokenizer.decode(base.tokenizer("Two ways, 你好!")["input_ids"]) == "Two ways, 你好!"
    assert base.summary.architecture == arch_of(key)
    expected = model.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in base.model.state_dict().items())


def test_a_tokenizer_of_an_unknown_kind_is_a_sentence(tmp_path: Path) -> None:
    gguf = write_base(tmp_path / "base.gguf", tiny("granite"), "granite")
    gguf.write_bytes(gguf.read_bytes().replace(b"\x04" + bytes(7) + b"gpt2", b"\x04" + bytes(7) + b"gpt9"))

    with pytest.raises(TrainerFailure, match=r"does not make its tokenizer .*'gpt9'.* Choose another base\."):
        load_tokenizer(gguf)


@pytest.mark.parametrize("key", MODELS)
def test_the_loss_is_transformers_own(key: str) -> None:
    """Whatever a family does to embeddings, residuals and scores, in a padded part or example by example."""
    model = tiny(key)
    draw = torch.Generator().manual_seed(3)
    examples = [
        Encoded(str(n), tuple(torch.randint(3, 300, (n,), generator=draw).tolist()), n // 2) for n in (9, 14, 5)
    ]
    expected: dict[str, float] = {}
    with torch.no_grad():
        for example in examples:
            ids = torch.tensor([example.ids])
            labels = ids.clone()
            labels[0, : example.start] = -100
            expected[example.id] = model(input_ids=ids, labels=labels).loss.item()

    alone = {
        example.id: answer_losses(model, part)[0].mean().item()
        for example in examples
        for part in micro_batches([example], 1000, 0)
    }

    assert alone == pytest.approx(expected, rel=1e-4)
    assert example_losses(model, examples, 0) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("key", MODELS)
def test_a_run_teaches_it_and_llama_cpp_serves_what_was_taught(key: str, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    model = tiny(key)
    gguf = write_base(tmp_path / "base.gguf", model, key)
    model.save_pretrained(tmp_path / "original")
    run = make_run(tmp_path / "run", base=gguf, train=8, max_steps=4, learning_rate=1e-2, merged_type="F16")
    spec = run.spec()
    beside = spec.base.model_copy(update={"folder": str(tmp_path / "original")})
    write_model(run.spec_file, spec.model_copy(update={"base": beside}))

    assert command.main(["all", str(run.path)]) == 0

    found = run.evaluation()
    assert found
    checks = {check.name: check for check in found.checks}
    assert checks["parity"].passed, checks["parity"].detail
    assert found.new_loss < found.old_loss
    assert found.rounded is not None and found.rounded.loss == pytest.approx(found.new_loss, abs=0.01)
