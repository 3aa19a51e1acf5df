"""What the command line imports can be searched when the command has ended."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import Session, select

from curator.services import prepare, search
from curator.settings import Settings
from db.models import Job, Project, Record
from tests.curator.test_cli import run
from tests.factories import make_record, reload


def log(tmp_path: Path) -> Path:
    file = tmp_path / "log.jsonl"
    rows = [{"question": f"年假 ferry {number}?", "answer": "Yes."} for number in range(3)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def found(session: Session, asked: str) -> int:
    return len(session.exec(search.among(session, select(Record.id), asked)).all())


def test_an_import_ends_with_records_that_are_found(
    settings: Settings, engine: Engine, session: Session, project: Project, tmp_path: Path
):
    said = run("import", log(tmp_path), "--home", settings.home)

    assert "3 new" in said and "Looking through them" in said
    reload(session, project)
    assert (prepare.pending(session, project), found(session, "年假 ferry")) == (0, 3)

    session.commit()
    assert "Looking through" not in run("import", log(tmp_path), "--home", settings.home), "nothing is new"


def test_an_import_for_a_program_says_one_json_object(settings: Settings, project: Project, tmp_path: Path):
    said = run("import", log(tmp_path), "--json", "--home", settings.home)

    assert json.loads(said)["new"] == 3


def test_a_home_that_lags_behind_is_looked_through_by_the_worker(
    settings: Settings, engine: Engine, session: Session, project: Project, tmp_path: Path
):
    make_record(session, project, question="An older home has 年假 unindexed")

    assert run("worker", "light", "--until-idle", "--home", settings.home) == ""

    reload(session, project)
    assert (prepare.pending(session, project), found(session, "年假")) == (0, 1)
    assert [job.state for job in session.exec(select(Job))] == ["done"]


def test_the_worker_that_teaches_leaves_it_to_the_other(settings: Settings, session: Session, project: Project):
    make_record(session, project)

    run("worker", "train", "--until-idle", "--home", settings.home)

    session.rollback()
    assert session.exec(select(Job)).all() == []


def test_the_sample_project_is_found_by_what_its_experts_wrote(engine: Engine, settings: Settings, session: Session):
    from curator.services import sample
    from db.models import Base, Review

    base = Base(name="b", path="b", sha256="0" * 64, architecture="llama", size=1)
    session.add(base)
    session.commit()

    project = sample.load(engine, settings, base)

    session.rollback()
    project = session.get_one(Project, project.id)
    assert prepare.pending(session, project) == 0
    query = select(Record, Review).join(Review, Review.id == Record.settled_by).where(Record.edited)  # pyright: ignore
    for record, review in session.exec(query).all():
        words = (review.answer or review.question or "")[:60].rsplit(" ", 1)[0]
        hits = session.exec(search.among(session, select(Record.id), f'"{words}"')).all()
        assert record.id in hits, words
