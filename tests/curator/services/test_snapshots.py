"""Snapshots: what was approved, copied once and never changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlmodel import Session, col, select

from curator.errors import Conflict, Invalid, NotFound
from curator.importers import RecordDraft
from curator.services import intake, lessons, snapshot_diff, snapshots
from curator.services.examples import with_passages
from db.models import PreferencePair, Project, Record, Review, SnapshotExample, User, utc_now
from db.session import open_session
from tests.factories import make_record

_requests = count(1)


@pytest.fixture
def user(make_user: Callable[..., User]) -> User:
    return make_user()


@pytest.fixture
def approve(session: Session, project: Project, user: User) -> Callable[..., Record]:
    """Make an accepted record; `fix` and `ask` are the settled correction of its answer and question."""

    numbers = count(2)  # group-2 falls on the train side under the default seed

    def approve(fix: str | None = None, ask: str | None = None, **fields: Any) -> Record:
        fields.setdefault("group", f"group-{next(numbers)}")
        record = make_record(session, project, state="accepted", settled_at=utc_now(), **fields)
        return settle(session, record, user, fix, ask)

    return approve


def settle(session: Session, record: Record, user: User, fix: str | None = None, ask: str | None = None) -> Record:
    review = Review(
        record_id=record.id or 0, user_id=user.id or 0, request_id=f"request-{next(_requests)}", verdict="accept",
        answer=fix, question=ask, record_version=record.version,
    )  # fmt: skip
    session.add(review)
    session.flush()
    record.settled_by = review.id
    session.add(record)
    session.commit()
    return record


@pytest.fixture
def approve_many(approve: Callable[..., Record]) -> list[Record]:
    return [approve() for _ in range(60)]


def everything(session: Session, snapshot: Any) -> list[tuple[str, str, list[tuple[str, str]]]]:
    return [
        (example.id, example.group, [(message.role, message.content) for message in example.messages])
        for example in snapshots.examples(session, snapshot)
    ]


def test_a_snapshot_holds_accepted_records_with_their_corrections(
    session: Session, project: Project, approve: Callable[..., Record]
):
    project.system_prompt = "Be brief."
    plain = approve(question="Do dogs pay?", answer="No.", system="An older prompt.")
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    fixed = approve("Half.", "Do children pay?", question="kids pay", answer="All.", turns=turns)
    make_record(session, project)
    make_record(session, project, state="rejected")
    make_record(session, project, state="unsure")

    snapshot = snapshots.freeze(session, project, "v1")

    found = {key: messages for key, _, messages in everything(session, snapshot)}
    assert found == {
        str(plain.id): [("system", "Be brief."), ("user", "Do dogs pay?"), ("assistant", "No.")],
        str(fixed.id): [
            ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."),
            ("user", "Do children pay?"), ("assistant", "Half."),
        ],
    }  # fmt: skip
    assert snapshot.train + snapshot.val + snapshot.test == 2


def test_the_prompt_style_with_passages_puts_them_above_the_question(
    session: Session, project: Project, approve: Callable[..., Record]
):
    project.prompt_style = "passages"
    approve(question="Do dogs pay?", answer="No.", passages=[("fares.pdf", "Dogs travel free.", 0.9), "Cats too."])

    snapshot = snapshots.freeze(session, project, "v1")

    ((_, _, messages),) = everything(session, snapshot)
    assert messages[0] == ("user", "[1] fares.pdf\nDogs travel free.\n\n[2]\nCats too.\n\nDo dogs pay?")
    assert with_passages("q", []) == "q"


def test_a_later_review_does_not_change_a_snapshot(
    session: Session, project: Project, user: User, approve: Callable[..., Record]
):
    record = approve(answer="Half.")
    old = snapshots.freeze(session, project, "v1")
    before, sha = everything(session, old), old.sha256

    settle(session, record, user, fix="A third.")
    new = snapshots.freeze(session, project, "v2")

    assert everything(session, old) == before
    assert old.sha256 == sha != new.sha256
    assert everything(session, new)[0][2][-1] == ("assistant", "A third.")
    assert snapshot_diff.between(session, old, new) == snapshot_diff.Diff(added=0, removed=0, changed=1, same=0)


def test_the_same_approved_answers_give_the_same_hash_in_any_order(
    session: Session, project: Project, approve: Callable[..., Record]
):
    contents = [(f"Question {number}?", f"Answer {number}.", f"g{number}") for number in range(30)]
    for question, answer, group in contents:
        approve(question=question, answer=answer, group=group)
    first = snapshots.freeze(session, project, "v1")
    for record in session.exec(select(Record)):
        record.state = "rejected"
    for question, answer, group in reversed(contents):
        approve(question=question, answer=answer, group=group)

    second = snapshots.freeze(session, project, "v2")

    assert second.sha256 == first.sha256
    approve(question="One more?", answer="Yes.")
    assert snapshots.freeze(session, project, "v3").sha256 != first.sha256


def test_equal_examples_count_once(session: Session, project: Project, approve: Callable[..., Record]):
    for _ in range(3):
        approve(question="Do dogs pay?", answer="No.", group="one")

    snapshot = snapshots.freeze(session, project, "v1")

    assert snapshot.train + snapshot.val + snapshot.test == 1


def test_growing_data_never_moves_a_group_and_a_group_is_on_one_side(
    session: Session, project: Project, approve: Callable[..., Record]
):
    def sides(snapshot: Any) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for row in session.exec(select(SnapshotExample).where(col(SnapshotExample.snapshot_id) == snapshot.id)):
            found.setdefault(row.group, set()).add(row.split)
        return found

    for number in range(200):
        approve(group=f"g{number % 100}")
    before = sides(snapshots.freeze(session, project, "v1"))
    for number in range(100):
        approve(group=f"g{number * 2}")
    after = sides(snapshots.freeze(session, project, "v2"))

    assert all(len(split) == 1 for split in after.values())
    assert {group: after[group] for group in before} == before
    assert set.union(*before.values()) == {"train", "val", "test"}


def test_splits_are_about_eighty_ten_ten_and_depend_on_the_seed():
    sides = [snapshots.split_of(f"group-{number}", 17) for number in range(20_000)]

    assert abs(sides.count("train") / 20_000 - 0.8) < 0.02
    assert abs(sides.count("val") / 20_000 - 0.1) < 0.01
    assert abs(sides.count("test") / 20_000 - 0.1) < 0.01
    assert sides != [snapshots.split_of(f"group-{number}", 18) for number in range(20_000)]


def test_examples_are_streamed_in_the_same_order_and_by_split(
    session: Session, project: Project, approve_many: list[Record], monkeypatch: pytest.MonkeyPatch
):
    snapshot = snapshots.freeze(session, project, "v1")
    whole = everything(session, snapshot)

    monkeypatch.setattr(snapshots, "BATCH", 7)

    assert everything(session, snapshot) == whole
    assert len(whole) == 60
    counts = [len(list(snapshots.examples(session, snapshot, split))) for split in snapshots.SPLITS]
    assert counts == [snapshot.train, snapshot.val, snapshot.test]


def test_a_small_set_says_what_it_cannot_do(session: Session, project: Project, approve: Callable[..., Record]):
    in_train = next(f"g{number}" for number in count() if snapshots.split_of(f"g{number}", project.seed) == "train")
    approve(group=in_train)

    snapshot = snapshots.freeze(session, project, "v1")

    assert (snapshot.train, snapshot.val, snapshot.test) == (1, 0, 0)
    assert ["held out" in snapshots.remarks(snapshot)[0], "exam" in snapshots.remarks(snapshot)[1]] == [True, True]


def test_nothing_left_to_teach_from_is_refused(session: Session, project: Project, approve: Callable[..., Record]):
    in_test = next(f"g{number}" for number in count() if snapshots.split_of(f"g{number}", project.seed) == "test")
    approve(group=in_test)

    with pytest.raises(Invalid, match="held-out side"):
        snapshots.freeze(session, project, "v1")


def test_freezing_nothing_or_under_a_taken_or_empty_name_is_refused(
    session: Session, project: Project, approve: Callable[..., Record]
):
    with pytest.raises(Invalid, match="Nothing is approved"):
        snapshots.freeze(session, project, "v1")
    for _ in range(5):
        approve()
    snapshots.freeze(session, project, "v1")
    with pytest.raises(Conflict, match="“v1”"):
        snapshots.freeze(session, project, " v1 ")
    with pytest.raises(Invalid, match="name"):
        snapshots.freeze(session, project, "  ")


def test_an_answer_the_log_cut_short_is_taught_only_after_it_was_rewritten(
    session: Session, project: Project, approve: Callable[..., Record]
):
    approve(signals={"truncated": True}, group="g1", answer="cut...")
    approve("Whole.", signals={"truncated": True}, group="g1", answer="cut...")
    for _ in range(5):
        approve()

    answers = {messages[-1][1] for _, _, messages in everything(session, snapshots.freeze(session, project, "v1"))}

    assert "Whole." in answers
    assert "cut..." not in answers


def test_records_approved_since_a_snapshot_are_counted(
    session: Session, project: Project, approve_many: list[Record], approve: Callable[..., Record]
):
    snapshot = snapshots.freeze(session, project, "v1")
    assert snapshots.approved_since(session, project, None) == 60
    assert snapshots.approved_since(session, project, snapshot) == 0

    record = approve()
    record.settled_at = snapshot.created_at + timedelta(seconds=1)
    session.flush()

    assert snapshots.approved_since(session, project, snapshot) == 1
    assert snapshot_diff.between(session, snapshot, snapshots.freeze(session, project, "v2")).added == 1


def test_preference_pairs_are_frozen_with_their_group(
    session: Session, project: Project, approve: Callable[..., Record]
):
    for number in range(30):
        record = approve()
        session.add(PreferencePair(
            project_id=project.id or 0, record_id=record.id, group=record.group,
            prompt=[{"role": "user", "content": f"q{number}"}], chosen="better", rejected="worse",
        ))  # fmt: skip

    snapshot = snapshots.freeze(session, project, "p1", kind="preference")

    pairs = list(lessons.pairs(session, snapshot))
    assert (snapshot.kind, len(pairs)) == ("preference", 30)
    assert {(pair.chosen, pair.rejected) for pair in pairs} == {("better", "worse")}
    assert {pair.prompt[0].content for pair in pairs} == {f"q{number}" for number in range(30)}


def test_another_projects_snapshot_is_not_found(
    engine: Engine, session: Session, project: Project, approve_many: list[Record]
):
    snapshot = snapshots.freeze(session, project, "v1")
    session.commit()
    other = Project(slug="other", name="Other", id=99)

    with open_session(engine) as reading:
        assert (
            snapshots.get(reading, project, "v1").id
            == snapshot.id
            == snapshots.get(reading, project, snapshot.id or 0).id
        )
        with pytest.raises(NotFound):
            snapshots.get(reading, other, "v1")


def test_pairs_of_typed_questions_are_frozen_too_under_the_group_of_their_question(
    session: Session, project: Project, user: User
) -> None:
    for question in ("Are dogs free?", "And cats?"):
        draft = RecordDraft(line=0, question=question, answer="")
        session.add(
            PreferencePair(
                project_id=project.id or 0, group=intake.group(draft), prompt=[{"role": "user", "content": question}],
                chosen="better", rejected="worse",
            )
        )  # fmt: skip
    session.commit()

    first = snapshots.freeze(session, project, "p1", kind="preference")
    pairs = list(lessons.pairs(session, first))
    session.add(PreferencePair(project_id=project.id or 0, group="third", prompt=[], chosen="better", rejected="worse"))
    second = snapshots.freeze(session, project, "p2", kind="preference")

    assert {pair.prompt[0].content for pair in pairs} == {"Are dogs free?", "And cats?"}
    assert len({pair.id for pair in pairs}) == 2
    assert "None" not in {pair.id for pair in pairs}
    assert session.exec(select(SnapshotExample.record_id).distinct()).all() == [None]
    assert snapshot_diff.between(session, first, second) == snapshot_diff.Diff(added=1, removed=0, changed=0, same=2)
