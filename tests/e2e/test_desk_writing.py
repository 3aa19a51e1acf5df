"""Writing at the desk in a real browser: nothing that is typed is ever lost."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlmodel import Session, select

from db.models import Project, Review
from tests.e2e.chromium import overflow, press, shows
from tests.factories import make_record, reload

pytestmark = pytest.mark.browser


def test_keys_are_letters_inside_a_text_field(page: Page, session: Session, project: Project):
    record = make_record(session, project, answer="Start")
    page.goto("/p/ferry/review")

    press(page, "e", "End")
    page.keyboard.type(" arsu1?")

    assert page.input_value("textarea[name=answer]") == "Start arsu1?"
    press(page, "Escape")
    assert page.locator("textarea[name=answer]").is_visible()  # changed, so it stays open
    shows(page, record)


def test_escape_without_a_change_goes_back_to_reading_and_sends_nothing(page: Page, session: Session, project: Project):
    make_record(session, project, answer="Two\r\nlines")
    page.goto("/p/ferry/review")

    press(page, "e", "Escape")
    assert page.locator("article.answer").is_visible()
    press(page, "a")
    page.wait_for_selector("section#card")

    session.rollback()
    assert session.exec(select(Review)).one().answer is None
    session.commit()


def test_a_conflict_keeps_the_text_and_saves_it_over_theirs(page: Page, session: Session, project: Project):
    record = make_record(session, project, answer="Old.")
    page.goto("/p/ferry/review")
    press(page, "e", "Control+a")
    page.keyboard.type("Mine.")
    reload(session, record)
    record.version = 7
    session.add(record)
    session.commit()

    press(page, "Control+Enter")
    page.wait_for_selector("#card.conflict")
    assert page.input_value("textarea[name=answer]") == "Mine."
    press(page, "Control+Enter")
    page.wait_for_selector("section#card")

    reload(session, record)
    assert (record.state, record.edited) == ("accepted", True)


def test_a_typed_text_outlives_a_reload(page: Page, session: Session, project: Project):
    make_record(session, project)
    page.goto("/p/ferry/review")
    press(page, "e", "Control+a")
    page.keyboard.type("Half a thought")
    page.wait_for_selector(".kept:has-text('Saved')")  # the server has it, so this tab forgets it
    assert page.evaluate("sessionStorage.length") == 0

    page.reload()

    assert page.input_value("textarea[name=answer]") == "Half a thought"
    assert page.locator("textarea[name=answer]").is_visible()


def test_next_and_previous_decide_nothing_and_keep_what_is_typed(page: Page, session: Session, project: Project):
    records = [make_record(session, project) for _ in range(3)]
    page.goto("/p/ferry/review")
    press(page, "e", "Control+a")
    page.keyboard.type("Half")
    press(page, "Escape", "j")
    shows(page, records[1])
    press(page, "j")
    shows(page, records[2])
    press(page, "k", "k")
    shows(page, records[0])
    assert page.input_value("textarea[name=answer]") == "Half"
    session.rollback()
    assert session.exec(select(Review)).all() == []
    session.commit()


def test_a_refused_decision_brings_its_card_back(page: Page, session: Session, project: Project):
    records = [make_record(session, project) for _ in range(3)]
    page.goto("/p/ferry/review")
    page.wait_for_timeout(300)  # the next card is there
    page.route("**/records/*/reviews", lambda route: route.abort())
    press(page, "e", "Control+a")
    page.keyboard.type("Mine.")
    press(page, "Control+Enter")
    page.wait_for_selector("#problem:not([hidden])")
    shows(page, records[0])
    assert page.input_value("textarea[name=answer]") == "Mine."

    page.unroute("**/records/*/reviews")
    press(page, "Control+Enter")
    shows(page, records[1])
    press(page, "a")
    shows(page, records[2])


def test_an_earlier_turn_shows_what_is_changed_about_it(page: Page, session: Session, project: Project):
    turns = [{"role": "user", "content": "Dogs?"}, {"role": "assistant", "content": "No dogs on board."}]
    record = make_record(session, project, turns=turns)
    page.goto("/p/ferry/review")
    page.click(".turns > summary")
    page.click(".turn-edit > summary")
    expect(page.locator("textarea[name='turns.1']")).to_be_focused()
    press(page, "Control+a")
    page.keyboard.type("Small dogs on board.")
    expect(page.locator(".turn-edit ins")).to_have_text("Small")
    expect(page.locator(".turn-edit del")).to_have_text("No")
    press(page, "Control+Enter")
    page.wait_for_selector("section#card")

    reload(session, record)
    assert session.exec(select(Review)).one().turns == {"1": "Small dogs on board."}
    session.commit()


@pytest.mark.parametrize(("width", "beside"), [(1280, True), (1600, True), (900, False), (375, False)])
def test_the_preview_stands_beside_the_source_where_there_is_room(page: Page, session: Session, project, width, beside):
    make_record(session, project, answer="# Fares\n\n- **Free** under 7", passages=["Children under 7 travel free."])
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/p/ferry/review")
    page.click(".answer")
    page.keyboard.type("\n- **Half** under 16")
    expect(page.locator(".preview strong").nth(1)).to_have_text("Half")

    source, preview = (page.locator(css).bounding_box() for css in ("textarea[name=answer]", ".preview"))
    assert source and preview
    assert (preview["x"] >= source["x"] + source["width"]) == beside
    assert (abs(preview["y"] - source["y"]) < 2) == beside
    assert overflow(page) == 0


def test_personal_data_is_masked_by_one_key_and_a_passage_quoted(page: Page, session: Session, project: Project):
    record = make_record(
        session, project, answer="Ask ann@example.com.", passages=["The quay is at the north end of town."]
    )
    page.goto("/p/ferry/review")
    press(page, "m")
    expect(page.locator("textarea[name=answer]")).to_have_value("Ask [e-mail].")
    press(page, "Escape")
    page.click("[data-action=quote]")
    assert page.input_value("textarea[name=answer]") == "Ask [e-mail]. The quay is at the north end of town."
    page.check("input[name='passages.0'][value=useful]")
    press(page, "a")
    page.wait_for_selector("section#card")

    reload(session, record)
    saved = session.exec(select(Review)).one()
    assert saved.passages == {"0": "useful"} and "[e-mail]" in saved.answer
    session.commit()
