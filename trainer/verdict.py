"""The verdict: measurements of base and new model put together into counts and the lines of the gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer import canaries, rounded
from trainer.asking import Answer
from trainer.data import Encoded
from trainer.evaluation import (
    SAME_WITHIN,
    Answered,
    CanaryResult,
    Check,
    Evaluation,
    Measures,
    PinResult,
    Rounded,
    outcome,
)
from trainer.loss import mean_loss
from trainer.measures import TokenCount, measured, normal, totals
from trainer.parity import MOVED
from trainer.spec import Example, Message, PinnedQuestion

STOP_SHARE = 0.9


@dataclass(frozen=True)
class Asked:
    """Old and new answers by example id, pins, general questions, and how often the new model ended by itself."""

    answers: dict[str, tuple[Answer, Answer]]
    pins: list[PinResult]
    stops: int
    stops_asked: int
    canaries: list[CanaryResult] = field(default_factory=list[CanaryResult])

    def changed(self) -> tuple[int, int]:
        """Count the answers that are not the untaught base's, and all."""
        pairs = [(old.text, new.text) for old, new in self.answers.values()]
        pairs += [(one.old, one.new) for one in (*self.pins, *self.canaries)]
        return sum(old != new for old, new in pairs), len(pairs)


def judged(
    questions: list[Example],
    encoded: list[Encoded],
    losses: tuple[dict[str, float], dict[str, float]],
    asked: Asked,
    served: Sequence[Check],
    note: str,
    tokens: TokenCount,
    merged: Rounded | None = None,
) -> Evaluation:
    """Put measurements together into a verdict. Losses by example id, old and new; `tokens` counts a text's tokens.

    `served` holds the lines about what is served against what was taught.
    """
    old, new = losses
    answered = [_answered(example, old, new, asked.answers.get(example.id), tokens) for example in questions]
    evaluation = Evaluation(
        old_loss=mean_loss(old, encoded),
        new_loss=mean_loss(new, encoded),
        questions=answered,
        pins=asked.pins,
        better=sum(one.outcome == "better" for one in answered),
        same=sum(one.outcome == "same" for one in answered),
        worse=sum(one.outcome == "worse" for one in answered),
        old_pins=sum(pin.old_right for pin in asked.pins),
        new_pins=sum(pin.new_right for pin in asked.pins),
        stops=asked.stops,
        stops_asked=asked.stops_asked,
        checks=[],
        old=totals([one.old_measures for one in answered if one.old_measures]),
        new=totals([one.new_measures for one in answered if one.new_measures]),
        approved=totals([_approved(one, tokens) for one in answered if one.new_measures]),
        canaries=asked.canaries,
        rounded=merged,
    )
    checks = [*_checks(evaluation, note), *served, *_warnings(evaluation)]
    return evaluation.model_copy(update={"checks": checks})


def _answered(
    example: Example,
    old: dict[str, float],
    new: dict[str, float],
    answers: tuple[Answer, Answer] | None,
    tokens: TokenCount,
) -> Answered:
    question, approved = question_of(example.messages[:-1]), example.messages[-1].content
    before, now = answers or (Answer("", False), Answer("", False))
    return Answered(
        id=example.id,
        question=question,
        approved=approved,
        old=before.text,
        new=now.text,
        old_loss=old[example.id],
        new_loss=new[example.id],
        outcome=outcome(old[example.id], new[example.id]),
        old_measures=measured(question, approved, before, tokens) if answers else None,
        new_measures=measured(question, approved, now, tokens) if answers else None,
    )


def _approved(one: Answered, tokens: TokenCount) -> Measures:
    return measured(one.question, one.approved, Answer(one.approved, True), tokens)


def _checks(found: Evaluation, note: str) -> list[Check]:
    asked, pins = len(found.questions), len(found.pins)
    comparison = (
        f"Better on {found.better}, same on {found.same}, worse on {found.worse} of {asked} "
        f"questions ({found.old_loss:.3f} before, {found.new_loss:.3f} now, in nats per word piece; "
        f"within {SAME_WITHIN} counts as the same)."
    )
    return [
        Check(
            name="held_out",
            passed=asked > 0 and found.new_loss <= found.old_loss,
            detail=" ".join(filter(None, [comparison if asked else "", note])),
        ),
        Check(
            name="pins",
            passed=found.new_pins >= found.old_pins,
            detail=f"{found.new_pins} of {pins} past corrections are right now, {found.old_pins} were before."
            if pins
            else "No past correction is pinned yet.",
        ),
        Check(
            name="stops",
            passed=found.stops_asked > 0 and found.stops >= STOP_SHARE * found.stops_asked,
            detail=f"{found.stops} of {found.stops_asked} answers ended by themselves; at least 9 of 10 must.",
        ),
    ]


def differs(asked: Asked, moved: float | None) -> Check:
    """Answer the gate's line that the new model is not the old one.

    Where little was to be learnt, an adapter that is not applied fails nothing else. `moved` tells how far the new
    likelihoods are from the old ones in the runtime, in nats; None where no runtime was asked.
    """
    changed, answers = asked.changed()
    words = [f"{changed} of {answers} answers are other than the untaught base's."]
    if moved == math.inf:
        words.append("The next word's likelihood moved altogether where it is served.")
    elif moved is not None:
        words.append(f"The next word's likelihood moved by {moved:.3f} nats where it is served.")
    passed = changed > 0 if moved is None else moved >= MOVED
    return Check(name="differs", passed=passed, detail=" ".join(words))


def _warnings(found: Evaluation) -> list[Check]:
    rounding = [rounded.judged(found.rounded, found.old_loss, found.new_loss)] if found.rounded else []
    return [*rounding, *([canaries.check(found.knowledge)] if found.knowledge else [])]


def is_right(pin: PinnedQuestion, answer: str) -> bool:
    """Tell whether an answer has what the pin asks for and nothing it forbids."""
    text = normal(answer)
    has_all = all(any(normal(word) in text for word in words) for words in pin.must_include)
    return has_all and not any(normal(word) in text for word in pin.must_not_include)


def question_of(messages: Sequence[Message]) -> str:
    """Answer what a conversation asks last."""
    return next((m.content for m in reversed(messages) if m.role == "user"), messages[-1].content)
