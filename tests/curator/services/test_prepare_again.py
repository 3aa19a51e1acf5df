"""After an update whose rules differ, a home's records are looked through again, and nothing is counted twice."""

from __future__ import annotations

from sqlalchemy import Engine
from sqlmodel import Session, col, func, select

from curator.services import prepare
from db.models import Band, Project, QuestionCount, Record
from db.session import migrate
from tests.factories import make_record, reload

LONG = "The crossing from Harrow Quay to Ostrey takes 55 minutes in calm weather, and dogs travel free of charge. "


def look_through(engine: Engine, session: Session, project: Project, *records: Record) -> None:
    """Do the light job's work, then read the records anew."""
    key = project.id or 0
    session.commit()
    prepare.run(engine, key)
    reload(session, project, *records)


def updated(engine: Engine, session: Session, project: Project) -> None:
    """Run the migration that asks for it, and only that, as on a home that stands before it."""
    session.rollback()
    with engine.begin() as connection:
        newest = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0002'")
    migrate(engine, "0003")
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (newest,))
    reload(session, project)


def test_bands_of_other_rules_give_way_and_what_was_right_stays(engine: Engine, session: Session, project: Project):
    first, twin = (make_record(session, project, question="How long?", answer=LONG + end) for end in ("", "Yes"))
    alone = make_record(session, project, question="Is there food?", answer="The galley opens at half past six.")
    look_through(engine, session, project, first, twin, alone)
    bands = {(band.hash, band.record_id) for band in session.exec(select(Band))}
    for number, band in enumerate(session.exec(select(Band)).all()):
        band.hash = number  # as other rules would have made them
        session.add(band)
    session.commit()

    updated(engine, session, project)
    assert prepare.pending(session, project) == 3
    look_through(engine, session, project, first, twin, alone)

    assert {(band.hash, band.record_id) for band in session.exec(select(Band))} == bands
    assert [record.cluster_id for record in (first, twin, alone)] == [first.id, first.id, None]
    late = make_record(session, project, question="How long?", answer=LONG + "No")
    look_through(engine, session, project, late)
    assert late.cluster_id == first.id


def test_no_question_is_counted_twice(engine: Engine, session: Session, project: Project):
    made = [make_record(session, project, question="How long?", answer=f"{number}") for number in range(4)]
    look_through(engine, session, project)

    updated(engine, session, project)
    look_through(engine, session, project, *made)

    assert [record.asked for record in made] == [4] * 4
    assert session.exec(select(func.sum(col(QuestionCount.number)))).one() == 4
    assert session.exec(select(func.count()).where(col(Record.question_key) == 0)).one() == 0
