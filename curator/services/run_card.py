"""The run card: what came of a run, in an expert's words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.models import Json, Run
from trainer.rundir import RunDir
from trainer.spec import Check, Evaluation, RunResult


@dataclass(frozen=True)
class RunCard:
    """The figures of a finished run. Losses are nats per answer token on questions it never saw."""

    examples: int
    minutes: float
    asked: int
    better: int
    same: int
    worse: int
    old_loss: float
    new_loss: float
    pins: int
    old_pins: int
    new_pins: int
    stops: int
    stops_asked: int
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Tell whether every check of the gate passed."""
        return all(check.passed for check in self.checks)

    @property
    def sentence(self) -> str:
        """Say it in English; the parts are there for other languages."""
        words = [
            f"Learnt from {self.examples} approved answers in {duration(self.minutes)}.",
            f"On {self.asked} questions it never saw: better on {self.better}, same on {self.same}, "
            f"worse on {self.worse}.",
        ]
        if self.pins:
            words.append(f"Pinned questions right: {self.new_pins} of {self.pins}, before {self.old_pins}.")
        if not self.passed:
            failed = "; ".join(check.detail.rstrip(".") for check in self.checks if not check.passed)
            words.append(f"Not good enough yet: {failed}.")
        return " ".join(words)


def duration(minutes: float) -> str:
    """Say a time as people do: under two minutes in seconds."""
    return f"{minutes * 60:.0f} s" if minutes < 2 else f"{minutes:.0f} min"


def figures(result: RunResult, evaluation: Evaluation) -> Json:
    """Answer what `Run.card` keeps, so that lists of runs open no files."""
    return {
        "examples": result.examples,
        "minutes": result.train_seconds / 60,
        "asked": evaluation.better + evaluation.same + evaluation.worse,
        "better": evaluation.better,
        "same": evaluation.same,
        "worse": evaluation.worse,
        "old_loss": evaluation.old_loss,
        "new_loss": evaluation.new_loss,
        "pins": len(evaluation.pins),
        "old_pins": evaluation.old_pins,
        "new_pins": evaluation.new_pins,
        "stops": evaluation.stops,
        "stops_asked": evaluation.stops_asked,
        "checks": [check.model_dump() for check in evaluation.checks],
    }


def card(run: Run) -> RunCard | None:
    """Answer the card of a finished run, None before that."""
    if not run.card:
        return None
    values: dict[str, Any] = dict(run.card)  # decoded JSON
    values["checks"] = tuple(Check.model_validate(check) for check in values["checks"])
    return RunCard(**values)


def evaluation(run: Run) -> Evaluation | None:
    """Answer every question that was asked with both answers, None before the evaluation."""
    return RunDir(Path(run.folder)).evaluation() if run.folder else None
