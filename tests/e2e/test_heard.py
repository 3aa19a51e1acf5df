"""What a screen reader is given at the desk: Chromium's accessibility tree, the focus, and what is announced."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import Session

from db.models import Project, Record
from tests.e2e.chromium import press, shows
from tests.factories import make_record

pytestmark = pytest.mark.browser

BUTTONS = ("Accept A", "Edit E", "Reject R", "Skip S", "Unsure W", "Undo U", "Next J", "Back K")


@pytest.fixture
def records(session: Session, project: Project) -> list[Record]:
    passages = [("Fares 2026", "Dogs travel free of charge on all boats.", 0.81), ("Rules", "Bikes go on deck.", 0.2)]
    answer = "Dogs travel free of charge on all boats. Cats pay nine crowns. [1]"
    return [
        make_record(session, project, question=f"What does dog {n} cost?", answer=answer, passages=passages)
        for n in range(3)
    ]


def test_every_part_of_the_desk_has_a_name(page: Page, records: list[Record]):
    page.goto("/p/ferry/review")
    shows(page, records[0])

    expect(page.get_by_role("main")).to_match_aria_snapshot("""
    - main:
      - heading "What does dog 0 cost?" [level=1]
      - article "Answer"
      - group "How good is it?"
      - complementary "Passages":
        - heading "What the assistant had read" [level=2]
        - group "What is this passage worth?"
      - group "Decide"
    """)
    for name in BUTTONS:
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(1)
    expect(page.get_by_role("link", name="[1]")).to_be_visible()
    unsupported = page.locator("u", has_text="Cats pay nine crowns.")
    expect(unsupported).to_have_accessible_description("no passage supports this")


def test_a_decision_is_announced_and_the_next_question_is_read(page: Page, records: list[Record]):
    page.goto("/p/ferry/review")
    shows(page, records[0])
    press(page, "a")
    shows(page, records[1])

    expect(page.get_by_role("status").filter(has_text="Accepted")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.get_by_role("heading", level=1)).to_have_text("What does dog 1 cost?")

    press(page, "e")
    expect(page.get_by_role("textbox", name="Answer, corrected")).to_be_focused()
    press(page, "Escape", "r")
    expect(page.get_by_role("group", name="Why reject it?")).to_be_visible()
