"""Teach with LoRA by any method, from wherever the run stands to its best adapter."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from transformers import TrainerState

from trainer import checkpoints
from trainer.allocator import hand_memory_back, keep_freed_memory
from trainer.encoded import EncodedRun
from trainer.failures import Cancelled, TrainerFailure, explain
from trainer.fast_layers import release
from trainer.guide import Guide, is_settled
from trainer.hardware import detect
from trainer.loading import Base
from trainer.progress import Journal
from trainer.recipe import Method, TrainSpec
from trainer.rundir import MICRO_TOKENS, RunDir, folder_written_whole
from trainer.spec import Limits
from trainer.teacher import Teacher
from trainer.team import Team

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def train(run: RunDir, base: Base, data: EncodedRun, team: Team | None = None) -> None:
    """Teach the base and leave the best adapter in the run folder; goes on from the newest complete checkpoint.

    When memory runs out it goes on once with half as many tokens at a time, which changes no step: only in how many
    parts it is taken. Without a team this process teaches alone.
    """
    team = team or Team()
    try:
        _teach(run, base, data, team)
    except (MemoryError, RuntimeError, TrainerFailure) as error:
        if explain(error)[0] != "memory" or not team.lead("less", lambda: run.take_less_at_once()):
            raise
        message = "The machine ran out of memory. Going on from the last checkpoint with less at once."
    else:
        return
    Journal(run, "train", silent=not team.rank.leads).warn(message)
    hand_memory_back()
    _teach(run, base, data, team)


def limits_of(run: RunDir) -> Limits:
    """Answer how much may go through the model at once: what the run has learnt, else the spec, else what is usual."""
    spec, plan = run.spec(), run.plan()
    wanted = spec.checkpointing == "on" or (spec.checkpointing == "auto" and bool(plan and plan.checkpointing))
    return run.limits() or Limits(micro_tokens=spec.micro_tokens or MICRO_TOKENS, checkpointing=wanted)


def _teach(run: RunDir, base: Base, data: EncodedRun, team: Team) -> None:
    spec = run.spec()
    torch.set_num_threads(max(1, detect(spec.threads).threads // team.rank.here))
    journal = Journal(run, "train", silent=not team.rank.leads)
    guide = Guide(spec, len(data.train), journal, team.stop, held_out=bool(data.splits["val"]))
    start = team.lead("start", lambda: _newest(run))
    teacher = team.together(
        "model",
        lambda: _teacher(spec.method)(
            base, spec, data, run.checkpoints, limits_of(run), _start(run, spec), team, callbacks=[guide]
        ),
    )
    guide.tokens_seen = lambda: teacher.tokens_seen
    keep_freed_memory()
    journal.stage(f"Learning from {len(data.train)} examples.")
    try:
        teacher.begin()
        if start and _is_over(start, spec, spec.steps(len(data.train))):
            state = _state(start)
        else:
            if start:
                journal.stage(f"Going on from step {checkpoints.step_of(start)}.")
            journal.begin(checkpoints.step_of(start) if start else 0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                teacher.train(resume_from_checkpoint=str(start) if start else None)
            state = teacher.state
            if team.stop() and not _over(state, spec):
                raise Cancelled
        step = state.best_global_step or state.global_step
        team.lead("adapter", lambda: _keep(run, step))
    finally:
        # the base goes back as it was, so that a later stage of the same process can use it
        base.model.activation_checkpointing_disable()
        release(cast(PeftModel, teacher.model))
        hand_memory_back()


def _newest(run: RunDir) -> Path | None:
    run.checkpoints.mkdir(exist_ok=True)
    return checkpoints.newest(run.checkpoints)


def _keep(run: RunDir, step: int) -> None:
    """Let the adapter of a step be the one that the run ends with."""
    best = run.checkpoints / f"checkpoint-{step}"
    if not checkpoints.is_complete(best):
        raise TrainerFailure("disk", f"The best checkpoint, of step {step}, is damaged. Start a new run.")
    with folder_written_whole(run.adapter) as draft:
        for name in ADAPTER_FILES:
            shutil.copyfile(best / name, draft / name)


def _teacher(method: Method) -> type[Teacher]:
    if method == "sft":
        return Teacher
    if method == "dpo":
        from trainer.dpo import PreferenceTeacher

        return PreferenceTeacher
    from trainer.kto import JudgementTeacher

    return JudgementTeacher


def _start(run: RunDir, spec: TrainSpec) -> Path | None:
    """Answer the adapter to go on from, or say that it cannot be gone on from."""
    if spec.continues is None:
        return None
    config = run.start / "adapter_config.json"
    if not config.is_file() or not (run.start / "adapter_model.safetensors").is_file():
        raise TrainerFailure(
            "input", f"The adapter of version {spec.continues} is not in the run folder (start/). Start a new run."
        )
    known = json.loads(config.read_text(encoding="utf-8"))
    shape = (known.get("r"), known.get("lora_alpha"), set(known.get("target_modules") or ()))
    if shape != (spec.lora.rank, spec.lora.alpha, set(spec.lora.target_modules)):
        raise TrainerFailure(
            "input",
            f"Version {spec.continues} was taught with rank {known.get('r')} and other layers or another scale than "
            f"this recipe asks for (rank {spec.lora.rank}). Use the same, or start from the base.",
        )
    return run.start


def _over(state: TrainerState, spec: TrainSpec) -> bool:
    return state.global_step >= state.max_steps or is_settled(state, spec.patience)


def _is_over(folder: Path, spec: TrainSpec, steps: int) -> bool:
    state = _state(folder)
    return state.global_step >= steps or is_settled(state, spec.patience)


def _state(folder: Path) -> TrainerState:
    return TrainerState.load_from_json(str(folder / "trainer_state.json"))
