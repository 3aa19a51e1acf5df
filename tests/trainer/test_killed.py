"""A run killed at any moment goes on, and ends as if nothing had happened."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.trainer.folders import make_run
from tests.trainer.killing import MOMENTS, Moment
from tests.trainer.test_sft import losses
from trainer.__main__ import DONE, main
from trainer.evaluation import Evaluation
from trainer.rundir import RunDir

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
    pytest.mark.slow,
]


def a_run(folder: Path, precision: str = "float32") -> RunDir:
    return make_run(folder, evals_per_epoch=2, precision=precision)  # ten steps, a checkpoint at every second one


def taught(run: RunDir) -> RunDir:
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert main(["all", str(run.path)]) == DONE
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
    return run


def adapter(run: RunDir) -> bytes:
    return (run.adapter / "adapter_model.safetensors").read_bytes()


def ends_like(run: RunDir, whole: RunDir) -> bool:
    assert losses(run) == pytest.approx(losses(whole), abs=1e-5)
    assert run.model_gguf.read_bytes() == whole.model_gguf.read_bytes()
    assert judged(run) == judged(whole)
    return adapter(run) == adapter(whole)


def judged(run: RunDir) -> Evaluation:
    """Answer the evaluation without how long a part of it took."""
    found = run.evaluation()
    assert found is not None and found.rounded is not None
    return found.model_copy(update={"rounded": found.rounded.model_copy(update={"seconds": 0.0})})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    yield taught(a_run(tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("moment", MOMENTS, ids=str)
def test_killed_when(tmp_path: Path, whole: RunDir, moment: Moment) -> None:
    run = a_run(tmp_path)

    assert moment.kill(run) == -signal.SIGKILL
    assert run.result() is None
    taught(run)

    assert ends_like(run, whole)
    assert not list(run.path.rglob("*.part"))


def test_in_bfloat16_the_same_folder_gives_the_same_adapter_killed_or_not(tmp_path: Path) -> None:
    whole, again, killed = (a_run(tmp_path / name, "bfloat16") for name in ("whole", "again", "killed"))

    assert MOMENTS[4].kill(killed) == -signal.SIGKILL
    for run in (whole, again, killed):
        taught(run)

    assert ends_like(again, whole)
    assert ends_like(killed, whole)
