"""The queue: one winner per claim, no word from the dead, three tries."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from curator.services import jobs
from db.models import Job, utc_now
from db.session import open_session


@pytest.fixture
def job(engine: Engine) -> Job:
    with open_session(engine, write=True) as session:
        return jobs.enqueue(session, "light", "import", "import:1", {"id": 1})


def claim(engine: Engine, worker: str = "w", now: datetime | None = None) -> Job | None:
    with open_session(engine, write=True) as session:
        return jobs.claim(session, "light", worker, now)


def stored(engine: Engine) -> Job:
    with open_session(engine) as session:
        return session.exec(select(Job)).one()


def test_a_second_enqueue_answers_the_live_job(engine: Engine, job: Job):
    with open_session(engine, write=True) as session:
        again = jobs.enqueue(session, "light", "import", "import:1", {"id": 1})

    assert again.id == job.id


def test_a_key_is_free_again_when_its_job_has_ended(engine: Engine, job: Job):
    claimed = claim(engine)
    with open_session(engine, write=True) as session:
        assert claimed and jobs.finish(session, claimed)
    with open_session(engine, write=True) as session:
        assert jobs.enqueue(session, "light", "import", "import:1").id != job.id


def test_a_job_is_gone_when_its_business_row_was_rolled_back(engine: Engine):
    with pytest.raises(RuntimeError), open_session(engine, write=True) as session:
        jobs.enqueue(session, "light", "import", "import:1")
        raise RuntimeError

    assert claim(engine) is None


def test_of_many_workers_one_wins(engine: Engine, job: Job):
    won: list[Job | None] = []
    gate = threading.Barrier(8)

    def compete() -> None:
        gate.wait()
        won.append(claim(engine))

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 8
    assert len([one for one in won if one]) == 1
    assert stored(engine).attempt == 1


def test_a_queue_takes_only_its_own(engine: Engine, job: Job):
    with open_session(engine, write=True) as session:
        assert jobs.claim(session, "train", "w") is None


def test_a_job_whose_worker_fell_silent_is_taken_over_and_the_old_worker_cannot_write(engine: Engine, job: Job):
    old = claim(engine, "old")
    new = claim(engine, "new", utc_now() + jobs.LEASE + timedelta(seconds=1))
    assert old and new and new.fence == old.fence + 1

    with open_session(engine, write=True) as session:
        assert not jobs.heartbeat(session, old).ours
        assert not jobs.finish(session, old)
        assert not jobs.fail(session, old, "late")
        assert not jobs.release(session, old)
    with pytest.raises(jobs.Lost), jobs.holding(engine, old):
        pytest.fail("a stale worker got to write")

    assert (stored(engine).state, stored(engine).worker) == ("running", "new")


def test_a_heartbeat_keeps_the_job(engine: Engine, job: Job):
    ours = claim(engine)
    end = utc_now() + jobs.LEASE
    with open_session(engine, write=True) as session:
        assert ours and jobs.heartbeat(session, ours, end).ours

    assert claim(engine, "other", end + timedelta(seconds=1)) is None


def test_after_three_silent_tries_a_job_is_buried_with_a_reason(engine: Engine, job: Job):
    now = utc_now()
    for attempt in (1, 2, 3):
        taken = claim(engine, "w", now)
        assert taken and taken.attempt == attempt
        now += jobs.LEASE + timedelta(seconds=1)

    assert claim(engine, "w", now) is None
    with open_session(engine, write=True) as session:
        buried = jobs.bury(session, "light", now)

    assert [one.key for one in buried] == ["import:1"]
    assert stored(engine).state == "failed"
    assert "each time it was tried" in stored(engine).error


def test_a_failed_job_is_tried_again_later_and_at_last_failed(engine: Engine, job: Job):
    now = utc_now()
    for _ in range(3):
        taken = claim(engine, "w", now)
        assert taken
        with open_session(engine, write=True) as session:
            assert jobs.fail(session, taken, "Ollama is away", retry_in=timedelta(seconds=30), now=now)
        assert claim(engine, "w", now) is None
        now += timedelta(seconds=31)

    assert (stored(engine).state, stored(engine).error) == ("failed", "Ollama is away")


def test_a_failure_without_retry_is_final_at_once(engine: Engine, job: Job):
    taken = claim(engine)
    with open_session(engine, write=True) as session:
        assert taken and jobs.fail(session, taken, "a bug")

    assert stored(engine).state == "failed"


def test_a_released_job_has_used_up_no_attempt(engine: Engine, job: Job):
    taken = claim(engine)
    with open_session(engine, write=True) as session:
        assert taken and jobs.release(session, taken)

    assert (stored(engine).state, stored(engine).attempt) == ("queued", 0)
    assert claim(engine)


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_by_its_worker(engine: Engine, job: Job):
    with open_session(engine, write=True) as session:
        waiting = jobs.request_cancel(session, "import:1")
    assert waiting and waiting.state == "cancelled"

    with open_session(engine, write=True) as session:
        jobs.enqueue(session, "light", "import", "import:1")
    taken = claim(engine)
    with open_session(engine, write=True) as session:
        running = jobs.request_cancel(session, "import:1")
        assert taken and running and running.state == "running"
        assert jobs.heartbeat(session, taken) == (True, True)
        assert jobs.request_cancel(session, "nobody") is None


@pytest.mark.parametrize("first", ["cancelled", "leaving"])
def test_a_lost_job_overrules_every_other_reason_to_halt(first: jobs.HaltReason):
    halt = jobs.Halt()
    assert not halt.asked

    halt.set(first)
    halt.set("leaving")
    assert halt.reason == first
    halt.set("lost")

    assert halt.asked and halt.reason == "lost"
