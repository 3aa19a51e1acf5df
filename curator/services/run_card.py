"""The run card: what came of a run, in an expert's words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from db.models import Json, ModelVersion, Run
from trainer.evaluation import Check, Evaluation, Knowledge, Rounded, Totals
from trainer.recipe import Method
from trainer.rundir import RunDir
from trainer.spec import MATERIAL, RunResult

PARTS = {"old": Totals, "new": Totals, "approved": Totals, "knowledge": Knowledge, "rounded": Rounded}
ALIKE = 0.1  # lengths within a tenth of each other are about the same


@dataclass(frozen=True)
class RunCard:
    """The figures of a finished run. Losses are nats per answer token on questions it never saw.

    `old`, `new` and `approved` sum up what answers are like; they, `knowledge` and `rounded` are None for runs of
    before they were measured.
    """

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
    old: Totals | None = None
    new: Totals | None = None
    approved: Totals | None = None
    knowledge: Knowledge | None = None
    rounded: Rounded | None = None
    method: Method = "sft"

    @property
    def passed(self) -> bool:
        """Tell whether nothing in the gate keeps the version back."""
        return not any(check.blocks for check in self.checks)

    @property
    def servable(self) -> bool:
        """Tell whether the version may be loaded at all, if only for a reason."""
        return not any(check.forbids for check in self.checks)

    @property
    def length(self) -> Literal["shorter", "longer", "same"] | None:
        """Tell how the answers' length changed; None when nobody counted, or where nothing was said before or now."""
        if self.old is None or self.new is None or not (self.old.characters and self.new.characters):
            return None
        if abs(self.new.characters - self.old.characters) <= ALIKE * self.old.characters:
            return "same"
        return "shorter" if self.new.characters < self.old.characters else "longer"

    @property
    def sentence(self) -> str:
        """Say it in English; the parts are there for other languages."""
        words = [
            f"Learnt from {self.examples} {MATERIAL[self.method]} in {duration(self.minutes)}.",
            f"On {self.asked} questions it never saw: better on {self.better}, same on {self.same}, "
            f"worse on {self.worse}.",
        ]
        if self.pins:
            words.append(f"Pinned questions right: {self.new_pins} of {self.pins}, before {self.old_pins}.")
        if self.old and self.new and self.old.overlap is not None and self.new.overlap is not None:
            now, before = self.new.overlap, self.old.overlap
            words.append(f"Nearness to approved answers: {now:.0f} of 100, before {before:.0f}.")
        if self.knowledge:
            words.append(f"Still knows {self.knowledge.kept} of {self.knowledge.before} general questions.")
        if not self.passed:
            failed = "; ".join(check.detail.rstrip(".") for check in self.checks if check.blocks)
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
        **{name: part.model_dump() for name in PARTS if (part := getattr(evaluation, name))},
    }


def card(run: Run) -> RunCard | None:
    """Answer the card of a finished run, None before that."""
    return _read(run.card, run)


def card_of_version(version: ModelVersion, run: Run) -> RunCard | None:
    """Answer the card of one version of a run: its own where its file was examined anew."""
    return _read(version.card or run.card, run)


def _read(kept: Json, run: Run) -> RunCard | None:
    if not kept:
        return None
    values: dict[str, Any] = dict(kept)  # decoded JSON
    values["checks"] = tuple(Check.model_validate(check) for check in values["checks"])
    values |= {name: kind.model_validate(values[name]) for name, kind in PARTS.items() if name in values}
    return RunCard(**values, method=run.spec.get("method", "sft"))


def evaluation(run: Run) -> Evaluation | None:
    """Answer every question that was asked with both answers, None before the evaluation."""
    return RunDir(Path(run.folder)).evaluation() if run.folder else None
