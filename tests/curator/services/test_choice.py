"""What an address may say about records, and what is made of it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlmodel import Session, select

from curator.services import choice, reviews
from curator.services.choice import Choice
from curator.services.reviews import ReviewForm
from db.models import Project, Record
from tests.factories import make_record, make_source

NAMES = [*Choice.model_fields, "password_hash", "id", "after", "state.x"]
VALUES = st.one_of(
    st.text(max_size=30),
    st.sampled_from([
        "me", "nobody", "any", "1", "0", "-1", "new", "down", "2026-02-30", "2026-02-28", "0001-01-01", "9999-12-31",
        "9" * 30, "1e9", "NaN", "true", "zh", "doubt", "' OR 1=1 --", "\0", "x" * 10_000, "9" * 5_000,
    ]),
)  # fmt: skip


def found(session: Session, wanted: Choice, user_id: int = 0) -> list[int | None]:
    return list(session.exec(select(Record.id).where(*wanted.conditions(user_id)).order_by(Record.id)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order", "password_hash"), ("order", "rank; DROP TABLE record"), ("state", "gone"), ("language", "../../etc"),
        ("language", "x" * 10_000), ("source", "9" * 30), ("source", "-1"), ("source", "0x10"), ("source", "9" * 5_000),
        ("since", "yesterday"), ("since", "2026-02-30"), ("until", "9999-12-31"), ("until", "12345"),
        ("since", "0001-01-01"), ("since", "２０２６-01-01"),
        ("shortest", "-5"), ("longest", "1e9"), ("reviewer", "me"),
        ("twins", "all"), ("twins", "0"), ("assigned", "everyone"), ("assigned", "-3"), ("rating", "6"),
        ("rating", "0"), ("personal", "perhaps"), ("q", "x" * 10_000), ("signal", "sideways"),
    ],
)  # fmt: skip
def test_nonsense_is_left_out_and_named(name: str, value: str):
    assert choice.read({name: [value], "edited": "1"}) == (Choice(edited=True), [name])


def test_one_bad_field_does_not_take_the_good_ones_along():
    reading = choice.read({"state": "new", "source": "x", "signal": ["up", "odd", "down"], "since": "2026-03-05"})

    assert reading == (Choice(state="new", signal=("down", "up"), since=date(2026, 3, 5)), ["signal", "source"])


def test_empty_fields_of_a_form_and_unknown_names_say_nothing():
    assert choice.read(dict.fromkeys(Choice.model_fields, "") | {"password_hash": "x"}) == (Choice(), [])


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, max_size=3), max_size=8))
def test_whatever_an_address_says_is_read_and_says_the_same_again(args: dict[str, list[str]]):
    reading = choice.read(args)

    assert choice.read(reading.choice.args()) == (reading.choice, [])
    assert set(reading.ignored) <= set(Choice.model_fields)
    assert hash(reading.choice) is not None and reading.choice.conditions(1) is not None


@pytest.mark.parametrize("args", [{name: [value]} for name, value in [
    ("language", "zh-Hans"), ("source", "7"), ("since", "1970-01-01"), ("until", "2199-12-31"), ("longest", "9" * 18),
    ("reviewer", str(2**63 - 1)), ("twins", "any"), ("assigned", "me"), ("signal", "control"), ("signal", "truncated"),
    ("personal", "1"), ("gold", "1"), ("rating", "1"), ("state", "new"),
]])  # fmt: skip
def test_every_filter_is_a_question_the_database_understands(session: Session, project: Project, args: Any):
    make_record(session, project)

    assert found(session, choice.read(args).choice) in ([], [1])


def test_the_shortest_words_and_what_remains_without_one_of_them():
    wanted = Choice(signal=("down", "refusal"), language="zh", personal=True, assigned=7)

    assert wanted.args() == {"signal": ["down", "refusal"], "language": "zh", "personal": "1", "assigned": "7"}
    assert wanted.without("signal", "down").signal == ("refusal",)
    assert wanted.without("signal").signal == () and wanted.without("language").language == ""
    assert Choice(order="newest").is_empty and not wanted.is_empty
    assert Choice().desk_args() == {"order": "doubt"} and wanted.desk_args() == wanted.args()


def test_each_filter_keeps_what_it_says(session: Session, project: Project, make_user):
    noor, lin = make_user("noor"), make_user("lin")
    day = datetime(2026, 3, 5, 12, tzinfo=UTC)
    plain = make_record(session, project, created_at=day, personal="")
    cases: list[tuple[Choice, dict[str, Any]]] = [
        (Choice(signal=("down",)), {"thumbs": -1}),
        (Choice(signal=("up",)), {"thumbs": 1}),
        (Choice(signal=("refusal",)), {"refusal": True}),
        (Choice(signal=("truncated",)), {"signals": {"truncated": True, "control_tokens": False}}),
        (Choice(signal=("control",)), {"signals": {"control_tokens": True, "truncated": "no"}}),
        (Choice(language="zh"), {"language": "zh"}),
        (Choice(shortest=100), {"length": 100}),
        (Choice(personal=True), {"personal": "email"}),
        (Choice(edited=True), {"edited": True}),
        (Choice(gold=True), {"gold": True}),
        (Choice(rating=2), {"rating": 2}),
        (Choice(assigned=lin.id or 0), {"assigned_to": lin.id}),
        (Choice(state="unsure"), {"state": "unsure"}),
        (Choice(twins="any"), {"cluster_id": plain.id}),
    ]  # fmt: skip
    made = [make_record(session, project, **({"created_at": day, "thumbs": 0} | fields)) for _, fields in cases]

    for (wanted, _), record in zip(cases, made, strict=True):
        assert found(session, wanted) == [record.id], wanted
    assert found(session, Choice(assigned="me"), lin.id or 0) == found(session, Choice(assigned=lin.id or 0))
    assert plain.id in found(session, Choice(assigned="nobody"), noor.id or 0)
    assert found(session, Choice(twins=plain.id or 0)) == [made[-1].id]


def test_a_source_is_told_from_another(session: Session, project: Project):
    first = make_record(session, project)
    second = make_record(session, project, source_id=make_source(session, project).id)

    assert found(session, Choice(source=first.source_id)) == [first.id]
    assert found(session, Choice(source=second.source_id)) == [second.id]


def test_days_mean_when_it_happened_and_where_the_log_is_silent_when_it_came(session: Session, project: Project):
    local = datetime(2026, 3, 5).astimezone()
    said = make_record(session, project, happened_at=local, created_at=local + timedelta(days=30))
    silent = make_record(session, project, created_at=local + timedelta(days=1, microseconds=-1))
    make_record(session, project, created_at=local - timedelta(microseconds=1))
    make_record(session, project, created_at=local + timedelta(days=1))

    assert found(session, Choice(since=date(2026, 3, 5), until=date(2026, 3, 5))) == [said.id, silent.id]


def test_a_reviewer_is_one_with_an_opinion_that_stands(session: Session, project: Project, make_user):
    project.reviews_needed = 3
    noor = make_user("noor")
    judged, skipped, undone = (make_record(session, project) for _ in range(3))
    for record, verdict in ((judged, "accept"), (skipped, "skip"), (undone, "accept")):
        form = ReviewForm(version=record.version, request_id=f"request-{record.id}", verdict=verdict)  # type: ignore[arg-type]
        reviews.add(session, record, noor, form)
    reviews.undo(session, project, noor, lease_seconds=60)

    assert found(session, Choice(reviewer=noor.id)) == [judged.id]
