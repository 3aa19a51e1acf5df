"""Single judgements: what is one, how they are frozen beside pairs, exported, and learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from curator.errors import Invalid
from curator.services import (
    accounts,
    arena,
    battles,
    exports,
    folding,
    judgements,
    lessons,
    reviews,
    run_folder,
    snapshots,
)
from curator.settings import Settings
from db.models import PreferencePair, Project, Record, Run, Snapshot, User, Winner
from db.session import open_session
from tests.curator.services.test_reviews import form
from tests.curator.taught import School, answer_both, begin_battle, school, stored
from tests.curator.teaching import classroom
from tests.factories import make_record
from trainer.spec import Example, Split

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    return make_user()


def found(session: Session, project: Project) -> list[tuple[str, str, str]]:
    """Every single judgement: good or bad, the question, the answer."""
    drafts = list(judgements.single(session, project))
    words = [next(word for word in ("good", "bad") if word in draft.content) for draft in drafts]
    return [
        (word, draft.content["prompt"][-1]["content"], draft.content[word])
        for word, draft in zip(words, drafts, strict=True)
    ]


def decide(session: Session, project: Project, user: User, record: Record, verdict: str, **fields: Any) -> None:
    reasons = [project.reasons[0]["key"]] if verdict == "reject" else []
    reviews.add(session, record, user, form(record, verdict, reasons=reasons, **fields))


def judge(session: Session, project: Project, user: User, verdict: str, **fields: Any) -> None:
    record = make_record(session, project, question="Is it free?", answer="Yes, under 5.", signals={"thumbs": -1})
    decide(session, project, user, record, verdict, **fields)


def test_an_answer_accepted_as_it_is_is_good_and_a_rejected_one_bad(session, project, user):
    judge(session, project, user, "accept")
    judge(session, project, user, "reject")

    assert found(session, project) == [
        ("good", "Is it free?", "Yes, under 5."),
        ("bad", "Is it free?", "Yes, under 5."),
    ]


def test_a_corrected_answer_makes_a_pair_and_no_single_judgement(session, project, user):
    judge(session, project, user, "accept", answer="Yes, under 7.")

    assert found(session, project) == []
    assert len(session.exec(PreferencePair.__table__.select()).all()) == 1


def test_a_corrected_question_goes_with_the_answer_that_was_accepted(session, project, user):
    judge(session, project, user, "accept", question="Is it free for children?")

    assert found(session, project) == [("good", "Is it free for children?", "Yes, under 5.")]


def test_what_was_typed_into_a_rejection_is_not_what_was_rejected(session, project, user):
    judge(session, project, user, "reject", answer="No.", question="Is it?")

    assert found(session, project) == [("bad", "Is it free?", "Yes, under 5.")]


@pytest.mark.parametrize("fields", [{"signals": {"truncated": True}}, {"answer": " "}])
def test_an_answer_that_was_cut_short_or_is_empty_is_no_judgement(session, project, user, fields):
    for verdict in ("accept", "reject"):
        record = make_record(session, project, **fields)
        decide(session, project, user, record, verdict)

    assert found(session, project) == []


def test_a_thumb_and_what_nobody_settled_are_no_judgements(session, project, user):
    make_record(session, project, signals={"thumbs": -1}, thumbs=-1)
    judge(session, project, user, "unsure")

    assert found(session, project) == []


def test_what_is_taken_back_is_in_no_later_snapshot(session, project, user):
    before = preferences(session, project, user, 0, 40, 1)

    reviews.undo(session, project, user, lease_seconds=0)
    after = snapshots.freeze(session, project, "p2", kind="preference")

    assert (lessons.held(before).bad, lessons.held(after).bad) == (1, 0)


def test_they_can_be_made_anew_from_the_reviews(session, project, user):
    for verdict in ("accept", "reject"):
        judge(session, project, user, verdict)
    before = found(session, project)
    for record in session.exec(Record.__table__.select()).all():
        session.get_one(Record, record.id).state = "new"
    session.flush()
    assert found(session, project) == []

    folding.rebuild(session, project)

    assert found(session, project) == before


@pytest.fixture
def place(engine: Engine, settings: Settings, tmp_path: Path) -> School:
    place = school(engine, settings, tmp_path)
    place.version(1)
    place.version(2)
    return place


def voted(place: School, winner: Winner, question: str | None = "Are dogs free?") -> tuple[str | None, str | None]:
    """Vote in a battle and answer what both sides had said."""
    person = place.person(f"voter-{winner.replace(' ', '-')}")
    battle = begin_battle(place, person, question)
    answer_both(place, battle)
    with open_session(place.engine, write=True) as session:
        arena.vote(session, place.project, battle, person, winner)
    turn = stored(place, battle)
    return turn.left, turn.right


def of_battles(place: School) -> list[tuple[str, str, str]]:
    with open_session(place.engine) as session:
        project = session.get_one(Project, place.project.id)
        return [one for one in found(session, project) if one[0] == "bad"]


def test_both_answers_of_a_vote_both_bad_are_bad(place: School):
    left, right = voted(place, "both bad")

    assert of_battles(place) == [("bad", "Are dogs free?", left), ("bad", "Are dogs free?", right)]


@pytest.mark.parametrize("winner", ["left", "right", "tie"])
def test_other_votes_are_no_single_judgements(place: School, winner: Winner):
    voted(place, winner)

    assert of_battles(place) == []


def test_both_bad_with_the_right_answer_written_makes_pairs_instead(place: School):
    person = place.person()
    battle = begin_battle(place, person)
    answer_both(place, battle)
    with open_session(place.engine, write=True) as session:
        arena.correct(session, place.project, battle, person, "Dogs travel free.")

    assert of_battles(place) == []


def test_a_vote_keeps_the_group_and_the_record_of_its_question(place: School):
    voted(place, "both bad", None)

    with open_session(place.engine) as session:
        project = session.get_one(Project, place.project.id)
        drafts = [draft for draft in judgements.single(session, project) if "bad" in draft.content]
        record = session.get_one(Record, drafts[0].record_id)
        assert {(draft.record_id, draft.group) for draft in drafts} == {(record.id, record.group)}


def preferences(session: Session, project: Project, user: User, pairs: int, good: int, bad: int) -> Snapshot:
    for number in range(pairs + good + bad):
        record = make_record(session, project, question=f"Q{number}?", answer=f"A{number}.")
        verdict = "accept" if number < pairs + good else "reject"
        fields = {"answer": f"Better {number}."} if number < pairs else {}
        decide(session, project, user, record, verdict, **fields)
    return snapshots.freeze(session, project, "p1", kind="preference")


def test_a_snapshot_holds_pairs_and_single_judgements(session, project, user):
    snapshot = preferences(session, project, user, 12, 20, 15)

    whole = lessons.held(snapshot)
    assert (whole.pairs, whole.good, whole.bad, whole.singles) == (12, 20, 15, 35)
    for split in SPLITS:
        part, read = lessons.held(snapshot, split), list(lessons.preferences(session, snapshot, split))
        assert part.pairs == len(list(lessons.pairs(session, snapshot, split)))
        assert part.pairs + part.singles == len(read) == getattr(snapshot, split)
    told = list(lessons.judgements(session, snapshot))
    assert sum(one.good for one in told) == 32 and len(told) == 59


def test_the_hash_of_pairs_alone_is_what_it_was_before_there_were_single_judgements(session, project):
    session.add(
        PreferencePair(
            project_id=project.id, group="g1", prompt=[{"role": "user", "content": "Free?"}], chosen="Yes.",
            rejected="No.",
        )
    )  # fmt: skip
    session.flush()

    snapshot = snapshots.freeze(session, project, "p1", kind="preference")

    assert snapshot.sha256 == "48c1ba3cacd5b0fd70c7731923cb1961ec611def1d5b082888bd2449ced2670b"
    assert snapshot.singles == {}


def test_the_same_judgements_in_another_order_have_the_same_hash(session, project, user):
    first = preferences(session, project, user, 3, 10, 10)
    again = snapshots.freeze(session, project, "p2", kind="preference")

    assert (again.sha256, again.singles) == (first.sha256, first.singles)


def test_prompts_of_the_exam_reach_no_training(session, project, user):
    record = next(
        record
        for number in range(200)
        if snapshots.split_of((record := make_record(session, project, group=f"t{number}")).group, project.seed)
        == "test"
    )
    decide(session, project, user, record, "reject")
    snapshot = preferences(session, project, user, 2, 10, 10)

    sides = {one.id: split for split in SPLITS for one in lessons.preferences(session, snapshot, split)}
    assert sides[str(record.id)] == "test"


def test_a_judgement_that_holds_personal_data_stays_out(session, project, user):
    preferences(session, project, user, 1, 12, 12)
    record = make_record(session, project, answer="Write to jo.smith@example.org.")
    decide(session, project, user, record, "reject")

    without = snapshots.freeze(session, project, "p2", kind="preference")
    included = snapshots.freeze(session, project, "p3", kind="preference", include_personal=True)

    assert (without.left_out, lessons.held(without).bad) == (1, 12)
    assert (included.left_out, lessons.held(included).bad) == (0, 13)


def test_exports_hold_pairs_and_every_answer_by_itself(session, project, user, tmp_path: Path):
    snapshot = preferences(session, project, user, 12, 20, 15)

    files = {file.name: file for file in exports.export(session, snapshot, "trl", tmp_path / "a")}
    again = exports.export(session, snapshot, "trl", tmp_path / "b")

    assert [file.read_bytes() for file in files.values()] == [file.read_bytes() for file in again]
    told = [json.loads(line) for line in files["p1_kto_train.jsonl"].read_text().splitlines()]
    paired = files["p1_train.jsonl"].read_text().splitlines()
    examples, bad = lessons.learnt(snapshot, "kto", "train")
    assert (len(told), sum(not one["label"] for one in told)) == (examples, bad)
    assert (len(paired), 0) == lessons.learnt(snapshot, "dpo", "train")


def test_pairs_alone_are_exported_as_ever(session, project, user, tmp_path: Path):
    snapshot = preferences(session, project, user, 12, 0, 0)

    names = {file.name for file in exports.export(session, snapshot, "sharegpt", tmp_path)}

    assert not any("kto" in name for name in names)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_a_run_learns_pairs_or_judgements(engine: Engine, settings: Settings, tmp_path: Path, method: str):
    room = classroom(engine, settings, tmp_path)
    with open_session(engine, write=True) as session:
        project = session.get_one(Project, room.project.id)
        user = accounts.create_user(session, "noor", "Noor")
        room.snapshot = preferences(session, project, user, 30, 10, 25)

    run = room.start(method=method)
    with open_session(engine) as session:
        folder = run_folder.write(session, session.get_one(Run, run.id), settings)
        examples, bad = lessons.learnt(room.snapshot, folder.spec().method, "train")

    learnt: list[Example] = list(folder.examples("train"))
    assert (folder.spec().method, folder.spec().learning_rate) == (method, 5e-6)
    assert (len(learnt), sum(not one.good for one in learnt)) == (examples, bad)
    assert all(bool(one.rejected) == (method == "dpo") for one in learnt)
    assert len({one.id for split in SPLITS for one in folder.examples(split)}) == sum(
        len(list(folder.examples(split))) for split in SPLITS
    )


def refusal(session: Session, snapshot: Snapshot, method: Any) -> str:
    with pytest.raises(Invalid) as caught:
        lessons.check(snapshot, method)
    return str(caught.value)


def test_too_few_of_a_kind_is_a_sentence(session, project, user):
    snapshot = preferences(session, project, user, 0, 40, 3)

    found = lessons.held(snapshot, "train")
    assert f"{found.good} good and {found.bad} bad answers" in refusal(session, snapshot, "kto")
    assert "no pair" in refusal(session, snapshot, "dpo")


def test_of_a_version_taught_by_preferences_the_approved_answer_is_shown(place: School):
    with open_session(place.engine, write=True) as session:
        project = session.get_one(Project, place.project.id)
        place.snapshot = snapshots.freeze(session, project, "p1", kind="preference")
    place.version(3)
    person = place.person("reader")
    battle = begin_battle(place, person, None, new=3)

    with open_session(place.engine) as session:
        record = session.get_one(Record, battle.record_id)
        assert battles.approved_answer(session, battle) == record.answer
