"""How many records a project has in each state, kept beside them so that no page has to count a million."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import delete, update
from sqlmodel import Session, col, func, select

from curator.services import bulk
from db.models import Project, Record, RecordCount

COUNTED = 1_000  # where a page counts rows, it stops here: "over 1,000" is said at the same price for a million
_count = RecordCount.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it


def of(session: Session, project: Project) -> dict[str, int]:
    """Answer a project's records by state; a state that no record is in may be missing or 0."""
    return of_all(session, [project])[project.id or 0]


def of_all(session: Session, mine: list[Project]) -> dict[int, dict[str, int]]:
    """Answer the records of several projects by state, in one query."""
    found: dict[int, dict[str, int]] = {project.id or 0: {} for project in mine}
    for row in session.exec(select(RecordCount).where(col(RecordCount.project_id).in_(found))):
        found[row.project_id][row.state] = row.number
    return found


def move(session: Session, project_id: int, changes: Mapping[str, int]) -> None:
    """Add to the counts of some states, in the caller's transaction; negative numbers take away."""
    for state, change in sorted(changes.items()):  # in one order, or two transactions wait for each other
        if not change:
            continue
        here = (col(RecordCount.project_id) == project_id, col(RecordCount.state) == state)
        added = update(RecordCount).where(*here).values(number=col(RecordCount.number) + change)
        if session.connection().execute(added).rowcount == 0:
            _begin(session, project_id, state)
            session.connection().execute(added)


def _begin(session: Session, project_id: int, state: str) -> None:
    """Begin a count at 0; where somebody else begins it at the same time, theirs is the one."""
    begun = bulk.Insert(_count, ("project_id", "state", "number"), session.connection().dialect)
    begun.run(session.connection(), [(project_id, state, 0)])


def rebuild(session: Session, project: Project) -> None:
    """Count a project's records anew."""
    session.connection().execute(delete(RecordCount).where(col(RecordCount.project_id) == project.id))
    rows = session.exec(
        select(Record.state, func.count()).where(Record.project_id == project.id).group_by(Record.state)
    ).all()
    move(session, project.id or 0, dict(rows))
