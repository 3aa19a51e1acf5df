"""A lead settles what reviewers disagree on; gold records; how well people fit."""

from __future__ import annotations

from itertools import count

import pytest
from sqlmodel import Session

from curator.errors import Conflict, Forbidden, Invalid
from curator.services import adjudication, calibration, folding, reviews
from curator.services.adjudication import SettlingForm
from curator.services.reviews import ReviewForm, Stale
from db.models import Project, Record
from tests.factories import make_record

_numbers = count(1)


def form(record: Record, verdict: str = "accept", kind: type = ReviewForm, **fields):
    given = {"version": record.version, "request_id": f"settle-request-{next(_numbers)}", "verdict": verdict, **fields}
    return kind.model_validate(given)


@pytest.fixture
def people(session, project: Project, make_user):
    project.reviews_needed = 2
    session.add(project)
    return make_user("noor"), make_user("lin"), make_user("lea", "lead")


@pytest.fixture
def disputed(session: Session, project: Project, people) -> Record:
    noor, lin, _ = people
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    record = make_record(session, project, question="Is it free?", answer="Under 5.", turns=turns, passages=["Free."])
    reviews.add(session, record, noor, form(record, answer="Under 7.", turns={"1": "Good morning."}, rating=4))
    reviews.add(session, record, lin, form(record, "reject", reasons=["stale"], comment="Old."))
    return record


def test_the_oldest_case_comes_first_and_after_the_last_the_first_again(session, project, people, disputed):
    younger = make_record(session, project)
    for person in people[:2]:
        reviews.add(session, younger, person, form(younger, "unsure"))
    make_record(session, project)

    found = [adjudication.next_case(session, project, after=after) for after in (0, disputed.id, younger.id, 2**80, -1)]

    assert [case.record.id for case in found if case] == [
        disputed.id,
        younger.id,
        disputed.id,
        disputed.id,
        disputed.id,
    ]


def test_a_case_shows_each_persons_opinion_as_it_stands(session, project, people, disputed):
    case = adjudication.next_case(session, project)

    assert [(one.name, one.review.verdict, one.question, one.answer) for one in case.opinions] == [
        ("Noor", "accept", "Is it free?", "Under 7."), ("Lin", "reject", "Is it free?", "Under 5."),
    ]  # fmt: skip
    assert (len(case.passages), case.pair, case.corrected_turns) == (1, None, [("1", "Yes?")])
    assert case.start(None).name == "Noor" and case.start(case.opinions[1].review.id).name == "Lin"


def test_two_corrections_are_laid_side_by_side(session, project, people):
    record = make_record(session, project, answer="Old.")
    for person, answer in zip(people[:2], ("One.", "Two."), strict=True):
        reviews.add(session, record, person, form(record, answer=answer))

    first, second = adjudication.case_of(session, record).pair

    assert (first.answer, second.answer) == ("One.", "Two.")


def test_nothing_waits(session, project, people):
    make_record(session, project)
    assert adjudication.next_case(session, project) is adjudication.next_case(session, project, after=9) is None


def test_taking_an_opinion_makes_all_of_it_the_leads(session, people, disputed):
    theirs = adjudication.case_of(session, disputed).opinions[0].review

    word = adjudication.settle(session, disputed, people[2], form(disputed, kind=SettlingForm, take=theirs.id))

    assert word.adjudication and (disputed.state, disputed.edited, disputed.rating) == ("accepted", True, 4)
    assert (word.answer, word.turns, word.user_id) == ("Under 7.", {"1": "Good morning."}, people[2].id)
    assert folding.refold(session, disputed) is False


def test_taking_a_rejection_takes_its_reasons(session, people, disputed):
    theirs = adjudication.case_of(session, disputed).opinions[1].review

    word = adjudication.settle(session, disputed, people[2], form(disputed, kind=SettlingForm, take=theirs.id))

    assert (disputed.state, word.reasons, word.comment) == ("rejected", ["stale"], "")


def test_a_lead_writes_their_own_or_rejects_without_keeping_what_was_prefilled(session, project, people, disputed):
    mine = form(disputed, kind=SettlingForm, answer="Under 6.")
    assert adjudication.settle(session, disputed, people[2], mine).answer == "Under 6."
    assert adjudication.settle(session, disputed, people[2], mine).answer == "Under 6."  # a double click
    reviews.undo(session, project, people[2], lease_seconds=60)

    with pytest.raises(Invalid, match="reason"):
        adjudication.settle(session, disputed, people[2], form(disputed, "reject", SettlingForm))
    again = form(disputed, "reject", SettlingForm, reasons=["stale"], answer="Under 7.", turns={"1": "x"})
    assert adjudication.settle(session, disputed, people[2], again).answer is None
    assert disputed.state == "rejected" and not disputed.edited


def test_what_does_not_wait_or_does_not_stand_is_a_conflict(session, project, people, disputed):
    _, lin, lead = people
    theirs = adjudication.case_of(session, disputed).opinions[1].review
    plain = make_record(session, project)
    with pytest.raises(Conflict, match="does not wait"):
        adjudication.settle(session, plain, lead, form(plain, kind=SettlingForm))
    with pytest.raises(Conflict, match="taken back"):
        adjudication.settle(session, disputed, lead, form(disputed, kind=SettlingForm, take=99_999))
    with pytest.raises(Stale):
        adjudication.settle(session, disputed, lead, form(disputed, kind=SettlingForm, version=1))
    reviews.add(session, disputed, lin, form(disputed, "unsure"))
    with pytest.raises(Conflict, match="taken back"):
        adjudication.settle(session, disputed, lead, form(disputed, kind=SettlingForm, take=theirs.id))


# --- gold ---------------------------------------------------------------------------------------------


def test_only_a_settled_record_can_be_gold(session, project, people, disputed):
    with pytest.raises(Conflict, match="accepted or rejected"):
        calibration.mark(session, disputed, people[2], gold=True)
    with pytest.raises(Conflict):
        calibration.mark(session, make_record(session, project), people[2], gold=True)


def test_marking_is_a_leads_word_that_no_later_opinion_moves(session, project, people, make_user):
    noor, lin, lead = people
    record = make_record(session, project)
    reviews.add(session, record, noor, form(record, answer="Better."))
    reviews.add(session, record, lin, form(record, answer="Better."))
    calibration.mark(session, record, lead, gold=True)
    before = (record.state, record.settled_by, record.edited)
    kim, tom = make_user("kim"), make_user("tom")
    early = form(record, "reject", reasons=["stale"])

    reviews.add(session, record, kim, form(record))
    blind = reviews.add(session, record, tom, early)

    assert not blind.adjudication and (record.state, record.settled_by, record.edited) == before and record.gold
    assert folding.rebuild(session, project) == 0
    calibration.mark(session, record, lead, gold=False)
    with pytest.raises(Forbidden):
        reviews.add(session, record, make_user("eva"), form(record))


def test_taking_the_word_back_takes_the_gold_away(session, project, people):
    record = make_record(session, project)
    for person in people[:2]:
        reviews.add(session, record, person, form(record))
    calibration.mark(session, record, people[2], gold=True)

    reviews.undo(session, project, people[2], lease_seconds=60)

    assert (record.state, record.gold) == ("accepted", False)


def test_marking_twice_is_one_word(session, project, people, disputed):
    calibration.mark(session, disputed, people[2], gold=False)
    adjudication.settle(session, disputed, people[2], form(disputed, kind=SettlingForm))
    version = disputed.version

    for _ in range(2):
        calibration.mark(session, disputed, people[2], gold=True)

    assert (disputed.version, disputed.gold) == (version, True)


def test_the_next_gold_record_is_one_this_person_has_not_judged(session, project, people, make_user):
    noor, lin, lead = people
    records = [make_record(session, project) for _ in range(3)]
    for record in records[:2]:
        for person in (noor, lin):
            reviews.add(session, record, person, form(record))
        calibration.mark(session, record, lead, gold=True)
    kim = make_user("kim")

    assert calibration.next_gold(session, project, noor) is None
    assert calibration.next_gold(session, project, kim).id == records[0].id
    reviews.add(session, records[0], kim, form(records[0]))
    assert calibration.next_gold(session, project, kim).id == records[1].id
    reviews.undo(session, project, kim, lease_seconds=60)
    assert calibration.next_gold(session, project, kim).id == records[0].id


def test_people_are_measured_by_what_a_lead_settled(session, project, people):
    noor, lin, lead = people
    for verdicts, word in (
        (("accept", "reject"), "reject"),
        (("accept", "reject"), "accept"),
        (("unsure", None), "accept"),
    ):
        record = make_record(session, project)
        for person, verdict in zip((noor, lin), verdicts, strict=True):
            if verdict:
                reviews.add(session, record, person, form(record, verdict, reasons=["stale"]))
        reviews.add(session, record, lead, form(record, word, reasons=["stale"]))
    agreed = make_record(session, project)  # settled without a lead: nobody is measured
    for person in (noor, lin):
        reviews.add(session, agreed, person, form(agreed))

    fits = {fit.user.login: fit for fit in calibration.of(session, project)}

    assert set(fits) == {"noor", "lin"}
    noors, lins = fits["noor"], fits["lin"]
    assert (noors.judged, noors.agreed, noors.too_easy, noors.too_strict) == (2, 1, 1, 0)
    assert (lins.judged, lins.agreed, lins.too_easy, lins.too_strict) == (2, 1, 0, 1)
    assert noors.share == 0.5 and 0 < noors.low < 0.5 < noors.high < 1


def test_only_the_newest_opinion_measures_and_ones_own_word_does_not(session, project, people):
    noor, _, lead = people
    project.reviews_needed = 1
    session.add(project)
    record = make_record(session, project)
    reviews.add(session, record, lead, form(record, "reject", reasons=["stale"]))  # as one of the reviewers
    reviews.add(session, record, noor, form(record, "reject", reasons=["stale"]))
    reviews.add(session, record, noor, form(record))
    reviews.add(session, record, lead, form(record))

    assert [(fit.user.login, fit.judged, fit.agreed) for fit in calibration.of(session, project)] == [("noor", 1, 1)]
