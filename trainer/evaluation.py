"""The contract with curator, continued: what the new model was measured to be, beside its base.

Imports no torch, as spec.py does not.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.recipe import Frozen, MergedType

Outcome = Literal["better", "same", "worse"]

OFFERED: tuple[MergedType, ...] = ("F16", "BF16", "Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "same")
SAME_WITHIN = 0.05  # nats per answer token; losses closer than this count as the same


class Measures(Frozen):
    """What can be counted about one answer without a judge."""

    overlap: float | None = Field(None, description="chrF with the approved answer, 0 to 100; None without one")
    refuses: bool = False
    characters: int = 0
    tokens: int = Field(0, description="by the base's tokenizer")
    stops: bool = Field(False, description="the answer ended by itself, not at the limit")
    language_kept: bool | None = Field(None, description="in the question's language; None where that cannot be told")


class Totals(Frozen):
    """The measures of one side's answers: counts, and means where a sum would say nothing."""

    answers: int
    overlap: float | None
    refusals: int
    characters: float
    tokens: float
    stops: int
    language_kept: int
    language_told: int


class Answered(Frozen):
    """One held-out question, asked to the base and to the new model.

    Losses are measured for every question; answers and their measures are there only for the first few.
    """

    id: str
    question: str
    approved: str
    old: str
    new: str
    old_loss: float | None = None
    new_loss: float | None = None
    outcome: Outcome | None = None
    old_measures: Measures | None = None
    new_measures: Measures | None = None


class PinResult(Frozen):
    """One pin, asked to the base and to the new model."""

    id: str
    question: str
    approved: str
    old: str
    new: str
    old_right: bool
    new_right: bool


class CanaryResult(Frozen):
    """One general question, asked to the base and to the new model."""

    id: str
    question: str
    accepted: list[str]
    old: str
    new: str
    old_right: bool
    new_right: bool


class Knowledge(Frozen):
    """General questions: how many were asked, right before, right before and now (kept), and right now."""

    asked: int
    before: int
    kept: int
    now: int

    @property
    def lost(self) -> int:
        return self.before - self.kept


class Difference(Frozen):
    """The first token at which the trainer's and the runtime's prompt part."""

    question: str = Field(description="what that conversation asks last")
    place: int = Field(description="counted from 0")
    before: str = Field(description="the end of what both agree on")
    taught: str = Field(description="how it goes on in training; empty where the prompt ends")
    served: str = Field(description="how it goes on in the runtime; empty where the prompt ends")


class Check(Frozen):
    """One line of the gate. A warning that did not pass is told, but does not keep the version back."""

    name: Literal["held_out", "pins", "stops", "differs", "parity", "rounding", "canaries"]
    passed: bool
    detail: str
    warning: bool = False
    difference: Difference | None = None

    @property
    def blocks(self) -> bool:
        return not (self.passed or self.warning)

    @property
    def forbids(self) -> bool:
        """Tell whether no reason outweighs it: what would be served is not what was taught."""
        return self.blocks and self.name in ("parity", "differs")


class Rounded(Frozen):
    """The merged file, measured on the held-out questions: its taught weights are rounded to a type."""

    type: str = Field(description="of most of the taught tensors")
    loss: float = Field(description="nats per answer token, as old_loss and new_loss")
    size: int = Field(description="bytes of the file")
    seconds: float = Field(0.0, description="what measuring it took")


class Offer(Rounded):
    """What a finished run would be as a file of another number type; that file is not written."""

    merged_type: MergedType


class NoOffer(Frozen):
    """A number type that the finished run cannot be made of, or that says nothing new, and why."""

    merged_type: MergedType
    why: str


class Types(Frozen):
    """The number types that a finished run can be made of. Written as types.json."""

    offers: list[Offer]
    left_out: list[NoOffer]


class Evaluation(Frozen):
    """Base against new. Written as evaluation.json. Losses are nats per answer token on the test split.

    What came later has a default, so that the files of older runs still open.
    """

    old_loss: float
    new_loss: float
    questions: list[Answered]
    pins: list[PinResult]
    better: int
    same: int
    worse: int
    old_pins: int
    new_pins: int
    stops: int
    stops_asked: int
    checks: list[Check]
    old: Totals | None = None
    new: Totals | None = None
    approved: Totals | None = Field(None, description="the same measures of the answers people approved")
    canaries: list[CanaryResult] = Field(default_factory=list[CanaryResult])
    rounded: Rounded | None = Field(None, description="what the merged file kept of the lesson")

    @property
    def passed(self) -> bool:
        """Tell whether nothing in the gate keeps the version back."""
        return not any(check.blocks for check in self.checks)

    @property
    def knowledge(self) -> Knowledge | None:
        """Sum the general questions up; None when none was asked."""
        if not self.canaries:
            return None
        return Knowledge(
            asked=len(self.canaries),
            before=sum(one.old_right for one in self.canaries),
            kept=sum(one.old_right and one.new_right for one in self.canaries),
            now=sum(one.new_right for one in self.canaries),
        )


def outcome(old_loss: float, new_loss: float) -> Outcome:
    """Compare two losses of one question, in nats per answer token; within SAME_WITHIN they are the same."""
    if abs(new_loss - old_loss) <= SAME_WITHIN:
        return "same"
    return "better" if new_loss < old_loss else "worse"


def share_kept(loss: float, old_loss: float, new_loss: float) -> float:
    """Answer how much of what was learnt a rounded file keeps: 1 for all, 0 for nothing, less for harm.

    What was learnt is what the held-out loss fell by, from `old_loss` to `new_loss`.
    """
    learnt = old_loss - new_loss
    return 1 - (loss - new_loss) / learnt if learnt > 0 else 0.0
