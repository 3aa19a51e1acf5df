"""Sum a finished run up as result.json does."""

from __future__ import annotations

from itertools import pairwise

from trainer.evaluation import Evaluation
from trainer.rundir import RunDir, sha256_of
from trainer.spec import MATERIAL, RunResult

FILES = (
    "plan.json",
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "adapter.gguf",
    "model.gguf",
    "evaluation.json",
)


def result_of(run: RunDir, evaluation: Evaluation) -> RunResult:
    """Answer the result of a run whose files are all there."""
    seconds, speed, step = _course(run)
    best = min(
        ((e.eval_loss, e.step) for e in run.events() if e.kind == "eval" and e.eval_loss is not None),
        default=(None, None),
        key=lambda pair: pair[0],
    )
    plan = run.plan()
    asked = len(evaluation.questions)
    examples = plan.examples["train"] if plan else len(run.examples("train"))
    material = MATERIAL[run.spec().method]
    return RunResult(
        status="finished",
        message=f"Learnt from {examples} {material} in {_duration(seconds)}. On {asked} questions it never saw: "
        f"better on {evaluation.better}, same on {evaluation.same}, worse on {evaluation.worse}.",
        examples=examples,
        steps=step,
        best_step=best[1],
        best_val_loss=best[0],
        train_seconds=round(seconds, 1),
        tokens_per_second=speed,
        files={name: sha256_of(run.path / name) for name in FILES if (run.path / name).exists()},
    )


def _course(run: RunDir) -> tuple[float, float, int]:
    """Answer the seconds spent learning (a pause between two starts does not count), the last speed, the last step."""
    events = [event for event in run.events() if event.stage == "train"]
    seconds = sum(
        (later.at - earlier.at).total_seconds() for earlier, later in pairwise(events) if later.kind != "stage"
    )
    steps = [event for event in events if event.kind == "step"]
    last = steps[-1] if steps else None
    return seconds, (last.tokens_per_second or 0.0) if last else 0.0, (last.step or 0) if last else 0


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
