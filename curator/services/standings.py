"""What the votes say of two models."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select as columns
from sqlmodel import Session, col, func

from curator.services import statistics
from curator.services.statistics import Tally
from db.models import Battle, ModelVersion, Project, Vote


@dataclass(frozen=True)
class Standing:
    """Two models and the votes on them. None is the base; with `outside`, the old one is that model elsewhere."""

    new: ModelVersion | None
    old: ModelVersion | None
    tally: Tally
    outside: str = ""


def every(session: Session, project: Project) -> list[Standing]:
    """List every pair that was voted on, newest first, with what the votes say."""
    pair = (col(Battle.new_version_id), col(Battle.old_version_id), col(Battle.outside))
    keys = (*pair, col(Vote.winner), col(Vote.new_won))
    joined = columns(*keys, func.count()).join(Vote, col(Vote.battle_id) == col(Battle.id)).group_by(*keys)
    votes = joined.where(col(Battle.project_id) == project.id)
    counted: dict[tuple[int, int, str], list[int]] = {}
    for new, old, outside, winner, new_won, number in session.connection().execute(votes):
        turned = not outside and (new or 0) < (old or 0)
        two = (old or 0, new or 0) if turned else (new or 0, old or 0)
        counts = counted.setdefault((*two, outside), [0, 0, 0, 0])
        counts[_column(winner, new_won, turned=turned)] += number
    return [
        Standing(session.get(ModelVersion, new), session.get(ModelVersion, old), statistics.tally(*counts), outside)
        for (new, old, outside), counts in sorted(counted.items(), reverse=True)
    ]


def of_pair(session: Session, project: Project, new_id: int | None, old_id: int | None, outside: str = "") -> Standing:
    """Answer what the votes say about one pair, whichever of the two was the newer one."""
    pair = {new_id or 0, old_id or 0}
    for found in every(session, project):
        if {found.new.id if found.new else 0, found.old.id if found.old else 0} == pair and found.outside == outside:
            return found
    newer, older = session.get(ModelVersion, max(pair)), session.get(ModelVersion, min(pair))
    return Standing(newer, older, statistics.tally(0, 0), outside)


def _column(winner: str, new_won: bool | None, *, turned: bool) -> int:
    """Answer where a vote counts: new, old, tie, both bad."""
    if new_won is None:
        return 2 if winner == "tie" else 3
    return 0 if new_won != turned else 1
