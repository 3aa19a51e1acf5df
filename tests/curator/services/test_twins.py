"""Near-duplicates are found, stay on one side of the split, and cost little."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
from sqlalchemy import event
from sqlmodel import Session, col, select

from curator.services import projects, twins
from curator.services.bulk import Insert
from db.models import Band, PreferencePair, Project, Record
from tests.factories import make_record, make_source

LONG = (
    "The crossing from Harrow Quay to Ostrey takes 55 minutes in calm weather. Bicycles are pushed aboard with the "
    "foot passengers and tied to the rail on the car deck. Dogs travel free of charge and must be on a lead."
)


def placed(session: Session, project: Project, records: Sequence[Record]) -> list[int | None]:
    twins.place(session, project, [(record.id or 0, record.question, record.answer) for record in records])
    session.commit()
    for record in records:
        session.refresh(record)
    return [record.cluster_id for record in records]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("", ""),
        (" \n", "\t"),
        ("?", "!"),
        ("a\u0301" * 4_000, "\u202e" * 10),
        ("<script>", "\U0001f600" * 3),
        ("x", "y"),
    ],
)
def test_odd_texts_are_taken_and_alone(session: Session, project: Project, question: str, answer: str) -> None:
    odd = make_record(session, project, question=question, answer=answer)
    plain = make_record(session, project, question="How long?", answer=LONG)

    assert placed(session, project, [odd, plain]) == [None, None]


def test_nothing_unknown_or_of_another_project_is_placed(session: Session, project: Project) -> None:
    other = projects.create(session, "Other", slug="other")
    session.commit()
    make_source(session, other)
    theirs = Record(project_id=other.id or 0, source_id=1, digest="d", group="g", question="How long?", answer=LONG)
    session.add(theirs)
    session.commit()
    ours = make_record(session, project, question="How long?", answer=LONG)

    twins.place(session, project, [(theirs.id or 0, theirs.question, theirs.answer), (999_999, "How long?", LONG)])

    assert placed(session, project, [ours]) == [None]
    assert {band.record_id for band in session.exec(select(Band))} == {ours.id}


def test_twins_within_a_batch_and_across_batches_stand_behind_the_first(session: Session, project: Project) -> None:
    first = make_record(session, project, question="How long is it?", answer=LONG)
    second = make_record(session, project, question="How LONG is it", answer=LONG + " Welcome!")
    other = make_record(session, project, question="Is there food?", answer="The galley opens at half past six.")
    third = make_record(session, project, question="How long is it??", answer=LONG.upper())

    assert placed(session, project, [first, second, other]) == [first.id, first.id, None]
    assert placed(session, project, [third]) == [first.id]
    assert [one.id for one in twins.members(session, project, first.id or 0)] == [first.id, second.id, third.id]
    assert [one.id for one in twins.members(session, project, first.id or 0, 2)] == [first.id, second.id]
    assert twins.size(session, first.id or 0) == 3
    assert twins.size(session, 999_999) == 0
    assert {band.record_id for band in session.exec(select(Band))} == {first.id, other.id}


def test_chinese_twins_are_found_and_half_alike_texts_are_not(session: Session, project: Project) -> None:
    answer = (
        "步行旅客每人可带两件行李，合计不超过30公斤。超出的每件收4克朗，"
        "放在汽车甲板的行李车上，下船时请自行取回，遗失不予赔偿。"
    )
    first = make_record(session, project, question="行李怎么算？", answer=answer)
    twin = make_record(session, project, question="行李怎么算", answer=answer.replace("。", "！") + "谢谢。")
    half = make_record(
        session, project, question="行李怎么算？", answer=answer[:30] + "自行车另外收费，电动自行车也一样，请提前预订。"
    )

    assert placed(session, project, [first, twin, half]) == [first.id, first.id, None]


def test_very_short_texts_are_only_like_their_equal(session: Session, project: Project) -> None:
    texts = [("ab", "cd"), ("ab", "ce"), ("Ab", "cd!")]
    first, other, equal = (make_record(session, project, question=asked, answer=said) for asked, said in texts)

    assert placed(session, project, [first, other, equal]) == [first.id, None, first.id]


def test_a_repeated_batch_changes_nothing(session: Session, project: Project) -> None:
    records = [make_record(session, project, question="How long is it?", answer=LONG + "!" * n) for n in range(3)]
    records += [make_record(session, project, question=f"Is {n} right?", answer=f"No, {n} is wrong.") for n in range(9)]
    once = placed(session, project, records)
    bands = sorted((band.hash, band.record_id) for band in session.exec(select(Band)))
    groups = [record.group for record in records]

    assert placed(session, project, records) == once
    assert placed(session, project, records[::-1]) == once[::-1]
    assert sorted((band.hash, band.record_id) for band in session.exec(select(Band))) == bands
    assert [record.group for record in records] == groups


def test_an_undecided_twin_brings_its_whole_group(session: Session, project: Project) -> None:
    first = make_record(session, project, question="How long is it?", answer=LONG, group="a", state="accepted")
    twin = make_record(session, project, question="How long is it??", answer=LONG, group="b")
    fellow = make_record(session, project, question="And back?", answer="The same.", group="b")

    placed(session, project, [first, twin, fellow])

    assert [first.group, twin.group, fellow.group] == ["a", "a", "a"]


def test_a_group_with_a_decision_keeps_its_name(session: Session, project: Project) -> None:
    first = make_record(session, project, question="How long is it?", answer=LONG, group="a")
    twin = make_record(session, project, question="How long is it??", answer=LONG, group="b")
    fellow = make_record(session, project, question="And back?", answer="The same.", group="b", state="accepted")
    lone = make_record(session, project, question="Food?", answer="x" * 5 + LONG[::-1], group="c", state="rejected")
    decided = make_record(session, project, question="Food!", answer="x" * 5 + LONG[::-1], group="d", state="accepted")

    assert placed(session, project, [first, twin, fellow, lone, decided]) == [
        first.id, first.id, None, lone.id, lone.id,
    ]  # fmt: skip
    assert [one.group for one in (first, twin, fellow, lone, decided)] == ["b", "b", "b", "c", "d"]


def test_a_group_with_a_vote_keeps_its_name(session: Session, project: Project) -> None:
    first = make_record(session, project, question="How long is it?", answer=LONG, group="a")
    twin = make_record(session, project, question="How long is it??", answer=LONG, group="b")
    session.add(PreferencePair(project_id=project.id or 0, group="b", chosen="x", rejected="y"))

    placed(session, project, [first, twin])

    assert [first.group, twin.group] == ["b", "b"]


def test_three_groups_become_one(session: Session, project: Project) -> None:
    records = [
        make_record(session, project, question=asked, answer=said, group=group)
        for asked, said, group in (
            ("How long is it?", LONG, "a"), ("How long is it", LONG, "b"), ("Food?", LONG[::-1], "b"),
            ("Food", LONG[::-1], "c"),
        )
    ]  # fmt: skip

    placed(session, project, records)

    assert {record.group for record in records} == {"a"}


def test_a_later_asking_of_a_moved_question_follows(session: Session, project: Project) -> None:
    first = make_record(session, project, question="How long is it?", answer=LONG, group="a", question_key=1)
    twin = make_record(session, project, question="How long is this?", answer=LONG, group="b", question_key=2)
    placed(session, project, [first, twin])
    later = make_record(session, project, question="How long is this?", answer="55", group="b", question_key=2)

    assert placed(session, project, [later]) == [None]
    assert (twin.group, later.group) == ("a", "a")


def test_two_long_texts_with_one_beginning_are_no_twins(session: Session, project: Project) -> None:
    start = " ".join(str(number) for number in range(4_000))
    first = make_record(session, project, question="List", answer=start)
    longer = make_record(session, project, question="List", answer=start + "x" * 2_000_000)
    same = make_record(session, project, question="List", answer=start + "x" * 2_000_000 + "y")

    begun = time.perf_counter()
    assert placed(session, project, [first, longer]) == [None, None]
    assert placed(session, project, [same]) == [longer.id]
    assert time.perf_counter() - begun < 2


def common(first: str, second: str) -> float:
    """Answer the share of 5-grams that both have, as the near-duplicates' texts hold them."""
    one, other = ({f"\n{text}"[at : at + 5] for at in range(len(text) - 3)} for text in (first, second))
    return len(one & other) / len(one | other)


def many(session: Session, project: Project, answers: Sequence[str]) -> list[tuple[int, str, str]]:
    source = make_source(session, project)
    columns = ("project_id", "source_id", "digest", "group", "question", "answer", "asked", "version", "state",
               "external_id", "system", "turns", "reference", "signals", "language", "created_at", "thumbs", "refusal",
               "weak", "length", "question_key", "gold", "rank", "edited")  # fmt: skip
    template = make_record(session, project)
    rows = [
        tuple({"source_id": source.id, "digest": f"many-{n}", "group": f"many-{n}", "question": f"Question {n}?",
               "answer": answer}.get(name, getattr(template, name)) for name in columns)
        for n, answer in enumerate(answers)
    ]  # fmt: skip
    table = Record.__table__  # pyright: ignore[reportAttributeAccessIssue]
    Insert(table, columns, session.get_bind().dialect).run(session.connection(), rows)
    session.commit()
    query = select(Record.id, Record.question, Record.answer).where(col(Record.digest).startswith("many-"))
    return [(id_ or 0, asked, said) for id_, asked, said in session.exec(query.order_by(col(Record.id)))]


def test_ten_thousand_near_identical_rows_end_quickly_with_few_statements(session: Session, project: Project) -> None:
    rows = many(session, project, [LONG + f" It is {n % 10}." for n in range(10_000)])
    statements: list[str] = []
    event.listen(session.get_bind(), "before_cursor_execute", lambda *args: statements.append(args[2]))

    begun = time.perf_counter()
    for start in range(0, len(rows), 1_000):
        twins.place(session, project, rows[start : start + 1_000])
    seconds = time.perf_counter() - begun

    assert seconds < 15
    assert len(statements) < 400  # 20 batches of 500, a few statements each
    clusters = session.exec(select(Record.cluster_id).where(col(Record.cluster_id).is_not(None))).all()
    assert len(clusters) > 9_900
    assert len(set(clusters)) < 20


def test_nearly_all_pairs_at_the_threshold_are_found(session: Session, project: Project) -> None:
    """Of two answers of 300 signs, one ends otherwise, so that just over 0.8 of their 5-grams are common."""
    dice = random.Random(17)  # noqa: S311  made-up text, no secret
    letters = "abcdefghijklmnopqrstuvwxyz"
    answers: list[str] = []
    for _ in range(400):
        text = "".join(dice.choices(letters, k=300))
        answers += [text, text[:270] + "".join(dice.choices(letters, k=30))]
    rows = [(id_, "", said) for id_, _, said in many(session, project, answers)]
    likeness = [common(first[2], second[2]) for first, second in zip(rows[::2], rows[1::2], strict=True)]
    assert 0.8 <= min(likeness) <= max(likeness) < 0.83

    twins.place(session, project, rows)

    session.commit()
    found = {row.id: row.cluster_id for row in session.exec(select(Record).where(col(Record.cluster_id).is_not(None)))}
    assert sum(found.get(second[0]) == first[0] for first, second in zip(rows[::2], rows[1::2], strict=True)) >= 392


def test_many_different_rows_with_one_opening_do_not_crowd_a_band(session: Session, project: Project) -> None:
    rows = many(session, project, [f"{LONG} {' '.join(str(n * k) for k in range(1, 30))}" for n in range(2_000)])

    begun = time.perf_counter()
    twins.place(session, project, rows)

    assert time.perf_counter() - begun < 10
    session.commit()
    per_band: dict[int, int] = {}
    for band in session.exec(select(Band)):
        per_band[band.hash] = per_band.get(band.hash, 0) + 1
    assert max(per_band.values()) <= twins.CROWDED
