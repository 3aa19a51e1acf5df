"""SQL conditions on reviews that several services ask: taken back, given together, of a project, of a person."""

from __future__ import annotations

from typing import Any

from sqlmodel import and_, col, exists, text, true

from db.models import Project, Record, Retraction, Review


def is_retracted(review: type[Review] = Review) -> Any:  # an SQL condition
    """Say in SQL that a review was taken back."""
    return exists().where(col(Retraction.review_id) == col(review.id))


def judged_by(user_id: Any, *, skips: bool = False) -> Any:  # an id or a bound parameter; an SQL condition
    """Say in SQL that this person has an opinion on a record that they have not taken back, or has skipped it."""
    opinion = () if skips else (col(Review.verdict) != "skip",)
    return exists().where(
        col(Review.record_id) == col(Record.id), col(Review.user_id) == user_id, *opinion, ~is_retracted()
    )


def measures(user_id: Any) -> Any:  # an id or a bound parameter; an SQL condition
    """Say in SQL that a record is one this person is measured by and has yet to judge."""
    return and_(col(Record.gold) == true(), ~judged_by(user_id))


def of_batch(batch: str) -> tuple[Any, ...]:  # SQL conditions
    """Name a batch in SQL, in the words of the index review_batch; SQLite would not use it otherwise."""
    return col(Review.batch) == batch, text("review.batch != ''")


def is_in(project: Project) -> Any:  # an SQL condition
    """Say in SQL that a review's record is in a project."""
    return exists().where(col(Record.id) == col(Review.record_id), col(Record.project_id) == project.id)
