"""Counts kept beside the records."""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import Session

from curator.services import counts, queue, reviews
from curator.services.reviews import ReviewForm
from db.models import Project, User
from tests.factories import make_record


def test_a_decision_moves_a_record_from_one_count_to_another(
    session: Session, project: Project, make_user: Callable[..., User]
):
    user, record = make_user(), make_record(session, project)
    make_record(session, project)
    form = ReviewForm.model_validate({"version": 1, "request_id": "request-1", "verdict": "accept"})

    reviews.add(session, record, user, form)
    assert counts.of(session, project) == {"new": 1, "accepted": 1}

    reviews.undo(session, project, user, lease_seconds=60)
    assert counts.of(session, project) == {"new": 2, "accepted": 0}


def test_counts_can_be_made_anew(session: Session, project: Project):
    make_record(session, project, state="accepted")
    counts.move(session, project.id or 0, {"new": 7, "accepted": -3})

    counts.rebuild(session, project)

    assert counts.of(session, project) == {"accepted": 1}


def test_a_corrected_turn_of_the_assistant_is_kept_and_a_persons_turn_is_not(
    session: Session, project: Project, make_user: Callable[..., User]
):
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Yes?"}]
    record = make_record(session, project, turns=said)
    form = ReviewForm.model_validate({
        "version": 1, "request_id": "request-2", "verdict": "accept",
        "turns": {"0": "Changed", "1": "Good morning.", "9": "x"},
    })  # fmt: skip

    review = reviews.add(session, record, make_user(), form)

    assert review.turns == {"1": "Good morning."}
    assert record.edited
    assert queue.remaining(session, project, make_user("li")) == (0, False)
