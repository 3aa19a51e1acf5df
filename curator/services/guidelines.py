"""A project's guidelines: what reviewers judge by, kept with all their versions."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, col, select

from db.models import Guideline, Project, User, utc_now


@dataclass(frozen=True)
class Version:
    """One version of the guidelines. `name` is who wrote it, empty where nobody knows."""

    guideline: Guideline
    name: str

    @property
    def number(self) -> int:
        return self.guideline.number


def change(session: Session, project: Project, text: str, user: User | None) -> bool:
    """Give a project new guidelines and keep them as its next version; tell whether they differ from the old.

    What a project had before there were versions becomes its first one.
    """
    if text == project.guidelines:
        return False
    session.exec(select(Project.id).where(Project.id == project.id).with_for_update()).one()  # one number each
    newest = session.exec(
        select(Guideline).where(Guideline.project_id == project.id).order_by(col(Guideline.number).desc()).limit(1)
    ).first()
    number = newest.number if newest else 0
    if project.guidelines and (newest is None or newest.text != project.guidelines):
        number += 1
        session.add(_version(project, number, project.guidelines, None))
    session.add(_version(project, number + 1, text, user))
    project.guidelines = text
    session.add(project)
    session.flush()
    return True


def history(session: Session, project: Project) -> list[Version]:
    """List the versions of a project's guidelines, newest first."""
    rows = session.exec(
        select(Guideline, User)
        .outerjoin(User, col(User.id) == col(Guideline.user_id))
        .where(Guideline.project_id == project.id)
        .order_by(col(Guideline.number).desc())
    )
    return [Version(guideline, user.name if user else "") for guideline, user in rows.all()]


def compared(versions: list[Version], old: int, new: int) -> tuple[Version | None, Version | None]:
    """Answer the two versions with these numbers; where there is no such one, the newest and the one before it."""
    by_number = {version.number: version for version in versions}
    after = by_number.get(new) or (versions[0] if versions else None)
    before = by_number.get(old) or (by_number.get(after.number - 1) if after else None)
    return before, after


def _version(project: Project, number: int, text: str, user: User | None) -> Guideline:
    return Guideline(
        project_id=project.id or 0,
        number=number,
        text=text,
        user_id=user.id if user else None,
        created_at=utc_now() if user else project.created_at,
    )
