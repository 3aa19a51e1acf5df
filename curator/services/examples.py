"""Make examples: records with their settled correction applied, and preference pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import groupby, islice
from typing import Any

from sqlalchemy import ColumnElement, Row, Text, cast, exists, or_, select
from sqlmodel import Session

from curator.services import personal
from curator.services.bulk import fetch
from curator.services.counts import COUNTED
from db.models import Passage, PreferencePair, Project, Record, Review

BATCH = 1_000
Passages = dict[int | None, list[tuple[str, str]]]
"""(document, text) of passages by their record's id."""
_record = Record.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_review = Review.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_passage = Passage.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it
_pair = PreferencePair.__table__  # pyright: ignore[reportAttributeAccessIssue] # SQLModel does not declare it


@dataclass(frozen=True)
class Draft:
    """An example before it is frozen: its content as plain JSON, its record (None: a typed question) and its group.

    `personal` tells whether the content holds personal data, when asked: most snapshots never need to look.
    """

    record_id: int | None
    group: str
    content: dict[str, Any]
    personal: Callable[[], bool]


def corrected(turns: Sequence[dict[str, str]], corrections: dict[str, str]) -> list[dict[str, str]]:
    """Answer the turns before a question with the corrections of some, given by their place, in effect."""
    return [{**turn, "content": corrections.get(str(place), turn["content"])} for place, turn in enumerate(turns)]


def prompt(
    project: Project, turns: Sequence[dict[str, str]], question: str, passages: Sequence[tuple[str, str]]
) -> Any:
    """Answer the messages before the answer: the project's system prompt, earlier turns, the question.

    The project's system prompt stands for the record's own: it is the one the taught model will be given.
    With prompt style `passages`, the question comes after its passages, given as (document, text): see with_passages.
    """
    system = project.system_prompt.strip()
    user = with_passages(question, passages) if project.prompt_style == "passages" else question
    return [
        *([{"role": "system", "content": system}] if system else []),
        *({"role": turn["role"], "content": turn["content"]} for turn in turns),
        {"role": "user", "content": user},
    ]


def with_passages(question: str, passages: Sequence[tuple[str, str]]) -> str:
    """Lay passages out above the question, one blank line between blocks and no words of any language::

    [1] fares.pdf
    Children under 7 travel free.

    [2]
    A passage whose document is not known.

    Do I pay for my 6 year old?
    """
    return "\n\n".join([*passage_blocks(passages), question])


def passage_blocks(passages: Sequence[tuple[str, str]]) -> list[str]:
    """Answer passages as they stand above a question."""
    return [f"[{number}] {document}".rstrip() + f"\n{text}" for number, (document, text) in enumerate(passages, 1)]


def settled_examples(session: Session, project: Project, *, suspects: bool = False) -> Iterator[Draft]:
    """Yield the accepted records with the correction of the review that settled them, by id.

    `suspects`: only those that may hold personal data.
    """
    typed = (_review.c.question.is_not(None), _review.c.answer.is_not(None), cast(_review.c.turns, Text) != "{}")
    likely = [or_(_record.c.personal.is_(None), _record.c.personal != "", *typed)] if suspects else []
    return _settled(session, project, _record.c.state == "accepted", *likely)


def single_answers(session: Session, project: Project, *, good: bool) -> Iterator[Draft]:
    """Yield the records whose one answer was accepted as it is, or rejected; a corrected one makes a pair instead."""
    paired = exists().where(_pair.c.review_id == _record.c.settled_by)
    which = (_record.c.state == "accepted", ~paired) if good else (_record.c.state == "rejected",)
    return _settled(session, project, *which)


def _settled(session: Session, project: Project, *which: ColumnElement[bool]) -> Iterator[Draft]:
    """Yield settled records as examples, by id. What was typed into a rejection is no correction.

    An answer that the log cut short is left out unless somebody rewrote it: a model taught with it would learn to
    stop in the middle of a sentence.
    """
    query = (
        select(
            _record.c.id, _record.c.group, _record.c.turns, _record.c.question, _record.c.answer, _record.c.signals,
            _record.c.personal,
            _review.c.question.label("new_question"), _review.c.answer.label("new_answer"),
            _review.c.turns.label("new_turns"),
        )
        .outerjoin(_review, (_review.c.id == _record.c.settled_by) & (_review.c.verdict == "accept"))
        .where(_record.c.project_id == project.id, *which)
        .order_by(_record.c.id)
        .limit(BATCH)
    )  # fmt: skip
    last = 0
    while page := fetch(session, query.where(_record.c.id > last)):
        last = page[-1].id
        told = cache(partial(_passages, session, [row.id for row in page]))  # asked for once a page, if at all
        passages = told() if project.prompt_style == "passages" else {}
        for row in page:
            if row.signals.get("truncated") and row.new_answer is None:
                continue
            question = row.question if row.new_question is None else row.new_question
            answer = row.answer if row.new_answer is None else row.new_answer
            turns = corrected(row.turns, row.new_turns or {})
            before = prompt(project, turns, question, passages.get(row.id, ()))
            messages = [*before, {"role": "assistant", "content": answer}]
            content: dict[str, Any] = {"messages": messages}  # plain JSON
            if blocks := passage_blocks(passages.get(row.id, ())):
                content["passages"] = blocks  # so that the trainer can leave some out of an example that is too long
            said = [question, answer, *(turn["content"] for turn in turns)]
            yield Draft(row.id, row.group, content, partial(_row_personal, row, said, told))


def count_personal(session: Session, project: Project) -> int:
    """Count the approved answers that hold personal data, up to COUNTED + 1, which means: more than COUNTED."""
    found = (True for draft in settled_examples(session, project, suspects=True) if draft.personal())
    return sum(islice(found, COUNTED + 1))


def _row_personal(row: Row[Any], said: Sequence[str], told: Callable[[], Passages]) -> bool:
    """Tell whether an example holds personal data; where the light job found none, only what was typed is looked at."""
    if row.personal == "":
        said = [row.new_question or "", row.new_answer or "", *(row.new_turns or {}).values()]
    return _personal(row.id, said, told)


def holds_personal(session: Session, record_id: int | None, said: Sequence[str]) -> bool:
    """Tell whether what was said holds personal data that no passage of the record holds as well."""
    return _personal(record_id, said, lambda: _passages(session, [record_id]))


def _personal(record_id: int | None, said: Sequence[str], told: Callable[[], Passages]) -> bool:
    return bool(personal.kinds(said, lambda: [text for _, text in told().get(record_id, ())]))


def _passages(session: Session, records: Sequence[int | None]) -> Passages:
    query = (
        select(_passage.c.record_id, _passage.c.document, _passage.c.text)
        .where(_passage.c.record_id.in_([id_ for id_ in records if id_ is not None]))
        .order_by(_passage.c.record_id, _passage.c.position)
    )
    rows = fetch(session, query)
    return {key: [(document, text) for _, document, text in found] for key, found in groupby(rows, lambda row: row[0])}


def settled_pairs(session: Session, project: Project) -> Iterator[Draft]:
    """Yield the project's preference pairs by id, those of typed questions as well; each keeps its battle's group."""
    query = select(_pair).where(_pair.c.project_id == project.id).order_by(_pair.c.id)
    last = 0
    while page := fetch(session, query.where(_pair.c.id > last).limit(BATCH)):
        last = page[-1].id
        told = cache(partial(_passages, session, [row.record_id for row in page]))
        for row in page:
            content = {"prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}
            asked = [turn["content"] for turn in row.prompt if turn["role"] != "system"]  # which is the project's own
            said = [*asked, row.chosen, row.rejected]
            yield Draft(row.record_id, row.group, content, partial(_personal, row.record_id, said, told))
