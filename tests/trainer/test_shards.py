"""A base that is spread over several processes learns as a whole one, and whatever happens to one is met by all."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from tests.trainer.folders import example, make_run
from tests.trainer.killing import ROOT
from tests.trainer.test_dpo import pair
from tests.trainer.test_kto import KINDS, hold_out
from tests.trainer.test_main import failed
from tests.trainer.test_sft import losses, teach, wait_for
from tests.trainer.test_together import PLAIN, as_rank, begun, free_port, gone, ranks, same, side_by_side
from tests.trainer.tiny import write_tiny_llama_gguf
from tests.trainer.tiny_archs import MODELS
from tests.trainer.tiny_models import LINEAR, tiny
from trainer import shards
from trainer.__main__ import main
from trainer.failures import CANCELLED, DONE, FAILED, KILLED, Cancelled, TrainerFailure
from trainer.fitting import fit, memory_needed
from trainer.hardware import Hardware
from trainer.loading import load_base
from trainer.ranks import Rank
from trainer.rundir import RunDir, write_lines, write_model
from trainer.shards import blocks_of, bytes_held, load_sharded, wants_shards
from trainer.team import Team

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]
LAYERS = 5  # more than there are buffers, and odd, so that the last and the first block take the same one


def spread_run(folder: Path, **options: Any) -> RunDir:  # Any: fields of TrainSpec, which validates them
    """Write a run with very unequal examples, whose last batch has one; some processes have parts and others none."""
    folder.mkdir(parents=True)
    base = write_tiny_llama_gguf(folder / "base.gguf", layers=LAYERS)
    unequal = [example(500 + n, "There are two ways to do that. " * (1 + 6 * n)) for n in range(5)]
    usual: dict[str, Any] = {  # Any: as above
        "train": 16, "examples": unequal, "val": 5, "base": base, "learning_rate": 2e-3, "lora": PLAIN,
        "micro_tokens": 128, "processes": 2, "sharding": "on",
    }  # fmt: skip
    return make_run(folder, **usual | options)


def was_spread(run: RunDir) -> bool:
    return any(event.message.startswith("The base is spread over 2 processes") for event in run.events())


@pytest.mark.slow
@pytest.mark.parametrize(
    "asked", [{"sharding": "on"}, {"sharding": "on", "checkpointing": "on"}], ids=["once", "activations twice"]
)
def test_a_spread_base_takes_the_same_steps_as_a_whole_one(tmp_path: Path, asked: dict[str, str]) -> None:
    one, two = (spread_run(tmp_path / name, **asked) for name in ("one", "two"))
    teach(one)

    assert side_by_side(two) == [DONE, DONE]

    assert same(one, two) and was_spread(two)
    assert sorted(losses(two)) == list(range(1, 13))
    files = [sorted(file.name for file in (run.checkpoints / "checkpoint-12").iterdir()) for run in (one, two)]
    assert files[0] == files[1]


@pytest.mark.slow
def test_judgements_are_learnt_by_a_spread_base_as_by_a_whole_one(tmp_path: Path) -> None:
    one, two = (spread_run(tmp_path / name, **KINDS, learning_rate=1e-3, epochs=2) for name in ("one", "two"))
    for run in (one, two):
        hold_out(run, range(100, 105))
    teach(one)

    assert side_by_side(two) == [DONE, DONE]

    assert same(one, two) and was_spread(two)
    assert any(event.kind == "eval" for event in two.events())


@pytest.mark.slow
def test_accelerate_launch_asks_for_it_as_well(tmp_path: Path) -> None:
    run, whole = (spread_run(tmp_path / name, sharding="off", max_steps=4, val=0) for name in ("run", "whole"))
    teach(whole)
    line = ["-m", "accelerate.commands.launch", "--use_fsdp", "--num_processes", "2", "--main_process_port", "0"]

    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, *line, "-m", "trainer", "train", str(run.path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == DONE, done.stderr
    assert same(whole, run) and was_spread(run)


@pytest.mark.slow
def test_preferences_are_learnt_by_a_spread_base_as_by_a_whole_one(tmp_path: Path) -> None:
    one, two = (
        spread_run(
            tmp_path / name, method="dpo", train=0, examples=[pair(n) for n in range(13)], learning_rate=1e-3, epochs=2
        )
        for name in ("one", "two")
    )
    for run in (one, two):
        write_lines(run.split_file("val"), [pair(n) for n in range(1000, 1003)])
    teach(one)

    assert side_by_side(two) == [DONE, DONE]

    assert same(one, two) and was_spread(two)
    assert any(event.kind == "eval" for event in two.events())


@pytest.mark.slow
def test_asked_to_stop_all_save_and_one_goes_on_with_the_whole_base(tmp_path: Path) -> None:
    whole, stopped = (spread_run(tmp_path / name, epochs=4) for name in ("whole", "stopped"))
    teach(whole)

    child = begun(stopped)
    wait_for(stopped, "step", child)
    os.killpg(child.pid, signal.SIGTERM)

    assert child.wait(60) == CANCELLED, stopped.log_file.read_text()
    assert [event.kind for event in stopped.events()][-2:] == ["checkpoint", "cancelled"]
    assert gone(stopped) and was_spread(stopped)
    teach(stopped)  # alone
    assert same(whole, stopped)


@pytest.mark.slow
def test_a_run_that_one_began_goes_on_spread_over_two_after_one_of_them_was_killed(tmp_path: Path) -> None:
    whole, killed = (spread_run(tmp_path / name, epochs=5) for name in ("whole", "killed"))
    teach(whole)
    with pytest.raises(Cancelled):
        teach(killed, lambda: len(losses(killed)) >= 3)

    child = begun(killed)
    while max(losses(killed)) < 10:
        assert child.poll() is None, killed.log_file.read_text()
        time.sleep(0.02)
    os.kill(ranks(killed)[1], signal.SIGKILL)

    assert child.wait(120) == KILLED
    assert "start the run again" in killed.events()[-1].message
    assert gone(killed) and not killed.adapter.exists()
    assert side_by_side(killed) == [DONE, DONE]
    assert same(whole, killed) and was_spread(killed)


def out_of_memory_forth(number: int) -> None:
    """Let the second process run out of memory inside its third block, on the way forth through its second part."""
    fails_once(number, "attend", 8)


def out_of_memory_back(number: int) -> None:
    """The same on the way back, where the others are far ahead or behind."""
    fails_once(number, "backward", 7)


def fails_once(number: int, name: str, call: int) -> None:
    from trainer import fast_layers

    owner: Any = vars(fast_layers)["_SwiGlu"] if name == "backward" else fast_layers  # Any: to be patched
    known, calls = getattr(owner, name), []

    def fails(*arguments: Any) -> Any:  # Any: passed on as they are
        calls.append(1)
        if len(calls) == call:
            raise MemoryError
        return known(*arguments)

    if number == 1:
        setattr(owner, name, fails)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [out_of_memory_forth, out_of_memory_back])
def test_one_that_runs_out_of_memory_inside_a_block_meets_the_others_and_all_go_on_with_less(
    tmp_path: Path, spoil: Callable[[int], None]
) -> None:
    whole, run = (spread_run(tmp_path / name) for name in ("whole", "run"))
    teach(whole)

    assert side_by_side(run, spoil) == [DONE, DONE]

    assert run.limits() is not None
    assert len([event for event in run.events() if event.kind == "warning"]) == 1
    assert same(whole, run) and was_spread(run)


def no_room_inside_a_block(number: int) -> None:
    from trainer import fast_layers

    def fails(*_arguments: object) -> None:
        raise OSError("No space left on device")

    if number == 0:
        fast_layers.attend = fails  # type: ignore[assignment]


@pytest.mark.slow
def test_what_goes_wrong_in_one_ends_all_with_its_sentence(tmp_path: Path) -> None:
    run = spread_run(tmp_path / "run")

    assert side_by_side(run, no_room_inside_a_block) == [FAILED, FAILED]

    assert failed(run).failure == "disk" and "Free some space" in failed(run).message


@pytest.mark.slow
def test_each_process_holds_half_of_the_blocks(tmp_path: Path) -> None:
    base = write_tiny_llama_gguf(tmp_path / "big.gguf", layers=16, hidden=128, ffn=512)
    run = make_run(tmp_path / "run", base=base, sharding="on")

    found = in_two_processes(tmp_path, measure, str(run.path))

    model = load_base(run.base_gguf()).model
    blocks = sum(weight.nbytes for block in blocks_of(model) for weight in block.parameters())
    outside = sum(weight.nbytes for weight in model.parameters()) - blocks
    for one in found:
        assert one["slices"] == pytest.approx(blocks / 2, rel=0.02)
        assert one["all tensors"] == pytest.approx(outside + blocks / 2 + 2 * blocks / 16, rel=0.02)
        assert one["all tensors"] == pytest.approx(bytes_held(model, 2), rel=0.02)
    assert bytes_held(model, 1) == blocks + outside


def measure(_number: int, team: Team, folder: str) -> dict[str, float]:
    """Answer the bytes of slices, and of whatever else this process keeps in tensors."""
    run = RunDir(Path(folder))
    base = load_sharded(run, team)
    gc.collect()
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in gc.get_objects()
        if issubclass(type(tensor), torch.Tensor)
    }
    assert base.shards
    assert load_base(run.base_gguf()).model is not base.model, "a later stage gets a base of its own"
    return {"slices": base.shards.nbytes, "all tensors": sum(storages.values())}


@pytest.mark.slow
def test_every_architecture_learns_the_same_when_it_is_spread(tmp_path: Path) -> None:
    for gaps in in_two_processes(tmp_path, compare_gradients, ""):
        assert set(gaps) == {f"{arch}, {way}" for arch in MODELS for way in ("once", "twice")}
        assert {name: gap for name, gap in gaps.items() if not gap <= 1e-5} == {}


def compare_gradients(number: int, team: Team, _argument: str) -> dict[str, float]:
    """Answer how far the gradients of a spread model are from those of a whole one, as a share of their size."""
    shards.BUFFERS = 1  # the tiny ones have two blocks, which shall take turns
    found: dict[str, float] = {}
    for arch in MODELS:
        for way in ("once", "twice"):
            whole, spread = tiny(arch), shards.spread(tiny(arch) if number == 0 else None, team)
            right = gradients(whole, lambda learn: learn(), twice=way == "twice")
            mine = gradients(
                spread.model, lambda learn, all=spread: all.walked(learn, 2, back=True), twice=way == "twice"
            )
            gap = max(float((mine[name] - other).norm() / other.norm()) for name, other in right.items())
            found[f"{arch}, {way}"] = gap if len(mine) == len(right) else float("inf")
    return found


def gradients(
    base: Any,
    through: Callable[[Callable[[], None]], None],
    *,
    twice: bool,  # Any: one of many classes
) -> dict[str, torch.Tensor]:
    from peft import LoraConfig, get_peft_model
    from transformers.pytorch_utils import Conv1D

    from trainer.batches import Micro
    from trainer.fast_layers import speed_up
    from trainer.loss import answer_losses

    torch.manual_seed(3)
    layers = sorted({name.split(".")[-1] for name, _ in base.named_modules() if LINEAR.search(name)})
    across = any(isinstance(layer, Conv1D) for layer in base.modules())
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=layers, fan_in_fan_out=across))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    if twice:
        model.enable_input_require_grads()
        base.activation_checkpointing_enable({"use_reentrant": False})
    speed_up(model)
    model.train()  # there is no dropout
    ids = torch.randint(3, 384, (2, 12))

    def learn() -> None:
        for _ in range(2):
            answer_losses(model, Micro(ids, ids))[0].sum().backward()

    through(learn)
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def in_two_processes(folder: Path, work: Callable[[int, Team, str], Any], argument: str) -> list[Any]:
    """Do some work in two processes that have met, and answer what each found."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.sft", "trainer.dpo", "trainer.kto"])
    port, files = free_port(), [folder / f"{number}.json" for number in (0, 1)]
    children = [
        context.Process(target=met, args=(number, port, work, argument, str(file))) for number, file in enumerate(files)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(180)
    assert [child.exitcode for child in children] == [0, 0]
    return [json.loads(file.read_text()) for file in files]


def met(number: int, port: int, work: Callable[[int, Team, str], Any], argument: str, file: str) -> None:
    from trainer.ranks import rank_of_this_process
    from trainer.team import joined, never

    as_rank(number, port)
    torch.set_num_threads(1)
    with joined(rank_of_this_process(), never) as team:
        Path(file).write_text(json.dumps(work(number, team, argument)))


def test_a_base_that_fits_on_no_card_fits_on_several(tmp_path: Path) -> None:
    run = make_run(tmp_path, base=write_tiny_llama_gguf(tmp_path / "base.gguf", layers=16))
    model, spec = load_base(run.base_gguf()).model, run.spec()
    whole, spread = (memory_needed(model, 64, checkpointing=True, processes=n) for n in (1, 4))
    assert spread < whole

    def way(free: int, processes: int = 4, **asked: object) -> tuple[bool, bool]:
        card = Hardware("cuda", "bfloat16", 1, free, free, "a card")
        found = fit(model, spec.model_copy(update=asked), 64, processes, card)
        return found.checkpointing, found.sharded

    assert way(whole) == (True, False), "as long as it fits on each, none waits for the others"
    assert way(whole - 1) == way(spread) == (True, True)
    assert way(1 << 40) == (False, False)
    assert way(1 << 40, sharding="on") == (False, True)
    assert way(spread, processes=1, sharding="on") == (True, False), "alone there is nobody to share with"
    assert way(spread, sharding="off") == way(spread, base_bits=4) == (True, False)
    processor = Hardware("cpu", "float32", 1, 4 * whole, 4 * whole, "CPU")
    assert fit(model, spec, 64, 4, processor).memory == 4 * whole, "a processor's memory is for all of them"


def test_the_plan_tells_when_the_base_has_to_be_spread_and_all_follow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, full = make_run(tmp_path, processes=2), Hardware("cpu", "float32", 1, 1 << 30, 1, "CPU")
    monkeypatch.setattr("trainer.plan.detect", Mock(return_value=full))
    assert not wants_shards(run, Rank(of=2)), "nothing says so yet"

    assert main(["plan", str(run.path)]) == DONE

    found = run.plan()
    assert found and found.sharded and found.checkpointing
    assert any("each card holds a share of the base" in event.message for event in run.events())
    assert wants_shards(run, Rank(of=2)) and not wants_shards(run, Rank())
    write_model(run.spec_file, run.spec().model_copy(update={"sharding": "off"}))
    assert not wants_shards(run, Rank(of=2))
    assert wants_shards(run, Rank(of=2, fsdp=True)), "accelerate launch --use_fsdp asks for it"


def test_a_base_in_four_bits_is_not_spread_and_a_sentence_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path, base_bits=4, sharding="on")

    assert main(["plan", str(run.path)]) == FAILED

    assert failed(run).failure == "input" and "does not go together" in failed(run).message
    write_model(run.spec_file, run.spec().model_copy(update={"sharding": "auto"}))
    with pytest.raises(TrainerFailure, match="leave --use_fsdp away"):
        wants_shards(run, Rank(of=2, fsdp=True))
