"""The command line: stages in order, exit codes, and a sentence for every end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trainer.folders import make_run
from tests.trainer.test_sft import wait_for
from trainer.__main__ import CANCELLED, DONE, FAILED, MISUSED, main
from trainer.failures import explain
from trainer.rundir import RunDir
from trainer.spec import Event, Example, Message

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def kept_signals() -> object:
    """main() takes over the signals of its process; give them back to pytest."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def failed(run: RunDir) -> Event:
    return next(event for event in run.events() if event.kind == "failed")


def test_plan_shows_lengths_time_and_one_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(tmp_path)

    assert main(["plan", str(run.path)]) == DONE

    plan, said = run.plan(), capsys.readouterr().out
    assert plan is not None
    assert plan.examples == {"train": 20, "val": 4, "test": 4}
    assert plan.steps == 10
    assert plan.end_of_turn == "<|im_end|>"
    assert sum(count for _, count in plan.histogram) == 20
    assert 0 < plan.answer_tokens < plan.total_tokens
    assert plan.estimated_seconds > 0
    assert "".join(span.text for span in plan.example if span.trained).endswith("<|im_end|>")
    assert said.count("⟦") == 2  # in the legend, and before the one answer
    assert "10 steps" in said
    assert plan.memory > 600e6
    assert f"needs about {plan.memory / 1e9:.1f} GB" in said


def test_plan_shows_every_answer_that_is_taught_where_it_stands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ("First?", "One way.", "Second?", "Yes.")
    turns = [Message(role="assistant" if n % 2 else "user", content=text) for n, text in enumerate(texts)]
    run = make_run(tmp_path, train=0, examples=[Example(id="x", group="x", messages=turns)], turns="all")

    assert main(["plan", str(run.path)]) == DONE

    said = capsys.readouterr().out
    assert said.index("First?") < said.index("⟦One way.") < said.index("Second?") < said.index("⟦Yes.")


@pytest.mark.parametrize("asked", ["auto", "float32"])
def test_the_plan_decides_the_precision_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setattr("trainer.plan.faster_precision", lambda _threads: "bfloat16")
    run = make_run(tmp_path, max_steps=1, precision=asked)
    assert run.precision() == "float32"

    assert main(["plan", str(run.path)]) == DONE
    assert main(["train", str(run.path)]) == DONE

    assert run.precision() == ("bfloat16" if asked == "auto" else "float32")


def test_all_goes_through_the_stages_and_then_has_nothing_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path, max_steps=2)

    assert main(["all", str(run.path)]) == DONE
    result = run.result()
    assert result is not None
    assert result.status == "finished"
    assert result.steps == 2
    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*")}

    assert main(["all", str(run.path)]) == DONE
    assert {file: file.stat().st_mtime_ns for file in run.path.rglob("*")} == before


def test_sigterm_saves_a_checkpoint_and_ends_with_its_own_code(tmp_path: Path) -> None:
    run = make_run(tmp_path, train=200, epochs=50)
    child = subprocess.Popen([sys.executable, "-m", "trainer", "train", str(run.path)], cwd=ROOT)  # noqa: S603 - our own words
    wait_for(run, "step", child)

    os.kill(child.pid, signal.SIGTERM)

    assert child.wait(60) == CANCELLED
    kinds = [event.kind for event in run.events()]
    assert kinds[-2:] == ["checkpoint", "cancelled"]
    assert run.result() is None


def test_a_base_that_changed_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    data = run.base_gguf().read_bytes()
    run.base_gguf().write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    assert main(["train", str(run.path)]) == FAILED

    assert failed(run).failure == "base"
    assert "content has changed" in failed(run).message


def test_a_base_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.base_gguf().write_text("<html>404</html>")

    assert main(["plan", str(run.path)]) == FAILED
    assert failed(run).failure == "base"
    assert "is not a GGUF file" in failed(run).message


def test_a_full_disk_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path, max_steps=2)

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainer.checkpoints.sync_files", full)

    assert main(["train", str(run.path)]) == FAILED
    assert failed(run).failure == "disk"
    assert "Free some space" in failed(run).message
    assert not run.adapter.exists()


def test_converting_without_an_adapter_says_what_to_do(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    assert main(["convert", str(run.path)]) == FAILED
    assert failed(run).message == "There is no adapter to convert yet. Train first."


def test_a_folder_that_is_no_run_is_a_wrong_call(tmp_path: Path) -> None:
    assert main(["plan", str(tmp_path)]) == MISUSED


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), "memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "memory"),
        (RuntimeError("could not create a primitive"), "memory"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk"),
        (RuntimeError("PytorchStreamWriter failed writing file data/0"), "disk"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 640 vs 598"), "disk"),
        (ZeroDivisionError("x"), "internal"),
    ],
)
def test_every_error_has_a_class_and_a_full_sentence(error: Exception, failure: str) -> None:
    found, sentence = explain(error)

    assert found == failure
    assert sentence.endswith(".")
    assert len(sentence.split()) > 10
