"""Eight people at one database at the same time: every decision that was answered is there, once."""

from __future__ import annotations

import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, select

from curator.errors import NotFound
from curator.services import accounts, counts, folding, queue, reviews
from curator.services.reviews import ReviewForm, Stale
from db.models import Project, Record, Retraction, Review, User
from db.session import open_session
from tests.factories import make_record

THREADS, STEPS, RECORDS = 8, 60, 120


class Person:
    """Decides, skips, takes back and decides in batches, and remembers what was answered."""

    def __init__(self, engine: Engine, project_id: int, user_id: int) -> None:
        self.engine, self.project_id, self.user_id = engine, project_id, user_id
        self.dice = random.Random(user_id)  # noqa: S311  a test's dice
        self.saved: set[str] = set()
        self.undone: Counter[str] = Counter()
        self.stale = 0

    def work(self) -> None:
        for step in range(STEPS):
            self.retry(step)

    def retry(self, step: int) -> None:
        """Do one step; a busy database is asked again, with the same request."""
        name, request_id = self.dice.choice(["save"] * 6 + ["undo", "batch"]), f"u{self.user_id}-step-{step:04}"
        seed = self.dice.random()
        for _ in range(20):
            try:
                with open_session(self.engine, write=True) as session:
                    project = session.get_one(Project, self.project_id)
                    user = session.get_one(User, self.user_id)
                    done = getattr(self, name)(session, project, user, request_id, random.Random(seed))  # noqa: S311
            except OperationalError:
                time.sleep(0.01)
                continue
            except Stale:
                self.stale += 1
            except NotFound:
                pass
            else:
                done()
            return
        raise AssertionError("the database stayed busy")

    def save(self, session: Session, project: Project, user: User, request_id: str, dice: random.Random):
        record = queue.claim_next(session, project, user, lease_seconds=60)
        if record is None:
            return lambda: None
        version = record.version - dice.choice([0, 0, 0, 1])  # now and then the page is an old one
        verdict = dice.choice(["accept", "accept", "reject", "unsure", "skip"])
        form = ReviewForm(
            version=version, request_id=request_id, verdict=verdict, question=None, answer=None, reasons=["stale"]
        )
        reviews.add(session, record, user, form)
        return lambda: self.saved.add(request_id)

    def undo(self, session: Session, project: Project, user: User, _request_id: str, _dice: random.Random):
        undone = reviews.undo(session, project, user, lease_seconds=60)
        batch = undone.review.batch or undone.review.request_id
        return lambda: self.undone.update({batch: undone.number})

    def batch(self, session: Session, project: Project, user: User, request_id: str, dice: random.Random):
        ids = [key for key in session.exec(select(Record.id)) if key]
        number = reviews.add_batch(session, project, user, dice.sample(ids, 5), "accept", (), request_id)
        return lambda: self.saved.update({request_id} if number else ())


@pytest.mark.slow
@pytest.mark.parametrize("needed", [1, 2])
def test_every_answered_decision_is_there_once(engine: Engine, session: Session, project: Project, needed: int) -> None:
    project.reviews_needed = needed
    session.add(project)
    users = [accounts.create_user(session, f"user{number}", f"User {number}") for number in range(THREADS)]
    for _ in range(RECORDS):
        make_record(session, project)
    session.commit()
    people = [Person(engine, project.id or 0, user.id or 0) for user in users]

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(Person.work, people))

    session.expire_all()
    kept = list(session.exec(select(Review)))
    taken_back = set(session.exec(select(Retraction.review_id)))
    assert {review.batch or review.request_id for review in kept} == set().union(*(one.saved for one in people))
    assert len(kept) == len({review.request_id for review in kept})
    undone: Counter[str] = sum((one.undone for one in people), Counter())
    assert Counter(r.batch or r.request_id for r in kept if r.id in taken_back) == undone
    opinions = [review for review in kept if review.verdict != "skip"]
    assert len({(review.record_id, review.record_version) for review in opinions}) == len(opinions)
    standing = Counter((r.record_id, r.user_id) for r in opinions if r.id not in taken_back)
    assert max(standing.values()) == 1
    states = Counter(session.exec(select(Record.state)))
    assert {state: number for state, number in counts.of(session, project).items() if number} == dict(states)
    assert folding.rebuild(session, project) == 0
    assert sum(states.values()) == RECORDS and states["new"] < RECORDS
