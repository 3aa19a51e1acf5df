"""What can go wrong while teaching is provoked for real, ends in a sentence, and leaves nothing half done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainer.folders import example, make_run
from tests.trainer.killing import ROOT
from tests.trainer.test_sft import losses, teach
from trainer import checkpoints
from trainer.__main__ import DONE, FAILED, main
from trainer.failures import TrainerFailure, explain
from trainer.guide import AWAY_BY, AWAY_FOR
from trainer.loss import answer_losses
from trainer.rundir import RunDir
from trainer.spec import Event

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]

# A first small run brings in whatever is loaded late; from then on the process may grow by so many MB only.
IN_LITTLE_MEMORY = """
import re, resource, sys
from pathlib import Path
from trainer.__main__ import main

warm, folder, spare = sys.argv[1:]
assert main(["train", warm]) == 0
size = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + (int(spare) << 20),) * 2)
sys.exit(main(["train", folder]))
"""
WITH_SMALL_FILES = """
import resource, sys
from trainer.__main__ import main

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
sys.exit(main(["train", sys.argv[1]]))
"""
# In a namespace of its own anybody may mount: a disk of 3 MB, all but full; then room is made on it.
ON_A_SMALL_DISK = """
set -e
mount -t tmpfs -o size=3m small "$2"
cp -r "$1"/. "$2"
head -c $(($(df --output=avail -B1 "$2" | tail -1) - 150000)) /dev/zero > "$2/ballast"
"$3" -m trainer train "$2" || echo $? > "$1/first"
ls "$2" "$2/checkpoints" > "$1/left"
rm "$2/ballast"
"$3" -m trainer train "$2"
cp -r "$2"/. "$1"
"""


def child(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", code, *map(str, arguments)]
    # otherwise glibc keeps what is freed for itself, and how much depends on the order of things
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
    return subprocess.run(  # noqa: S603  our own words
        line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def failed(run: RunDir) -> Event:
    return next(event for event in run.events() if event.kind == "failed")


def half_published(run: RunDir) -> list[str]:
    """Name what must not be there after a failure: an adapter, or a draft of anything."""
    return [str(file) for file in (run.adapter, *run.path.rglob("*.part")) if file.exists()]


def test_a_loss_that_runs_away_without_becoming_infinite_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, val=0, epochs=10)
    monkeypatch.setattr("trainer.teacher.answer_losses", higher_from(run, step=3))

    with pytest.raises(TrainerFailure, match="lower learning rate") as failure:
        teach(run)

    assert failure.value.failure == "diverged"
    assert max(losses(run)) == 3 + AWAY_FOR
    assert half_published(run) == []


def test_where_held_out_loss_is_measured_the_moment_before_it_ran_away_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, epochs=10, patience=1)
    monkeypatch.setattr("trainer.teacher.answer_losses", higher_from(run, step=3))
    monkeypatch.setattr("trainer.teacher.Teacher.held_out_loss", lambda _self: float(max(losses(run))))

    teach(run)

    name = "adapter_model.safetensors"
    assert max(losses(run)) == 4
    assert (run.adapter / name).read_bytes() == (run.checkpoints / "checkpoint-2" / name).read_bytes()


def higher_from(run: RunDir, step: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """Answer losses that are far too high after a step: an untaught model this small cannot do that by itself."""

    def found(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:  # Any: passed on as they are
        values, rows = answer_losses(*arguments)
        return values + 2 * AWAY_BY * (len(losses(run)) >= step), rows

    return found


@pytest.mark.slow
@pytest.mark.parametrize(("spare", "code"), [(650, DONE), (250, FAILED)])
def test_memory_that_really_runs_out_is_tried_once_more_with_half(tmp_path: Path, spare: int, code: int) -> None:
    """At once it takes between 750 and 1,000 MB, in halves between 400 and 550."""
    long = [example(number, "There are two ways to do that. " * 20) for number in range(128)]
    run = make_run(
        tmp_path / "run", train=0, examples=long, val=0, batch_size=128, max_steps=2, micro_tokens=1 << 16
    )  # fmt: skip
    warm = make_run(tmp_path / "warm", val=0, max_steps=1)

    ended = child(IN_LITTLE_MEMORY, warm.path, run.path, spare)

    assert ended.returncode == code, ended.stderr
    limits = run.limits()
    assert limits is not None and limits.micro_tokens == 1 << 15
    assert [event.message for event in run.events() if event.kind == "warning"] == [
        "The machine ran out of memory. Going on from the last checkpoint with less at once."
    ]
    if code == FAILED:
        assert failed(run).failure == "memory"
        assert "choose a smaller base or shorter examples" in failed(run).message
        assert half_published(run) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [60_000, 200_000], ids=["in the adapter", "in the optimiser"])
def test_a_checkpoint_that_does_not_fit_on_the_disk_is_none(tmp_path: Path, size: int) -> None:
    run, whole = (make_run(tmp_path / name, max_steps=4, val=0) for name in ("run", "whole"))

    ended = child(WITH_SMALL_FILES, run.path, size)

    assert ended.returncode == FAILED, ended.stderr
    assert failed(run).failure == "disk"
    assert "Free some space and start the run again" in failed(run).message
    assert half_published(run) == []
    assert checkpoints.newest(run.checkpoints) is None
    teach(run)
    teach(whole)
    assert losses(run) == losses(whole)


@pytest.mark.slow
def test_on_a_full_disk_a_run_fails_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False).returncode:  # noqa: S603
        pytest.skip("This system lets nobody mount in a namespace of their own.")
    run, disk = make_run(tmp_path / "run", max_steps=4, val=0), tmp_path / "disk"
    disk.mkdir()

    line = [*namespace, "sh", "-c", ON_A_SMALL_DISK, "sh", str(run.path), str(disk), sys.executable]
    ended = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603  our own words

    assert ended.returncode == DONE, ended.stderr
    assert (run.path / "first").read_text().strip() == str(FAILED)
    assert "adapter" not in (run.path / "left").read_text().split()
    assert "The disk is full or cannot be written." in ended.stderr
    assert sorted(losses(run)) == [1, 2, 3, 4]
    assert run.adapter.is_dir()


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: CUDA driver version is insufficient for CUDA runtime version"),
        RuntimeError("The NVIDIA driver on your system is too old (found version 11040)."),
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
    ],
)
def test_a_graphics_card_that_fails_is_told_from_an_error_of_ours(error: Exception) -> None:
    failure, sentence = explain(error)

    assert failure == "internal"
    assert "graphics card" in sentence and "CUDA_VISIBLE_DEVICES" in sentence and sentence.endswith(".")


def test_a_card_that_fails_in_mid_step_ends_the_run_and_it_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole = (make_run(tmp_path / name, max_steps=6, evals_per_epoch=4) for name in ("run", "whole"))
    teach(whole)

    def fails(*arguments: Any) -> tuple[torch.Tensor, torch.Tensor]:  # Any: passed on as they are
        if len(losses(run)) == 3:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return answer_losses(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("trainer.teacher.answer_losses", fails)
        assert main(["train", str(run.path)]) == FAILED
    assert failed(run).failure == "internal"
    assert "The graphics card or its driver failed (CUDA error: an illegal memory access" in failed(run).message
    assert half_published(run) == []

    assert main(["train", str(run.path)]) == DONE
    assert losses(run) == pytest.approx(losses(whole), abs=1e-5)


def test_a_graphics_card_without_memory_is_out_of_memory() -> None:
    assert explain(RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB."))[0] == "memory"


@pytest.mark.parametrize("line", [b'{"id": "r1", "messages"', b'{"id": "r1", "group": "g"}', b'{"id": "\xff"}'])
def test_an_example_that_cannot_be_read_is_named_by_its_line(tmp_path: Path, line: bytes) -> None:
    run = make_run(tmp_path)
    with run.split_file("train").open("ab") as file:
        file.write(line + b"\n")

    with pytest.raises(TrainerFailure, match=r"Line 21 of train.jsonl cannot be read") as failure:
        teach(run)

    assert failure.value.failure == "input"
