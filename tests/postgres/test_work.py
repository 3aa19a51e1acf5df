"""The work of a day on PostgreSQL: claim jobs and records at the same time, import, prepare, decide, take back."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from sqlalchemy import Engine
from sqlmodel import Session, col, select

from curator.services import folding, imports, jobs, prepare, queue, reviews, search, undo
from curator.services.reviews import ReviewForm
from curator.settings import Settings
from curator.worker import Worker
from db.models import Job, Project, QuestionCount, Record, User
from db.session import open_session
from tests import searching
from tests.factories import make_record, reload


def together(*work: object) -> None:
    threads = [threading.Thread(target=one) for one in work]  # pyright: ignore
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_of_many_workers_each_job_is_claimed_by_one(engine: Engine, session: Session):
    for number in range(12):
        jobs.enqueue(session, "light", "test", f"test:{number}")
    session.commit()
    claimed: list[str] = []

    def work() -> None:
        while True:
            with open_session(engine, write=True) as own:
                job = jobs.claim(own, "light", "me")
            if job is None:
                return
            claimed.append(job.key)

    together(*[work] * 6)

    assert sorted(claimed) == sorted(f"test:{number}" for number in range(12))


def test_a_job_is_live_once_even_when_two_ask_at_the_same_time(engine: Engine):
    begin = threading.Barrier(4)

    def ask() -> None:
        with open_session(engine, write=True) as own:
            begin.wait(10)
            jobs.enqueue(own, "light", "test", "test:1")

    together(*[ask] * 4)

    with open_session(engine) as own:
        assert len(own.exec(select(Job)).all()) == 1


def test_a_log_is_imported_prepared_and_found(
    engine: Engine, session: Session, project: Project, settings: Settings, tmp_path: Path
):
    log = tmp_path / "log.jsonl"
    rows = [{"question": f"年假 leave {n % 3}?", "answer": f"Mail hr{n}@example.com, 五天 {n}."} for n in range(30)]
    log.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    source = imports.add_source(session, project, log, importer="qa-table")
    jobs.enqueue(session, "light", "import", f"import:{source.id}", {"id": source.id})
    session.commit()

    assert Worker(settings, "light", engine=engine).run_until_idle() == 2

    reload(session, project)
    found = session.exec(search.among(session, select(Record), "年假 leave")).all()
    assert len(found) == 30
    assert {record.asked for record in found} == {8}
    assert {record.personal for record in found} == {"email"}
    assert {count.number for count in session.exec(select(QuestionCount))} == {10}
    assert prepare.pending(session, project) == 0
    assert session.exec(select(Job.state).where(Job.kind == "prepare")).all() == ["done"]


def test_a_decision_settles_its_record_and_the_correction_is_found(
    session: Session, project: Project, make_user: object
):
    user: User = make_user()  # pyright: ignore
    make_record(session, project, external_id="one", answer="Wrong.")
    record = queue.claim_next(session, project, user, lease_seconds=60)
    assert record is not None
    form = ReviewForm(version=1, request_id="request-1", verdict="accept", rating=4, answer="Right 正确.")
    reviews.add(session, record, user, form)
    session.commit()

    assert (record.state, record.edited) == ("accepted", True)
    assert queue.claim_next(session, project, user, lease_seconds=60) is None
    assert searching.names(session, "正确") == "one"

    undo.undo(session, project, user, lease_seconds=60)
    session.commit()

    assert (record.state, searching.names(session, "正确")) == ("new", "")


def test_two_who_decide_at_the_same_time_leave_one_decision(
    engine: Engine, session: Session, project: Project, make_user: object
):
    users: list[User] = [make_user(login) for login in ("noor", "ben")]  # pyright: ignore
    record = make_record(session, project)
    begin = threading.Barrier(2)
    outcome: list[str] = []

    def decide(user: User) -> None:
        try:
            with open_session(engine, write=True) as own:
                mine = own.get_one(Record, record.id)
                begin.wait(10)
                form = ReviewForm(version=1, request_id=f"request-{user.login}", verdict="accept")
                reviews.add(own, mine, user, form)
            outcome.append("saved")
        except reviews.Stale:
            outcome.append("stale")

    together(*[lambda user=user: decide(user) for user in users])

    assert sorted(outcome) == ["saved", "stale"]
    reload(session, record)
    assert (record.state, record.version) == ("accepted", 2)
    assert folding.rebuild(session, project) == 0


def test_a_decision_during_preparing_is_what_the_index_holds(
    engine: Engine, session: Session, project: Project, make_user: object
):
    """The job has read the record before the decision and writes after it."""
    user: User = make_user()  # pyright: ignore
    record = make_record(session, project, external_id="one", answer="Wrong.")
    meanwhile = threading.Event()

    def saving():
        if not meanwhile.is_set():
            meanwhile.set()
            with open_session(engine, write=True) as own:
                form = ReviewForm(version=1, request_id="request-1", verdict="accept", answer="Right 正确.")
                reviews.add(own, own.get_one(Record, record.id), user, form)
        return open_session(engine, write=True)

    assert prepare.step(engine, project.id or 0, saving) == 1

    assert searching.names(session, "正确") == "one"
    reload(session, record)
    assert (record.state, record.personal) == ("accepted", "")
    assert session.exec(select(col(Record.id)).where(Record.question_key != 0)).all() == [record.id]
