"""Two runs of a project side by side: what was done differently, and which of them answers what better."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from sqlmodel import Session, col, select

from curator.errors import NotFound
from curator.services import lineage, recipe
from curator.services.run_card import RunCard, card, evaluation
from curator.services.run_progress import Progress, progress
from curator.words import N_
from db.models import Base, Project, Run, Snapshot
from trainer.evaluation import Answered, CanaryResult, Evaluation, PinResult, outcome
from trainer.flags import shown
from trainer.recipe import flat, settings

Winner = Literal["one", "other", "same"]
Asked = TypeVar("Asked", PinResult, CanaryResult)
NEARER = 5.0  # points of chrF; closer than this counts as the same


@dataclass(frozen=True)
class Side:
    """One of the two runs with what it left. `number` is that of its version, None where it made none."""

    run: Run
    number: int | None
    snapshot: Snapshot
    base: Base
    card: RunCard
    progress: Progress
    evaluation: Evaluation | None


@dataclass(frozen=True)
class Duel:
    """One question both were asked, with the same approved answer."""

    one: Answered
    other: Answered
    winner: Winner


@dataclass(frozen=True)
class Comparison:
    """What differs between two runs. `settings` are (label, one's value, other's value)."""

    one: Side
    other: Side
    settings: list[tuple[str, str, str]]
    duels: list[Duel]
    pins: list[tuple[PinResult, PinResult]]
    canaries: list[tuple[CanaryResult, CanaryResult]]

    def won(self, winner: Winner) -> list[Duel]:
        return [duel for duel in self.duels if duel.winner == winner]


def comparable(session: Session, project: Project) -> list[Run]:
    """List the runs that can be compared, newest first: those that finished."""
    query = select(Run).where(Run.project_id == project.id, Run.state == "finished").order_by(col(Run.id).desc())
    return [run for run in session.exec(query) if run.card]


def chosen(runs: list[Run], one: int | None, other: int | None) -> tuple[Run, Run] | None:
    """Find the two runs an address names; what it leaves open is the newest run, against the one before.

    None when there are not two runs yet. Raises NotFound for a number that is none of them.
    """
    if len(runs) < 2:
        return None
    numbers = [run.id for run in runs]
    if {one, other} - {None, *numbers}:
        raise NotFound("One of these runs is not there, or has not finished. Choose two finished runs.")
    other = other if other is not None else next(number for number in numbers if number != one)
    one = one if one is not None else next((number for number in numbers if (number or 0) < (other or 0)), numbers[-1])
    by_id = {run.id: run for run in runs}
    return by_id[one], by_id[other]


def compare(session: Session, one: Run, other: Run) -> Comparison:
    """Put two finished runs side by side."""
    left, right = _side(session, one), _side(session, other)
    before, now = left.evaluation, right.evaluation
    by_loss = left.base.sha256 == right.base.sha256  # another base may cut texts into other tokens
    return Comparison(
        left,
        right,
        list(_settings(left, right)),
        list(_duels(before, now, by_loss)) if before and now else [],
        _pairs(before.pins, now.pins) if before and now else [],
        _pairs(before.canaries, now.canaries) if before and now else [],
    )


def _side(session: Session, run: Run) -> Side:
    version = lineage.of_run(session, run)
    found = card(run)
    if found is None:
        raise NotFound("This run has not finished, so there is nothing to compare yet.")
    return Side(
        run,
        version.number if version else None,
        session.get_one(Snapshot, run.snapshot_id),
        session.get_one(Base, run.base_id),
        found,
        progress(run),
        evaluation(run),
    )


def _settings(one: Side, other: Side) -> Iterator[tuple[str, str, str]]:
    """Yield what was done differently: dataset, base, then the parameters of the recipe by their label."""
    left, right = _done(one), _done(other)
    for label in left:
        if left[label] != right[label]:
            yield label, left[label], right[label]


def _done(side: Side) -> dict[str, str]:
    values = flat(recipe.of(side.run, side.base).model_dump())
    done = {setting.label: shown(values[setting.name]) for setting in settings()}
    return {N_("Dataset"): side.snapshot.name, N_("Base model"): side.base.name, **done}


def _duels(one: Evaluation, other: Evaluation, by_loss: bool) -> Iterator[Duel]:
    """Yield the questions both were asked; one whose approved answer was changed between them is left out."""
    asked = {answered.id: answered for answered in one.questions}
    for theirs in other.questions:
        ours = asked.get(theirs.id)
        if ours and (ours.question, ours.approved) == (theirs.question, theirs.approved):
            winner = _winner(ours, theirs, by_loss)
            if winner:
                yield Duel(ours, theirs, winner)


def _winner(one: Answered, other: Answered, by_loss: bool) -> Winner | None:
    """Tell who is nearer to the approved answer: by loss on the same base, else by wording; None where untold."""
    if by_loss and one.new_loss is not None and other.new_loss is not None:
        word = outcome(one.new_loss, other.new_loss)
        return "same" if word == "same" else "other" if word == "better" else "one"
    left, right = (side.new_measures.overlap if side.new_measures else None for side in (one, other))
    if left is None or right is None:
        return None
    return "same" if abs(left - right) <= NEARER else "one" if left > right else "other"


def _pairs(one: list[Asked], other: list[Asked]) -> list[tuple[Asked, Asked]]:
    asked = {(result.id, result.question): result for result in one}
    return [(asked[key], result) for result in other if (key := (result.id, result.question)) in asked]
