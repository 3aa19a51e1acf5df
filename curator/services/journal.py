"""The journal: who did what, when."""

from __future__ import annotations

from sqlmodel import Session

from db.models import Journal, Json, Project, User


def note(
    session: Session,
    action: str,
    subject: str = "",
    *,
    project: Project | None = None,
    user: User | None = None,
    detail: Json | None = None,
) -> Journal:
    """Write one line into the journal, in the caller's transaction."""
    line = Journal(
        project_id=project.id if project else None,
        user_id=user.id if user else None,
        action=action,
        subject=subject,
        detail=detail or {},
    )
    session.add(line)
    return line
