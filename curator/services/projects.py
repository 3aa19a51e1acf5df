"""Projects: the assistants being taught."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import count

from sqlmodel import Session, col, select

from curator.errors import Conflict, Invalid, NotFound
from curator.services import guidelines as guidelines_
from curator.services import jobs, reasons
from db.models import Membership, ModelVersion, Project, User

REVIEWS_NEEDED = (1, 2, 3)
REASONS = (
    {"key": "stale", "en": "Out of date", "zh": "信息过时"},
    {"key": "unsupported", "en": "Not in the passages", "zh": "资料中没有依据"},
    {"key": "wrong_passage", "en": "From the wrong passage", "zh": "引用了错误的资料"},
    {"key": "incomplete", "en": "Something is missing", "zh": "内容不完整"},
    {"key": "too_long", "en": "Too long", "zh": "太长"},
    {"key": "language", "en": "Wrong language", "zh": "语言不对"},
    {"key": "refusal", "en": "Refused without need", "zh": "不该拒答"},
    {"key": "off_topic", "en": "Not our topic", "zh": "与我们无关"},
)


def create(session: Session, name: str, *, slug: str = "", creator: User | None = None) -> Project:
    """Add a project; whoever makes it leads it. Without a short name a free one is made from the name."""
    slug = slug or _free_slug(session, name)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", slug):
        raise Invalid("A project's short name has small letters, digits and dashes only.")
    if session.exec(select(Project).where(Project.slug == slug)).first():
        raise Conflict("There is a project called %(slug)s already.", slug=slug)
    project = Project(slug=slug, name=name.strip()[:120] or slug, reasons=[dict(reason) for reason in REASONS])
    session.add(project)
    session.flush()
    if creator and creator.id is not None and project.id is not None:
        session.add(Membership(user_id=creator.id, project_id=project.id, role="lead"))
    return project


def _free_slug(session: Session, name: str) -> str:
    """Answer a short name nobody has; names without Latin letters all begin as `project`."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower())[:36].strip("-") or "project"
    taken = set(session.exec(select(Project.slug).where(col(Project.slug).startswith(stem, autoescape=True))))
    return next(slug for number in count(1) if (slug := f"{stem}-{number}" if number > 1 else stem) not in taken)


def by_slug(session: Session, slug: str) -> Project:
    """Answer a project by its short name, or raise NotFound."""
    project = session.exec(select(Project).where(Project.slug == slug)).first()
    if project is None:
        raise NotFound("There is no such project, or it is not yours.")
    return project


def visible(session: Session, user: User) -> list[Project]:
    """List the projects a person belongs to, by name; an admin sees all."""
    query = select(Project).order_by(col(Project.name))
    if not user.is_admin:
        query = query.join(Membership).where(Membership.user_id == user.id)
    return list(session.exec(query))


def configure(
    session: Session,
    project: Project,
    *,
    name: str,
    guidelines: str,
    system_prompt: str,
    prompt_style: str,
    reviews_needed: int | None = None,
    reason_rows: Sequence[reasons.Row] | None = None,
    user: User | None = None,
) -> None:
    """Change what a lead can set; None leaves it as it is.

    Another text of the guidelines is their next version. Another number of reviews needed lets a worker fold anew
    what has been judged: with more needed, records with too few wait again, and settle when it is lowered again.
    """
    if reason_rows is not None:
        project.reasons = reasons.edited(project, reason_rows)
    guidelines_.change(session, project, guidelines, user)
    project.name, project.system_prompt, project.prompt_style = name, system_prompt, prompt_style
    if reviews_needed is not None and reviews_needed != project.reviews_needed:
        if reviews_needed not in REVIEWS_NEEDED:
            raise Invalid("A record can need 1, 2 or 3 reviews.")
        project.reviews_needed = reviews_needed
        jobs.enqueue(session, "light", "refold", f"refold:{project.id}", {"id": project.id})
    session.add(project)


def in_service(session: Session, project: Project) -> ModelVersion | None:
    """Answer the version users get; None means the untaught base."""
    return session.get(ModelVersion, project.service_version_id) if project.service_version_id else None
