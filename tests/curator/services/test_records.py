"""Records: scoped to their project, listed by key."""

from __future__ import annotations

import pytest
from sqlmodel import Session

from curator.errors import NotFound
from curator.services import projects, records, reviews
from curator.services.choice import Choice
from curator.services.reviews import ReviewForm
from curator.services.text import folded, markdown
from db.models import Project
from tests.factories import make_record


def test_a_record_of_another_project_is_not_there(session: Session, project: Project):
    other = projects.create(session, "Other", slug="other")
    record = make_record(session, other)

    assert records.get(session, other, record.id).id == record.id
    for wanted in (record.id, 10**6, 10**30):
        with pytest.raises(NotFound):
            records.get(session, project, wanted)


def test_passages_come_in_the_order_of_the_log(session, project):
    record = make_record(session, project, passages=["first", ("fares.pdf", "second", 0.5)])

    assert [(p.text, p.document, p.score) for p in records.passages(session, record)] == [
        ("first", "", None), ("second", "fares.pdf", 0.5),
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["", "new"])
def test_pages_follow_each_other_without_gap_or_overlap(session, project, state):
    made = [make_record(session, project, rank=rank) for rank in (2, 1, 2, 1, 1, 0, 2)]
    make_record(session, project, state="accepted") if state else None
    wanted = [r.id for r in made]

    seen, after = [], 0
    while after is not None:
        page = records.page(session, project, Choice(state=state), after=after, limit=2)
        seen += [line.id for line in page.lines]
        after = page.after

    assert seen == wanted


def test_a_list_cuts_long_texts(session, project):
    make_record(session, project, answer="x" * 10_000)

    assert len(records.page(session, project).lines[0].answer) == records.TEASER


def test_the_history_names_who_decided_and_what_was_taken_back(session, project, make_user):
    record, user = make_record(session, project), make_user("noor")
    reviews.add(session, record, user, ReviewForm(version=1, request_id="request-a", verdict="accept"))
    reviews.undo(session, project, user, lease_seconds=60)
    reviews.add(session, record, user, ReviewForm(version=3, request_id="request-b", verdict="unsure"))

    past = records.history(session, record)

    assert [(p.review.verdict, p.name, p.retracted_at is not None) for p in past] == [
        ("accept", "Noor", True), ("unsure", "Noor", False),
    ]  # fmt: skip


def test_guidelines_keep_their_form_and_lose_what_could_do_harm():
    html = markdown("**Be brief.**\n\n<script>alert(1)</script> [x](javascript:alert(1)) <img src=x onerror=alert(1)>")

    assert "<strong>Be brief.</strong>" in html
    assert "<script" not in html and "<img" not in html and 'href="javascript' not in html


def test_folding_shows_all_of_a_text_in_two_parts():
    long = "word " * 500

    start, rest = folded(long)

    assert start + rest == long and 200 < len(start) <= 400
    assert folded("short") == ("short", "")
    assert "".join(folded("天" * 2000)) == "天" * 2000
