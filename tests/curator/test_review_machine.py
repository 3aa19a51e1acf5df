"""All that two reviewers and a lead can do, in any order, against a simple model: nothing is lost or doubled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlmodel import Session, func, select

from curator.errors import Conflict, Forbidden, NotFound
from curator.services import adjudication, calibration, counts, folding, queue, reviews
from curator.services.adjudication import SettlingForm
from curator.services.reviews import ReviewForm, Stale
from db.models import Project, Record, Review, User, utc_now
from tests.factories import make_record

PEOPLE, LEAD, RECORDS = 3, 2, 3  # two reviewers and then the lead
LEASE = 10_000
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture]
_requests = count(1)

people = st.integers(0, PEOPLE - 1)
places = st.integers(0, RECORDS - 1)
verdicts = st.sampled_from(["accept", "reject", "unsure", "skip"])
texts = st.sampled_from([None, "One way.", "Another way."])


@dataclass
class Said:
    """A review as the model has it; `at` is the version it was given on."""

    who: int
    place: int
    verdict: str
    text: str | None
    at: int
    final: bool = False
    batch: str = ""
    live: bool = True


@dataclass
class Model:
    """What should be true, as plainly as it can be said."""

    needed: int
    said: list[Said] = field(default_factory=list)
    versions: list[int] = field(default_factory=lambda: [1] * RECORDS)
    holders: list[int | None] = field(default_factory=lambda: [None] * RECORDS)
    gold: list[bool] = field(default_factory=lambda: [False] * RECORDS)

    def final(self, place: int) -> Said | None:
        words = [one for one in self.said if one.place == place and one.live and one.final]
        return words[-1] if words else None

    def state(self, place: int) -> str:
        final = self.final(place)
        if final:
            return {"accept": "accepted", "reject": "rejected"}[final.verdict]
        newest: dict[int, Said] = {}
        for one in self.said:
            if one.place == place and one.live and one.verdict != "skip":
                newest.pop(one.who, None)
                newest[one.who] = one
        said = list(newest.values())
        sure = [one for one in said if one.verdict != "unsure" or self.needed == 1]
        last = sure[-self.needed :]
        if "unsure" in {one.verdict for one in last} or len({(one.verdict, one.text) for one in last}) > 1:
            return "unsure"
        if len(last) < self.needed:
            return "unsure" if len(sure) < len(said) and set(range(LEAD)) <= newest.keys() else "new"
        return {"accept": "accepted", "reject": "rejected"}[last[-1].verdict]

    def outcome(self, who: int, place: int, verdict: str, seen: int) -> str:
        leads = who == LEAD and self.state(place) != "new"
        if verdict == "skip":
            return "saved"
        if self.final(place) and not leads and not self.gold[place]:
            return "forbidden"
        if seen == self.versions[place]:
            return "saved"
        blind = self.gold[place] or (self.needed > 1 and self.state(place) == "new")
        own = any(o.who == who and o.place == place and o.verdict != "skip" and o.at >= seen for o in self.said)
        final = leads and verdict in ("accept", "reject")
        return "saved" if blind and not final and not own and seen < self.versions[place] else "stale"

    def say(self, who: int, place: int, verdict: str, text: str | None, batch: str = "") -> None:
        final = who == LEAD and self.state(place) != "new" and verdict in ("accept", "reject")
        self.said.append(Said(who, place, verdict, text, self.versions[place], final, batch))
        if verdict != "skip":
            self.versions[place] += 1
        if self.holders[place] == who:
            self.holders[place] = None
        self.settle(place)

    def settle(self, place: int) -> None:
        if self.state(place) != "new":
            self.holders[place] = None
        self.gold[place] = self.gold[place] and self.final(place) is not None

    def undo(self, who: int) -> list[Said]:
        mine = [one for one in self.said if one.who == who and one.live]
        taken = [one for one in mine if one is mine[-1] or (one.batch and one.batch == mine[-1].batch)]
        for one in taken:
            one.live = False
            self.versions[one.place] += one.verdict != "skip"
            self.settle(one.place)
        if taken and self.state(mine[-1].place) == "new":
            self.holders[mine[-1].place] = who
        return taken

    def left(self, who: int) -> set[int]:
        """Answer the records that may be offered to somebody."""
        judged = {one.place for one in self.said if one.who == who and one.live}
        free = {place for place in range(RECORDS) if self.holders[place] in (None, who)}
        return {place for place in free - judged if self.state(place) == "new"}


class Desk(RuleBasedStateMachine):
    """Drives the services and the model side by side, inside one transaction that is rolled back."""

    session: Session
    project: Project
    users: list[User]
    records: list[Record]

    @initialize(needed=st.integers(1, 2))
    def begin(self, needed: int) -> None:
        self.model = Model(needed)
        self.project.reviews_needed = needed
        self.windows: dict[tuple[int, int], int] = {}
        self.sent: list[tuple[int, int, ReviewForm, int | None]] = []

    def teardown(self) -> None:
        self.session.rollback()

    @rule(who=people, place=places)
    def look(self, who: int, place: int) -> None:
        """Open a record in a window, which then may grow old."""
        self.windows[who, place] = self.model.versions[place]

    @rule(who=people)
    def claim(self, who: int) -> None:
        offered = self.model.left(who)
        record = queue.claim_next(self.session, self.project, self.users[who], lease_seconds=LEASE)
        if record is None:
            assert not offered
            return
        place = [one.id for one in self.records].index(record.id)
        assert place in offered
        self.model.holders[place] = who
        self.windows[who, place] = record.version

    @rule(who=people, place=places, verdict=verdicts, text=texts)
    def save(self, who: int, place: int, verdict: str, text: str | None) -> None:
        seen = self.windows.get((who, place), self.model.versions[place])
        expected = self.model.outcome(who, place, verdict, seen)
        form = ReviewForm(
            version=seen, request_id=f"machine-{next(_requests)}", verdict=verdict, question=None, answer=text,
            reasons=["stale"] if verdict == "reject" else [],
        )  # fmt: skip
        try:
            review = reviews.add(self.session, self.records[place], self.users[who], form)
        except Stale as stale:
            assert expected == "stale" and stale.form.answer == text
        except Forbidden:
            assert expected == "forbidden"
        else:
            assert expected == "saved"
            assert review.record_version == (seen if verdict == "skip" else self.model.versions[place])
            self.model.say(who, place, verdict, text)
            self.sent.append((who, place, form, review.id))

    @rule(which=st.integers(0, 30))
    def send_again(self, which: int) -> None:
        """A double click, or a retry after the network failed."""
        if self.sent:
            who, place, form, review_id = self.sent[which % len(self.sent)]
            assert reviews.add(self.session, self.records[place], self.users[who], form).id == review_id

    @rule(who=people)
    def undo(self, who: int) -> None:
        taken = self.model.undo(who)
        if not taken:
            with pytest.raises(NotFound):
                reviews.undo(self.session, self.project, self.users[who], lease_seconds=LEASE)
            return
        undone = reviews.undo(self.session, self.project, self.users[who], lease_seconds=LEASE)
        assert (undone.number, undone.record.id) == (len(taken), self.records[taken[-1].place].id)

    @rule(who=people, chosen=st.sets(places), verdict=st.sampled_from(["accept", "reject"]))
    def batch(self, who: int, chosen: set[int], verdict: str) -> None:
        request_id = f"batch-{next(_requests):06}"
        mine = {one.place for one in self.model.said if one.who == who and one.live and one.verdict != "skip"}
        free = {p for p in chosen if self.model.state(p) == "new" and self.model.holders[p] in (None, who)} - mine
        ids = [self.records[place].id for place in chosen]
        for _ in range(2):
            number = reviews.add_batch(
                self.session, self.project, self.users[who], ids, verdict, ["stale"], request_id  # pyright: ignore
            )  # fmt: skip
            assert number == len(free)
            if not free:
                break
            for place in sorted(free) if _ == 0 else ():
                self.model.say(who, place, verdict, None, request_id)

    @rule(place=places, take=st.integers(0, 3), verdict=st.sampled_from(["accept", "reject"]), text=texts)
    def adjudicate(self, place: int, take: int, verdict: str, text: str | None) -> None:
        case = adjudication.case_of(self.session, self.records[place])
        taken = case.opinions[take] if take < len(case.opinions) else None
        form = SettlingForm(
            version=self.model.versions[place], request_id=f"machine-{next(_requests)}", verdict=verdict,
            question=None, answer=text, reasons=["stale"], take=taken.review.id if taken else None,
        )  # fmt: skip
        if self.model.state(place) != "unsure" or (taken and not taken.can_be_taken):
            with pytest.raises(Conflict):
                adjudication.settle(self.session, self.records[place], self.users[LEAD], form)
            return
        adjudication.settle(self.session, self.records[place], self.users[LEAD], form)
        text = text if verdict == "accept" else None
        word = (taken.review.verdict, taken.review.answer) if taken else (verdict, text)
        self.model.say(LEAD, place, *word)

    @rule(place=places, gold=st.booleans())
    def mark(self, place: int, gold: bool) -> None:
        record, state = self.records[place], self.model.state(place)
        if gold and state in ("new", "unsure"):
            with pytest.raises(Conflict):
                calibration.mark(self.session, record, self.users[LEAD], gold=True)
            return
        settled = self.session.get(Review, record.settled_by) if record.settled_by else None
        calibration.mark(self.session, record, self.users[LEAD], gold=gold)
        if gold and settled and not self.model.final(place):
            self.model.say(LEAD, place, settled.verdict, settled.answer)
        self.model.gold[place] = gold

    @rule(needed=st.integers(1, 3))
    def need(self, needed: int) -> None:
        self.project.reviews_needed = self.model.needed = needed
        folding.refold_all(self.session, self.project, [record.id or 0 for record in self.records])
        for place in range(RECORDS):
            self.model.settle(place)

    @rule(place=places)
    def expire(self, place: int) -> None:
        self.session.refresh(self.records[place])
        self.records[place].claimed_until = utc_now()
        self.session.flush()
        self.model.holders[place] = None

    @invariant()
    def they_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        self.session.flush()
        self.session.expire_all()
        for place, record in enumerate(self.records):
            assert (record.state, record.version) == (self.model.state(place), self.model.versions[place])
            assert record.gold == self.model.gold[place]
            held = record.claimed_by if record.claimed_until and record.claimed_until > utc_now() else None
            holder = self.model.holders[place]
            assert held == (None if holder is None else self.users[holder].id)
        states = Counter(record.state for record in self.records)
        assert {state: n for state, n in counts.of(self.session, self.project).items() if n} == states
        assert self.session.exec(select(func.count()).select_from(Review)).one() == len(self.model.said)
        assert folding.rebuild(self.session, self.project) == 0


@pytest.fixture
def desk(session: Session, project: Project, make_user: Callable[..., User]) -> Any:
    """A machine on one database; every example is rolled back."""
    users = [make_user("noor"), make_user("lin"), make_user("lea", "lead")]
    records = [make_record(session, project) for _ in range(RECORDS)]
    parts = {"session": session, "project": project, "users": users, "records": records}
    return type("DeskHere", (Desk,), parts)


def test_nothing_is_lost_or_doubled_whatever_people_do(desk: Any) -> None:
    profile = settings(max_examples=100, stateful_step_count=30, deadline=None, suppress_health_check=QUIET)
    run_state_machine_as_test(desk, settings=profile)


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_in_a_long_day(desk: Any) -> None:
    profile = settings(max_examples=400, stateful_step_count=60, deadline=None, suppress_health_check=QUIET)
    run_state_machine_as_test(desk, settings=profile)
