"""Several processes teach as one: the same course, one journal, one end; whoever dies takes the others along."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trainer.folders import make_run
from tests.trainer.killing import ROOT
from tests.trainer.test_dpo import preferences
from tests.trainer.test_kto import hold_out, judgements
from tests.trainer.test_sft import losses, teach, wait_for, weights
from trainer.__main__ import main
from trainer.failures import CANCELLED, DONE, FAILED, KILLED
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
PLAIN = {"dropout": 0}  # with it, columns are dropped by part, and the parts of several processes are others


def begun(run: RunDir) -> subprocess.Popen[bytes]:
    """Start to teach in as many processes as the recipe says."""
    line = [sys.executable, "-m", "trainer", "train", str(run.path)]
    with run.log_file.open("ab") as log:
        return subprocess.Popen(line, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)  # noqa: S603 - our own words


def ended(run: RunDir) -> int:
    return begun(run).wait(180)


def ranks(run: RunDir) -> list[int]:
    """The processes that teach, in their order, without the one that started them."""
    found: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, told = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(run.path).encode() in line and b"\0LOCAL_RANK=" in told:
            found[int(told.split(b"\0LOCAL_RANK=")[1][:1])] = int(folder.name)
    return [found[number] for number in sorted(found)]


def gone(run: RunDir, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while ranks(run) and time.monotonic() < end:
        time.sleep(0.05)
    return not ranks(run)


def same(one: RunDir, other: RunDir) -> bool:
    assert losses(other) == pytest.approx(losses(one), abs=1e-5)
    held_out = [{event.step: event.eval_loss for event in run.events() if event.kind == "eval"} for run in (one, other)]
    assert held_out[1] == pytest.approx(held_out[0], abs=1e-5)
    mine, theirs = weights(one), weights(other)
    return all((theirs[name] - weight).norm() <= 1e-3 * weight.norm() for name, weight in mine.items())


def test_two_processes_take_the_same_steps_as_one(tmp_path: Path) -> None:
    one, two = (make_run(tmp_path / str(n), train=21, processes=n, learning_rate=2e-3, lora=PLAIN) for n in (1, 2))
    teach(one)

    assert ended(two) == DONE, two.log_file.read_text()

    assert same(one, two)
    steps = [event.step for event in two.events() if event.kind == "step"]
    assert steps == list(range(1, 13)), "one of them writes"
    assert len([event for event in two.events() if event.kind == "checkpoint"]) == len(
        [event for event in one.events() if event.kind == "checkpoint"]
    )


def test_asked_to_stop_all_save_and_end_and_one_goes_on(tmp_path: Path) -> None:
    whole, stopped = (make_run(tmp_path / n, train=40, epochs=6, processes=2, lora=PLAIN) for n in ("whole", "stopped"))
    teach(whole)

    child = begun(stopped)
    wait_for(stopped, "step", child)
    os.killpg(child.pid, signal.SIGTERM)

    assert child.wait(60) == CANCELLED, stopped.log_file.read_text()
    assert [event.kind for event in stopped.events()][-2:] == ["checkpoint", "cancelled"]
    assert gone(stopped)
    teach(stopped)  # alone
    assert same(whole, stopped)


def test_whoever_is_killed_takes_the_others_along_and_the_run_goes_on(
    tmp_path: Path,
) -> None:
    whole, killed = (
        make_run(tmp_path / name, train=60, epochs=6, evals_per_epoch=3, processes=2, lora=PLAIN)
        for name in ("whole", "killed")
    )
    teach(whole)

    child = begun(killed)
    wait_for(killed, "checkpoint", child)
    os.kill(ranks(killed)[1], signal.SIGKILL)

    assert child.wait(120) == KILLED
    last = killed.events()[-1]
    assert last.kind == "failed" and "start the run again" in last.message
    assert gone(killed) and not killed.adapter.exists()

    reached, child = max(losses(killed)), begun(killed)
    while max(losses(killed)) <= reached + 3:
        assert child.poll() is None, killed.log_file.read_text()
        time.sleep(0.02)
    child.kill()  # the one that started them: none outlives it
    child.wait()

    assert gone(killed) and not killed.adapter.exists()
    teach(killed)
    assert same(whole, killed)


OUT_OF_MEMORY_IN_ONE = """
import os, sys
import trainer.teacher
from trainer.loss import answer_losses

number, calls = int(os.environ["RANK"]), []

def greedy(model, micro):
    calls.append(micro)
    if number == 1 and len(calls) == 3:
        raise MemoryError
    return answer_losses(model, micro)

trainer.teacher.answer_losses = greedy
from trainer.__main__ import main
sys.exit(main(["train", sys.argv[1]]))
"""


def test_launched_by_hand_all_go_on_with_less_when_one_runs_out_of_memory(tmp_path: Path) -> None:
    run, whole = (make_run(tmp_path / name, lora=PLAIN) for name in ("run", "whole"))
    teach(whole)
    script = tmp_path / "greedy.py"
    script.write_text(OUT_OF_MEMORY_IN_ONE)
    line = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]

    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, *line, str(script), str(run.path)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == DONE, done.stderr
    assert run.limits() is not None
    assert len([event for event in run.events() if event.kind == "warning"]) == 1
    assert same(whole, run)


def test_two_processes_learn_preferences_as_one_does(tmp_path: Path) -> None:
    one, two = (preferences(tmp_path / str(n), epochs=2, learning_rate=1e-3, lora=PLAIN) for n in (1, 2))
    teach(one)

    assert side_by_side(two) == [DONE, DONE]

    assert same(one, two)


def test_two_processes_learn_judgements_as_one_does(tmp_path: Path) -> None:
    one, two = (judgements(tmp_path / str(n), epochs=2, learning_rate=1e-3, lora=PLAIN) for n in (1, 2))
    for run in (one, two):
        hold_out(run, range(100, 106))
    teach(one)

    assert side_by_side(two) == [DONE, DONE]

    assert same(one, two)


def test_what_goes_wrong_in_one_is_told_by_the_one_that_writes(tmp_path: Path) -> None:
    run = make_run(tmp_path)

    assert side_by_side(run, no_room_in_the_second) == [FAILED, FAILED]

    (failed,) = [event for event in run.events() if event.kind == "failed"]
    assert failed.failure == "disk" and "Free some space" in failed.message


def no_room_in_the_second(number: int) -> None:
    from trainer import teacher

    def fails(*_arguments: object) -> None:
        raise OSError("No space left on device")

    if number == 1:
        teacher.answer_losses = fails  # type: ignore[assignment]


def side_by_side(run: RunDir, spoil: Callable[[int], None] | None = None) -> list[int | None]:
    """Teach in two processes that begin with the libraries loaded; nobody watches over them.

    `spoil` is called in each with its number and may break something there.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.sft", "trainer.dpo", "trainer.kto"])
    port = free_port()
    children = [context.Process(target=teach_as, args=(str(run.path), number, port, spoil)) for number in (0, 1)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    return [child.exitcode for child in children]


def teach_as(folder: str, number: int, port: int, spoil: Callable[[int], None] | None) -> None:
    as_rank(number, port)
    if spoil:
        spoil(number)
    sys.exit(main(["train", folder]))


def as_rank(number: int, port: int) -> None:
    """Tell this process, as a launcher would, which of two it is."""
    os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
