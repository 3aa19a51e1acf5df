"""Sources: what was imported into a project."""

from __future__ import annotations

from sqlmodel import Session, col, select

from curator.errors import NotFound
from db.models import Project, Source


def recent(session: Session, project: Project, limit: int = 100) -> list[Source]:
    """List a project's newest sources first."""
    query = select(Source).where(Source.project_id == project.id)
    return list(session.exec(query.order_by(col(Source.id).desc()).limit(limit)))


def get(session: Session, project: Project, source_id: int) -> Source:
    """Answer one source of the project, or raise NotFound."""
    source = session.get(Source, source_id)
    if source is None or source.project_id != project.id:
        raise NotFound("There is no such import in this project.")
    return source
