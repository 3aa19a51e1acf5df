"""Pins: past corrections that every new version is asked again."""

from __future__ import annotations

from sqlmodel import Session, col, select

from curator.errors import Invalid, NotFound
from curator.services.examples import prompt
from db.models import Passage, Pin, Project, Record, utc_now
from trainer.spec import Message, PinnedQuestion


def add(
    session: Session,
    project: Project,
    question: str,
    answer: str,
    must_include: list[list[str]],
    must_not_include: list[str] | None = None,
    record: Record | None = None,
) -> Pin:
    """Pin a question with the words a right answer must and must not hold; the same pin twice is one pin.

    Each inner list of `must_include` names alternatives, one of which must occur.
    """
    wanted = [kept for group in must_include if (kept := [word.strip() for word in group if word.strip()])]
    if not question.strip() or not wanted:
        raise Invalid("A pinned question needs the question and at least one word the right answer must hold.")
    for pin in every(session, project):
        if pin.question == question and pin.must_include == wanted:
            return pin
    pin = Pin(
        project_id=project.id or 0,
        record_id=record.id if record else None,
        question=question,
        answer=answer,
        must_include=wanted,
        must_not_include=[word.strip() for word in must_not_include or [] if word.strip()],
    )
    session.add(pin)
    session.flush()
    return pin


def every(session: Session, project: Project) -> list[Pin]:
    """List a project's pins, oldest first, without the removed ones."""
    return list(
        session.exec(
            select(Pin).where(Pin.project_id == project.id, col(Pin.removed_at).is_(None)).order_by(col(Pin.id))
        )
    )


def get(session: Session, project: Project, pin_id: int) -> Pin:
    """Answer one pin of a project, or raise NotFound."""
    pin = session.get(Pin, pin_id)
    if pin is None or pin.project_id != project.id:
        raise NotFound("There is no such pinned question.")
    return pin


def remove(session: Session, pin: Pin) -> None:
    """Take a pin away; runs that asked it keep their result."""
    pin.removed_at = pin.removed_at or utc_now()
    session.add(pin)


def questions(session: Session, project: Project) -> list[PinnedQuestion]:
    """Answer the pins as the trainer asks them: laid out like the project's examples, with its system prompt."""
    return [
        PinnedQuestion(
            id=str(pin.id),
            messages=[
                Message.model_validate(message)
                for message in prompt(project, (), pin.question, _passages(session, project, pin))
            ],
            answer=pin.answer,
            must_include=pin.must_include,
            must_not_include=pin.must_not_include,
        )
        for pin in every(session, project)
    ]


def _passages(session: Session, project: Project, pin: Pin) -> list[tuple[str, str]]:
    if project.prompt_style != "passages" or pin.record_id is None:
        return []
    rows = session.exec(select(Passage).where(Passage.record_id == pin.record_id).order_by(col(Passage.position)))
    return [(row.document, row.text) for row in rows]
