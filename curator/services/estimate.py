"""How long a run takes: by what the last runs of the same base took, else by the base's size."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from sqlmodel import Session, col, select

from curator.services import bases, recipe
from curator.services.run_card import card
from db.models import Base, Run
from trainer.recipe import TrainSpec

FIXED_SECONDS = 60.0  # loading, converting and asking again, as long as no run has told
LOOKS_BACK = 3
USUAL_READINGS = 3.0  # of every example, which is what the table of bases counts on


@dataclass(frozen=True)
class Pace:
    """Seconds that a run takes whatever it learns, and for every time that it reads an example."""

    fixed: float
    reading: float


def minutes(session: Session, base: Base, spec: TrainSpec, examples: int) -> float:
    """Estimate a run on so many examples, in minutes."""
    pace = _pace(session, base)
    return (pace.fixed + pace.reading * _readings(spec, examples)) / 60


def _pace(session: Session, base: Base) -> Pace:
    done = session.exec(
        select(Run)
        .where(Run.base_id == base.id, Run.state == "finished")
        .order_by(col(Run.id).desc())
        .limit(LOOKS_BACK)
    ).all()
    paces = [pace for run in done if (pace := _pace_of(run, base))]
    if not paces:
        return Pace(FIXED_SECONDS, bases.minutes_per_100(base.parameters) * 60 / 100 / USUAL_READINGS)
    return Pace(fmean(pace.fixed for pace in paces), fmean(pace.reading for pace in paces))


def _pace_of(run: Run, base: Base) -> Pace | None:
    sums = card(run)
    if not (sums and run.finished_at and run.started_at and sums.examples):
        return None
    whole = (run.finished_at - run.started_at).total_seconds()
    learning = min(whole, sums.minutes * 60)
    return Pace(whole - learning, learning / _readings(recipe.of(run, base), sums.examples))


def _readings(spec: TrainSpec, examples: int) -> int:
    """Answer how many examples are read, each as often as it comes."""
    return spec.steps(examples) * spec.batch_size
