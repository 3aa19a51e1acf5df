"""The sample project: a ferry line's assistant, its log, and what its experts decided about it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from curator.services import accounts, imports, pins, prepare, projects, reviews
from curator.settings import Settings
from db.models import Base, Json, Project, Record, Source, User, Verdict
from db.session import open_session

FOLDER = Path(__file__).resolve().parents[1] / "sample"
EXPERT = "sample-expert"


class SampleProject(BaseModel):
    """The part of project.json that becomes a project."""

    name: str
    slug: str
    system_prompt: str
    prompt_style: str
    guidelines: str
    reasons: list[Json]
    recipe: Json = {}


class Decision(BaseModel):
    """One line of decisions.jsonl: what an expert decided about a record of the log."""

    id: str
    verdict: Verdict
    rating: int | None = None
    reasons: list[str] = []
    question: str | None = None
    answer: str | None = None
    comment: str | None = None


class SamplePin(BaseModel):
    """One line of pins.jsonl."""

    id: str
    record: str
    question: str
    answer: str
    must_include: list[list[str]]
    must_not_include: list[str] = []


def load(engine: Engine, settings: Settings, base: Base, creator: User | None = None) -> Project:
    """Load the sample project with its log, decisions and pins; what is there already is left alone."""
    with open_session(engine, write=True) as session:
        project = _project(session, base, creator)
        source = _source(session, project, settings)
    imports.run_import(engine, source.id or 0)
    prepare.run(engine, project.id or 0)
    with open_session(engine, write=True) as session:
        expert = _expert(session, project)
        records = _records(session, project)
        for line in _lines("decisions.jsonl"):
            decision = Decision.model_validate(line)
            if decision.id in records:
                _decide(session, records[decision.id], expert, decision)
        for line in _lines("pins.jsonl"):
            pin = SamplePin.model_validate(line)
            pins.add(
                session, project, pin.question, pin.answer, pin.must_include, pin.must_not_include,
                records.get(pin.record),
            )  # fmt: skip
    return project


def _project(session: Session, base: Base, creator: User | None) -> Project:
    given = SampleProject.model_validate_json((FOLDER / "project.json").read_text(encoding="utf-8"))
    project = session.exec(select(Project).where(Project.slug == given.slug)).first()
    if project is None:
        project = projects.create(session, given.name, slug=given.slug, creator=creator)
        for name, value in given.model_dump(exclude={"name", "slug"}).items():
            setattr(project, name, value)
    project.base_id = project.base_id or base.id
    session.add(project)
    session.flush()
    return project


def _source(session: Session, project: Project, settings: Settings) -> Source:
    file = settings.folder("uploads") / f"{project.slug}-log.jsonl"
    known = session.exec(select(Source).where(Source.project_id == project.id, Source.path == str(file))).first()
    if known:
        return known
    shutil.copyfile(FOLDER / "log.jsonl", file)
    return imports.add_source(session, project, file, name="Sample log")


def _expert(session: Session, project: Project) -> User:
    expert = session.exec(select(User).where(User.login == EXPERT)).first()
    expert = expert or accounts.create_user(session, EXPERT, "Sample expert")
    accounts.set_role(session, expert, project, "lead")
    return expert


def _records(session: Session, project: Project) -> dict[str, Record]:
    rows = session.exec(select(Record).where(Record.project_id == project.id, col(Record.external_id) != ""))
    return {record.external_id: record for record in rows}


def _lines(name: str) -> list[Any]:  # decoded JSON, validated by the caller
    with (FOLDER / name).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _decide(session: Session, record: Record, expert: User, decision: Decision) -> None:
    form = reviews.ReviewForm(
        version=record.version,
        request_id=f"sample-{record.project_id}-{decision.id}",  # so that loading again adds nothing
        **decision.model_dump(exclude={"id", "comment"}),
        comment=decision.comment or "",
    )
    reviews.add(session, record, expert, form)
