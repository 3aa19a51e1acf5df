"""Training teaches, can be killed and gone on with, and says in a sentence why it cannot."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.folders import make_run
from tests.trainer.tiny import write_tiny_llama_gguf
from trainer import checkpoints
from trainer.batches import Micro
from trainer.data import Encoded
from trainer.encoded import encode
from trainer.failures import Cancelled, TrainerFailure, explain
from trainer.guide import Stop
from trainer.loading import load_base
from trainer.loss import answer_losses, example_losses
from trainer.rundir import RunDir
from trainer.sft import train
from trainer.teacher import rate_share
from trainer.team import Team, never

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]
ROOT = Path(__file__).resolve().parents[2]


def teach(run: RunDir, stop: Stop = never) -> None:
    train(run, load_base(run.base_gguf()), encode(run), Team(stop))


def losses(run: RunDir) -> dict[int, float]:
    """The loss of each step; a step that was repeated after a crash counts once, as it was last."""
    return {e.step: e.loss for e in run.events() if e.kind == "step" and e.step and e.loss is not None}


def weights(run: RunDir) -> dict[str, torch.Tensor]:
    return load_file(run.adapter / "adapter_model.safetensors")


def test_a_run_learns_and_leaves_the_best_adapter(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=8, learning_rate=2e-2)

    teach(run)

    course = losses(run)
    held_out = {e.step: e.eval_loss for e in run.events() if e.kind == "eval"}
    assert sorted(course) == list(range(1, 41))
    assert course[40] < course[1] - 1
    best = min(held_out, key=lambda step: held_out[step] or 0)
    saved = load_file(run.checkpoints / f"checkpoint-{best}" / "adapter_model.safetensors")
    assert all(torch.equal(saved[name], weight) for name, weight in weights(run).items())
    assert json.loads((run.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "Tiny"


def test_the_same_folder_gives_the_same_adapter(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, max_steps=4) for name in ("one", "two")]

    for run in runs:
        teach(run)

    files = [(run.adapter / "adapter_model.safetensors").read_bytes() for run in runs]
    assert files[0] == files[1]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, killed = (make_run(tmp_path / name, train=60, epochs=6, evals_per_epoch=3) for name in ("whole", "killed"))
    teach(whole)

    child = subprocess.Popen([sys.executable, "-m", "trainer", "train", str(killed.path)], cwd=ROOT)  # noqa: S603 - our own words
    wait_for(killed, "checkpoint", child)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not killed.adapter.exists()
    begun = len(losses(killed))
    teach(killed)

    expected, found = losses(whole), losses(killed)
    assert 0 < begun < len(expected) == 90
    assert max(abs(expected[step] - found[step]) for step in expected) <= 1e-5
    assert all(torch.allclose(weights(whole)[n], w, atol=1e-6) for n, w in weights(killed).items())


def test_a_checkpoint_cut_short_is_passed_over(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", epochs=2, evals_per_epoch=2)
    whole = make_run(tmp_path / "whole", epochs=2, evals_per_epoch=2)
    teach(run)
    teach(whole)
    newest = checkpoints.newest(run.checkpoints)
    assert newest and checkpoints.step_of(newest) == 10
    with (newest / "optimizer.pt").open("rb+") as file:
        file.truncate(100)
    (run.adapter / "adapter_model.safetensors").unlink()
    (run.adapter / "adapter_config.json").unlink()
    run.adapter.rmdir()

    older = checkpoints.newest(run.checkpoints)
    assert older and checkpoints.step_of(older) < 10
    teach(run)

    assert abs(losses(run)[10] - losses(whole)[10]) <= 1e-5
    assert all(torch.allclose(weights(whole)[n], w, atol=1e-6) for n, w in weights(run).items())


def test_a_run_that_is_asked_to_stop_saves_and_goes_on_later(tmp_path: Path) -> None:
    run, whole = make_run(tmp_path / "run"), make_run(tmp_path / "whole")
    teach(whole)

    with pytest.raises(Cancelled):
        teach(run, lambda: len(losses(run)) >= 3)
    saved = checkpoints.newest(run.checkpoints)
    stopped_at = max(losses(run))
    assert saved and checkpoints.step_of(saved) == stopped_at < 10
    assert not run.adapter.exists()
    teach(run)

    assert max(abs(losses(run)[step] - loss) for step, loss in losses(whole).items()) <= 1e-5


def test_early_stop_ends_a_run_that_no_longer_gets_better(tmp_path: Path) -> None:
    run = make_run(tmp_path, epochs=40, learning_rate=5e-2, patience=2, evals_per_epoch=1, val=3)

    teach(run)

    held_out = [e.eval_loss or 0 for e in run.events() if e.kind == "eval"]
    assert len(held_out) < 40
    assert min(held_out) == held_out[-3]


def test_max_steps_is_honoured_and_without_val_the_last_step_counts(tmp_path: Path) -> None:
    run = make_run(tmp_path, val=0, max_steps=3)

    teach(run)

    assert sorted(losses(run)) == [1, 2, 3]
    last = load_file(run.checkpoints / "checkpoint-3" / "adapter_model.safetensors")
    assert all(torch.equal(last[name], weight) for name, weight in weights(run).items())


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)

    def broken(*arguments: object) -> tuple[torch.Tensor, torch.Tensor]:
        found, rows = answer_losses(*arguments)  # type: ignore[arg-type]
        return found * float("nan"), rows

    monkeypatch.setattr("trainer.teacher.answer_losses", broken)
    with pytest.raises(TrainerFailure, match="lower learning rate") as failed:
        teach(run)

    assert failed.value.failure == "diverged"
    assert not run.adapter.exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")])
def test_without_memory_it_goes_on_with_less_at_once_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    whole, short = (make_run(tmp_path / name, epochs=2, lora={"dropout": 0}) for name in ("whole", "short"))
    teach(whole)
    widest: list[int] = []

    def greedy(model: object, micro: Micro) -> tuple[torch.Tensor, torch.Tensor]:
        widest.append(micro.ids.numel())
        if len(losses(short)) == 5 and not short.limits():
            raise error
        return answer_losses(model, micro)  # type: ignore[arg-type]

    monkeypatch.setattr("trainer.teacher.answer_losses", greedy)
    teach(short)

    limits = short.limits()
    assert limits is not None and limits.checkpointing and limits.micro_tokens == 512
    assert losses(short) == pytest.approx(losses(whole), abs=1e-5)
    assert any("ran out of memory" in event.message for event in short.events() if event.kind == "warning")


def test_without_memory_a_second_time_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path)

    def greedy(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("trainer.teacher.answer_losses", greedy)
    with pytest.raises(MemoryError):
        teach(run)

    assert run.limits() is not None
    assert explain(MemoryError())[0] == "memory"


@pytest.mark.parametrize("options", [{"micro_tokens": 64}, {"checkpointing": "on"}, {"micro_tokens": 4096}])
def test_a_step_is_the_same_in_however_many_parts(tmp_path: Path, options: dict[str, object]) -> None:
    usual = make_run(tmp_path / "usual", max_steps=6, lora={"dropout": 0})
    other = make_run(tmp_path / "other", max_steps=6, lora={"dropout": 0}, **options)

    teach(usual)
    teach(other)

    assert losses(other) == pytest.approx(losses(usual), abs=1e-5)


def test_example_losses_do_not_depend_on_the_company(tmp_path: Path) -> None:
    base = load_base(write_tiny_llama_gguf(tmp_path / "base.gguf"))
    examples = [Encoded(str(n), tuple(range(3, n + 3)), 2) for n in (9, 14, 5, 300)]

    together = example_losses(base.model, examples, pad=0)

    alone = {key: loss for e in examples for key, loss in example_losses(base.model, [e], pad=0).items()}
    assert together == pytest.approx(alone, abs=1e-5)


def test_the_rate_rises_from_above_zero_and_falls_to_zero() -> None:
    shares = [rate_share(step, 20, 4) for step in range(20)]

    assert shares[0] == 0.25
    assert max(shares) == shares[3] == shares[4] == 1
    assert 0 < shares[-1] < 0.02


def test_steps_are_counted_like_batches(tmp_path: Path) -> None:
    assert make_run(tmp_path, epochs=2.5).spec().steps(21) == 15


def wait_for(run: RunDir, kind: str, child: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Wait until a child of ours has written an event."""
    end = time.monotonic() + seconds
    while not any(event.kind == kind for event in run.events()):
        assert child.poll() is None, "the child ended too early"
        assert time.monotonic() < end, "the child is too slow"
        time.sleep(0.02)


def test_a_small_set_with_nothing_to_steer_by_is_taught_to_its_end(tmp_path: Path) -> None:
    """A split by hash may leave a small dataset without a val side; that is said, and no reason to refuse."""
    run = make_run(tmp_path, val=0)

    train(run, load_base(run.base_gguf()), encode(run))

    assert run.adapter.is_dir()
    assert not [event for event in run.events() if event.kind == "eval"]
