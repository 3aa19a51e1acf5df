"""What every number type would keep is measured without writing a file, and equals what the written file keeps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.trainer.folders import make_run
from tests.trainer.test_sft import teach
from tests.trainer.tiny import write_tiny_llama_gguf
from trainer import merge_gguf, number_types, rounded
from trainer.__main__ import main
from trainer.convert import convert, names_of
from trainer.encoded import encode
from trainer.evaluate import taught
from trainer.evaluation import Offer, Types, share_kept
from trainer.failures import Cancelled, TrainerFailure
from trainer.ggml_types import TensorType
from trainer.gguf_check import check
from trainer.merge_gguf import merge, plan
from trainer.number_types import measure_types
from trainer.rundir import RunDir
from trainer.team import never

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that has learnt, with its files; the tests share it and change nothing in it but types.json."""
    run = make_run(tmp_path_factory.mktemp("run"), max_steps=4, learning_rate=2e-2)
    teach(run)
    convert(run)
    return run


@pytest.fixture(autouse=True)
def unmeasured(run: RunDir) -> None:
    run.types_file.unlink(missing_ok=True)


def offers(found: Types) -> dict[str, Offer]:
    return {offer.merged_type: offer for offer in found.offers}


def written(run: RunDir, kind: str, folder: Path) -> tuple[float, int]:
    """Write the file of a type, and answer its held-out loss and its size."""
    base = run.base_gguf()
    file = folder / "model.gguf"
    merge(base, run.adapter_gguf, file, kind, names_of(run.spec()))
    apart = RunDir(folder)
    with taught(run) as (model, data):
        found = rounded.measure(apart, model, data.splits["test"], data)
    return found.loss, file.stat().st_size


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_0", "same"])
def test_loss_and_size_are_those_of_the_file_that_would_be_written(run: RunDir, tmp_path: Path, kind: str) -> None:
    found = offers(measure_types(run, never))[kind]

    loss, size = written(run, kind, tmp_path)

    assert found.loss == pytest.approx(loss, abs=1e-6)
    assert found.size == size
    assert found.type == {"same": "F32"}.get(kind, kind)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K", "BF16", "same"])
def test_a_planned_tensor_is_the_one_that_is_written(run: RunDir, tmp_path: Path, kind: str) -> None:
    planned = plan(check(run.base_gguf(), whole=True), run.adapter_gguf, kind)
    merge(run.base_gguf(), run.adapter_gguf, tmp_path / "model.gguf", kind)

    file = check(tmp_path / "model.gguf", whole=True)

    assert planned.size == file.size
    for name in planned.halves:
        with file.path.open("rb") as source:
            source.seek(file.tensors[name].start)
            data = merge_gguf._rows(source, file.tensors[name], file.tensors[name].rows)
        assert (merge_gguf.decode(data, file.tensors[name].type) == planned.weights(name)).all(), name


def test_no_file_is_written_and_the_model_is_as_it_was(run: RunDir) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path != run.events_file}

    found = measure_types(run, never)

    after = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path != run.events_file}
    folder = run.path.stat().st_mtime_ns
    assert after == before | {run.types_file: run.types_file.stat().st_mtime_ns} | (
        {run.path: folder} if run.path in before else {}
    )
    assert run.types() == found
    with taught(run) as (model, data):
        again = encode(run)
        assert model is not None
        assert data.splits == again.splits
    assert offers(measure_types(run, never))["Q8_0"].loss == pytest.approx(offers(found)["Q8_0"].loss, abs=1e-6)


def test_types_that_narrow_rows_cannot_hold_are_left_out_with_a_sentence(run: RunDir) -> None:
    found = measure_types(run, never)

    assert [one.merged_type for one in found.left_out] == ["Q6_K", "Q5_K", "Q4_K"]
    assert all("do not divide into blocks of this type" in one.why for one in found.left_out)
    assert [offer.merged_type for offer in found.offers] == ["F16", "BF16", "Q8_0", "Q4_0", "same"]


def test_a_base_whose_own_type_is_listed_is_not_listed_twice(tmp_path: Path) -> None:
    plain = write_tiny_llama_gguf(tmp_path / "plain.gguf")
    run = make_run(tmp_path / "first", max_steps=1, base=plain, merged_type="Q8_0")
    teach(run)
    convert(run)
    eight = make_run(tmp_path / "second", max_steps=1, base=run.model_gguf)
    teach(eight)
    convert(eight)

    found = measure_types(eight, never)

    why = {one.merged_type: one.why for one in found.left_out}
    assert why["same"] == "All taught layers of the base are of type Q8_0, which is listed."


def test_weights_that_are_too_large_for_f16_leave_only_f16_out(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = merge_gguf.encode

    def larger(weights: NDArray[np.float32], kind: TensorType) -> NDArray[np.uint8]:
        return encode(weights * 1e9 if kind.name == "F16" else weights, kind)

    monkeypatch.setattr(merge_gguf, "encode", larger)
    found = measure_types(run, never)

    assert "F16" in {one.merged_type for one in found.left_out}
    assert {"BF16", "Q8_0"} <= set(offers(found))


def test_a_type_that_makes_the_model_break_down_is_left_out(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    foretold = number_types.foretold
    monkeypatch.setattr(number_types, "foretold", lambda *args: foretold(*args).model_copy(update={"loss": math.nan}))  # pyright: ignore

    found = measure_types(run, never)

    assert found.offers == []
    assert "the model's numbers run over" in found.left_out[-1].why
    assert run.types() == found


def test_a_run_without_an_adapter_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(TrainerFailure, match="no adapter to measure yet"):
        measure_types(make_run(tmp_path), never)


def test_a_run_without_held_out_questions_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, max_steps=1, test=0, val=0)
    teach(run)
    convert(run)
    with pytest.raises(TrainerFailure, match="No question was kept from learning"):
        measure_types(run, never)
    assert run.types() is None


def test_a_stop_between_two_types_leaves_no_half_answer(run: RunDir) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 1

    with pytest.raises(Cancelled):
        measure_types(run, stop)

    assert run.types() is None
    steps = [event for event in run.events() if event.stage == "types" and event.kind == "step"]
    assert steps and steps[-1].steps == 5


def test_the_command_is_skipped_when_its_file_is_there(run: RunDir) -> None:
    assert main(["types", str(run.path)]) == 0
    first = run.types_file.stat().st_mtime_ns

    assert main(["types", str(run.path)]) == 0

    assert run.types_file.stat().st_mtime_ns == first


@pytest.mark.parametrize("stage", ["types", "convert"])
def test_a_base_that_has_changed_is_refused(tmp_path: Path, stage: str) -> None:
    run = make_run(tmp_path, max_steps=1)
    teach(run)
    convert(run)
    if stage == "convert":
        run.model_gguf.unlink()
    write_tiny_llama_gguf(run.base_gguf(), seed=5)

    assert main([stage, str(run.path)]) == 1

    assert "is not the base this run was made for" in run.events()[-1].message
    assert not run.types_file.exists()


@pytest.mark.parametrize(("loss", "kept"), [(1.0, 1.0), (1.5, 0.75), (3.0, 0.0), (5.0, -1.0), (0.9, 1.05)])
def test_what_is_kept_is_a_share_of_what_was_learnt(loss: float, kept: float) -> None:
    assert share_kept(loss, 3.0, 1.0) == pytest.approx(kept)
    assert share_kept(loss, 1.0, 1.0) == 0.0


@pytest.mark.slow
def test_on_the_real_base_the_loss_is_that_of_really_merged_files(tmp_path: Path, real_base: Path) -> None:
    run = make_run(
        tmp_path / "run", base=real_base, train=24, max_steps=12, batch_size=8, learning_rate=1e-3, threads=2
    )
    teach(run)
    convert(run)

    found = measure_types(run, never)

    rows = offers(found)
    assert {"F16", "BF16", "Q8_0", "Q4_0", "same"} <= set(rows)
    for kind in ("Q4_0", "same"):
        folder = tmp_path / kind
        folder.mkdir()
        loss, size = written(run, kind, folder)
        assert rows[kind].loss == pytest.approx(loss, abs=1e-3)
        assert rows[kind].size == size
    assert abs(rows["Q4_0"].loss - rows["F16"].loss) > 1e-3, "the types must be told apart"
