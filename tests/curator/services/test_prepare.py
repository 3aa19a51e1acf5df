"""New records are looked through once, in batches, however often that is interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from curator.errors import Unavailable
from curator.services import imports, intake, jobs, prepare, reviews, search, twins
from curator.services.work import Work
from curator.settings import Settings
from curator.worker import KINDS, Kind, Worker
from db.models import Job, Project, QuestionCount, Record, User
from db.session import open_session
from tests import searching
from tests.factories import make_record, reload


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "BATCH", 4)


@pytest.fixture
def ask(session: Session, project: Project) -> Callable[..., list[Record]]:
    """Make records that ask these questions, in this order."""

    def make(*questions: str) -> list[Record]:
        return [make_record(session, project, question=question) for question in questions]

    return make


def counted(session: Session) -> dict[int, int]:
    return {row.key: row.number for row in session.exec(select(QuestionCount))}


def a_job(engine: Engine, settings: Settings, project: Project) -> Work:
    with open_session(engine, write=True) as session:
        prepare.enqueue(session, project.id or 0)
        job = jobs.claim(session, "light", "me")
    assert job is not None
    return Work(engine, settings, job, None, jobs.Halt())  # pyright: ignore[reportArgumentType] # nothing is launched


def test_an_empty_project_has_nothing_to_look_through(engine: Engine, session: Session, project: Project):
    assert prepare.pending(session, project) == 0
    session.commit()
    assert prepare.step(engine, project.id or 0, lambda: open_session(engine, write=True)) == 0


def test_records_of_signs_or_nothing_are_looked_through(
    engine: Engine, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    made = ask("", "?", "\u3000", "\0", "\u202e\u200d")

    prepare.run(engine, project.id or 0)

    reload(session, project, *made)
    assert project.prepared_up_to == made[-1].id
    assert {record.personal for record in made} == {""}
    assert prepare.pending(session, project) == 0


def test_a_record_of_two_megabytes_and_one_of_ten_thousand_turns_are_looked_through(
    engine: Engine, session: Session, project: Project
):
    turns = [{"role": "user", "content": f"turn {number}"} for number in range(10_000)]
    big = make_record(session, project, external_id="big", question="年假 " * 400_000, answer="x " * 500_000)
    long = make_record(session, project, external_id="long", turns=turns, passages=["passage"] * 200)

    prepare.run(engine, project.id or 0)

    reload(session, big, long)
    assert searching.names(session, "年假") == "big"
    assert searching.names(session, '"turn 77"') == "long"


def test_each_record_is_found_flagged_and_has_its_language(engine: Engine, session: Session, project: Project):
    make_record(
        session, project, external_id="en", question="Where can I buy a ticket for the ferry tomorrow?", language=""
    )
    make_record(
        session, project, external_id="zh", question="我的年假还有几天可以休息？", language="en",
        answer="请写信给 hr@example.com。",
    )  # fmt: skip
    make_record(
        session, project, external_id="de", question="Wo kann ich morgen eine Fahrkarte kaufen?", language="nds",
        signals={"language": "nds"}, answer="+49 30 901820",
    )  # fmt: skip
    make_record(
        session, project, external_id="own", question="Whom can I ask about my luggage?", answer="Ask 0700 4400.",
        passages=["Call 0700 4400."],
    )  # fmt: skip

    prepare.run(engine, project.id or 0)

    session.rollback()
    rows = session.exec(select(Record).order_by(Record.id)).all()  # pyright: ignore[reportArgumentType] # a column
    assert [(row.external_id, row.language, row.personal) for row in rows] == [
        ("en", "en", ""), ("zh", "zh", "email"), ("de", "nds", "phone"), ("own", "en", ""),
    ]  # fmt: skip
    assert [searching.names(session, asked) for asked in ("ticket", "年假", "fahrkarte 901820")] == ["en", "zh", "de"]


def test_the_language_of_the_log_stands_and_a_guess_does_not():
    from curator.importers.draft import RecordDraft

    said = RecordDraft(line=1, question="Wo ist das Schiff?", answer="Im Hafen.", language="nds")
    silent = RecordDraft(line=1, question="Wo ist das Schiff?", answer="Im Hafen.")

    assert intake.signals(said)["language"] == "nds"
    assert "language" not in intake.signals(silent)


def test_questions_are_counted_and_told_at_powers_of_two(
    engine: Engine, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    made = ask("How much?", "how much", "Ｈow much！", "Other?", *["HOW MUCH"] * 7)
    for upto, told in ((4, 2), (8, 4), (11, 8)):
        prepare.step(engine, project.id or 0, lambda: open_session(engine, write=True))
        reload(session, *made)
        assert {record.asked for record in made[:upto] if record is not made[3]} == {told}

    assert made[3].asked == 1
    assert len({record.question_key for record in made}) == 2
    assert counted(session) == {made[0].question_key: 10, made[3].question_key: 1}
    assert -(2**63) <= made[0].question_key < 2**63


def test_one_question_in_two_projects_is_counted_apart(
    engine: Engine, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    other = Project(slug="other", name="Other")
    session.add(other)
    session.commit()
    ours = ask("Why?")
    theirs = [make_record(session, other, question="Why?") for _ in range(3)]

    prepare.run(engine, other.id or 0)
    prepare.run(engine, project.id or 0)

    reload(session, *ours, *theirs)
    assert ours[0].question_key == theirs[0].question_key
    assert ([record.asked for record in ours], {record.asked for record in theirs}) == ([1], {2})


def test_a_question_that_comes_again_and_again_costs_little_more(
    engine: Engine, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    """Rows told anew stay below twice the records."""
    ask(*["Same?"] * 60)
    told = 0

    @event.listens_for(engine, "after_cursor_execute")
    def note(_c: object, cursor: object, statement: str, *_: object) -> None:
        nonlocal told
        if statement.startswith("UPDATE record SET asked"):
            told += cursor.rowcount  # pyright: ignore

    prepare.run(engine, project.id or 0)

    assert 20 < told < 2 * 60, "telling each time would be 480"


def test_an_interrupted_job_goes_on_where_it_was_and_counts_nothing_twice(
    engine: Engine, settings: Settings, session: Session, project: Project, ask: Callable[..., list[Record]],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    made = ask(*["Same?"] * 10)
    place, calls = twins.place, 0

    def dying(*arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        place(*arguments)  # pyright: ignore

    monkeypatch.setattr(twins, "place", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare.run(engine, project.id or 0)
    reload(session, project, *made)
    assert project.prepared_up_to == made[3].id
    assert [record.personal for record in made] == [""] * 4 + [None] * 6

    prepare.run(engine, project.id or 0)

    reload(session, *made)
    assert counted(session) == {made[0].question_key: 10}
    assert {record.asked for record in made} == {8}


def test_two_at_the_same_records_write_them_down_once(
    engine: Engine, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    made = ask(*["Same?"] * 4)
    other = {"came": False}

    def saving():
        if not other["came"]:
            other["came"] = True
            prepare.run(engine, project.id or 0)
        return open_session(engine, write=True)

    assert prepare.step(engine, project.id or 0, saving) == 4

    reload(session, *made)
    assert counted(session) == {made[0].question_key: 4}
    assert {record.asked for record in made} == {4}


def test_the_job_ends_at_once_when_asked_to(
    engine: Engine, settings: Settings, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    ask(*["Same?"] * 10)
    work = a_job(engine, settings, project)
    work.halt.set("leaving")

    with pytest.raises(jobs.Lost):
        prepare.prepare(work)

    reload(session, project)
    assert project.prepared_up_to == 0


def test_a_cancelled_job_is_no_failure(
    engine: Engine, settings: Settings, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    ask("One?")
    work = a_job(engine, settings, project)
    work.halt.set("cancelled")

    prepare.prepare(work)

    reload(session, project)
    assert prepare.pending(session, project) == 1


def test_a_job_that_was_taken_over_writes_nothing(
    engine: Engine, settings: Settings, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    made = ask("One?")
    work = a_job(engine, settings, project)
    with open_session(engine, write=True) as own:
        own.get_one(Job, work.job.id).fence += 1

    with pytest.raises(jobs.Lost):
        prepare.prepare(work)

    reload(session, *made)
    assert made[0].personal is None


def test_a_busy_database_is_tried_again_later(
    engine: Engine,
    settings: Settings,
    project: Project,
    ask: Callable[..., list[Record]],
    monkeypatch: pytest.MonkeyPatch,
):
    ask("One?")
    work = a_job(engine, settings, project)

    def busy(*_: object) -> None:
        raise OperationalError("UPDATE", {}, Exception("database is locked"))

    monkeypatch.setattr(twins, "place", busy)
    with pytest.raises(Unavailable):
        prepare.prepare(work)


def test_what_is_added_while_the_job_ends_is_not_forgotten(
    engine: Engine, settings: Settings, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    """Either the job sees the records, or it is over by the time they ask for one."""
    ask("One?")
    work = a_job(engine, settings, project)

    prepare.prepare(work)

    session.commit()
    ask("Two?")
    prepare.enqueue(session, project.id or 0)
    session.commit()
    assert sorted(session.exec(select(Job.state)).all()) == ["done", "queued"]
    session.commit()
    assert Worker(settings, "light", engine=engine).run_until_idle() == 1
    reload(session, project)
    assert prepare.pending(session, project) == 0


def test_a_decision_during_preparing_is_what_the_index_holds(
    engine: Engine, session: Session, project: Project, make_user: Callable[..., User]
):
    user = make_user()
    record = make_record(session, project, external_id="one", answer="Wrong.")
    came: list[bool] = []

    def saving():
        if not came:
            came.append(True)
            with open_session(engine, write=True) as own:
                form = reviews.ReviewForm(version=1, request_id="request-1", verdict="accept", answer="Right 正确.")
                reviews.add(own, own.get_one(Record, record.id), user, form)
        return open_session(engine, write=True)

    assert prepare.step(engine, project.id or 0, saving) == 1

    assert searching.names(session, "正确") == "one"


def test_an_import_by_the_worker_ends_prepared(
    engine: Engine, settings: Settings, session: Session, project: Project, tmp_path: Path
):
    log = tmp_path / "log.jsonl"
    log.write_text(
        "\n".join(json.dumps({"question": f"ferry {n}?", "answer": "yes"}) for n in range(9)), encoding="utf-8"
    )
    source = imports.add_source(session, project, log)
    jobs.enqueue(session, "light", "import", f"import:{source.id}", {"id": source.id})
    session.commit()

    assert Worker(settings, "light", engine=engine).run_until_idle() == 2

    reload(session, project)
    assert prepare.pending(session, project) == 0
    assert len(session.exec(search.among(session, select(Record.id), "ferry")).all()) == 9


def test_a_start_asks_for_the_projects_that_lag_behind(
    engine: Engine, session: Session, project: Project, ask: Callable[..., list[Record]]
):
    done = Project(slug="done", name="Done")
    session.add(done)
    session.commit()
    ask("One?")

    prepare.enqueue_all(session)
    prepare.enqueue_all(session)

    assert [job.key for job in session.exec(select(Job))] == [f"prepare:{project.id}"]


def test_counting_what_is_left_stops_somewhere(
    session: Session, project: Project, ask: Callable[..., list[Record]], monkeypatch: pytest.MonkeyPatch
):
    ask(*"abcdef")
    assert prepare.pending(session, project) == 6
    monkeypatch.setattr(prepare, "COUNTED", 3)
    assert prepare.pending(session, project) == 4


def test_a_key_is_looked_up_among_those_that_share_it(session: Session):
    statement = str(prepare._TELL.compile(session.get_bind()))
    rows = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", (1, 2, 0, 1))
    assert [row[3] for row in rows] == ["SEARCH record USING INDEX ix_record_question_key (question_key=?)"]


def test_the_worker_knows_the_job():
    assert KINDS["prepare"] == Kind(prepare.prepare)
