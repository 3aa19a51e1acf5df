"""Compare in a real browser: two answers stream side by side, keys vote, names appear."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser
from sqlalchemy import Engine
from sqlmodel import Session, select

from curator.security import COOKIE
from curator.services import accounts
from curator.settings import Settings
from db.models import BattleTurn, PreferencePair, Vote
from db.session import open_session
from tests.curator.taught import School, school
from tests.fakes.openai_server import FakeOpenAI
from trainer.runtimes.base import RuntimeUnavailable

pytestmark = pytest.mark.browser

EVIL = "Dogs <img src=x onerror=document.title='owned'> travel free."


class Brake:
    """Holds a model's answer after its first pieces until it is let go, so that no test depends on time."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    def __call__(self, _chunk: Any) -> None:
        assert self.go.wait(20)


@pytest.fixture
def place(engine: Engine, settings: Settings, tmp_path: Path) -> School:
    place = school(engine, settings, tmp_path)
    place.version(1, "in service")
    place.version(2)
    place.runtime.answers |= {"ferry:v1-abcd": "No dogs on board.", "ferry:v2-abcd": EVIL}
    return place


@pytest.fixture
def brake(place: School) -> Brake:
    place.runtime.on_chunk = brake = Brake()
    return brake


@pytest.fixture
def page(browser: Browser, address: str, place: School, session: Session) -> Iterator[Any]:
    user = place.person()
    token = accounts.sign_in(session, user)
    session.commit()
    context = browser.new_context(base_url=address, locale="en")
    context.add_cookies([{"name": COOKIE, "value": token, "url": address}])
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    context.close()


@pytest.fixture
def begin(page: Any) -> Callable[[], None]:
    def start() -> None:
        page.goto("/p/ferry/compare")
        page.get_by_role("button", name="Ask a question they have never seen").click()
        page.wait_for_url("**/battles/*")

    return start


def first(place: School, kind: type[Any]) -> Any:
    with open_session(place.engine) as session:
        return session.exec(select(kind)).first()


def complete(page: Any) -> None:
    page.wait_for_selector("button[value=left]:not([disabled])")


def test_both_sides_stream_then_a_key_votes_and_reveals(place: School, page: Any, begin: Callable[[], None]):
    begin()
    complete(page)

    texts = page.locator(".pane .answer").all_inner_texts()
    assert sorted(texts) == sorted([EVIL, "No dogs on board."])
    assert page.locator(".answer img").count() == 0
    assert "Version" not in page.locator("main").inner_text()
    assert page.locator("#said").inner_text() == "Both answers are complete. You can vote."

    page.keyboard.press("2")
    page.wait_for_selector(".reveal")

    assert re.search(r"Version [12]", page.locator(".pane h2").first.inner_text())
    assert first(place, Vote).winner == "right"
    assert first(place, PreferencePair).chosen == texts[1]
    assert page.evaluate("document.activeElement.className") == "reveal"
    assert page.complaints == []


def test_the_vote_waits_for_both_answers(place: School, page: Any, begin: Callable[[], None], brake: Brake):
    brake.go.clear()
    begin()
    page.wait_for_selector(".answer[data-state=writing]")

    assert page.locator("button[name=winner][disabled]").count() == 4
    page.keyboard.press("1")
    assert first(place, Vote) is None

    brake.go.set()
    complete(page)
    page.keyboard.press("n")  # no vote yet, so no next question either
    assert page.locator(".reveal").count() == 0


def test_one_side_fails_the_other_is_shown_and_trying_again_helps(place: School, page: Any, begin: Callable[[], None]):
    place.runtime.fail_with = RuntimeUnavailable("ferry:v1-abcd is gone")
    place.runtime.fail_only = {"ferry:v1-abcd"}
    begin()
    page.wait_for_selector("[data-trouble]:not([hidden])")
    page.wait_for_selector(".answer[data-state=done]")

    assert "does not answer" in page.locator("[data-trouble]:not([hidden])").inner_text()
    assert page.locator("button[name=winner][disabled]").count() == 4

    place.runtime.fail_with = None
    page.get_by_role("button", name="Try again").click()
    complete(page)
    assert page.locator("[data-trouble]:not([hidden])").count() == 0


def test_write_the_right_answer_with_keys_alone(place: School, page: Any, begin: Callable[[], None]):
    begin()
    complete(page)

    page.keyboard.press("e")
    page.keyboard.type("Dogs travel free, on a lead. 1 2 0 b")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".reveal")

    assert first(place, Vote).winner == "both bad"
    assert first(place, PreferencePair).chosen == "Dogs travel free, on a lead. 1 2 0 b"


def test_ask_on_then_vote_then_the_next_question(place: School, page: Any, begin: Callable[[], None]):
    begin()
    complete(page)
    page.locator("#ask-on summary").click()
    page.locator("#f-more").fill("And cats?")
    page.locator("#ask-on button").click()
    page.wait_for_selector("h2.question >> text=And cats?")
    complete(page)
    assert page.locator(".answer[data-state=done]").count() == 4

    page.keyboard.press("0")
    page.wait_for_selector(".reveal")
    before = page.url
    page.keyboard.press("n")
    page.wait_for_url(lambda url: "/battles/" in url and url != before)
    complete(page)


def test_reloading_in_the_middle_shows_whole_answers_in_the_end(
    place: School, page: Any, begin: Callable[[], None], brake: Brake
):
    brake.go.clear()
    begin()
    page.wait_for_selector(".answer[data-state=writing]")

    page.reload()
    brake.go.set()
    complete(page)

    turn = first(place, BattleTurn)
    assert sorted([turn.left, turn.right]) == sorted([EVIL, "No dogs on board."])
    assert page.locator(".pane .answer").all_inner_texts() == [turn.left, turn.right]


@pytest.fixture
def elsewhere(app: Flask) -> Iterator[FakeOpenAI]:
    with FakeOpenAI({"gpt-4o": "Dogs travel free on the open deck.", "qwen-max": "Ask at the pier."}) as fake:
        known = app.extensions["curator.settings"].model_copy(update={"compare_url": fake.url})
        app.extensions["curator.settings"] = known
        yield fake


def test_a_model_elsewhere_is_met_blind_by_keyboard_alone(place: School, page: Any, elsewhere: FakeOpenAI):
    page.goto("/p/ferry/compare")
    page.get_by_label("Ours").focus()  # it came after the page
    page.keyboard.press("Tab")
    page.keyboard.type("qwen")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/battles/*")
    complete(page)
    main = page.locator("main").inner_text()
    assert "qwen" not in main and "Version" not in main
    left_is_ours = page.locator(".pane .answer").first.inner_text() != "Ask at the pier."

    page.keyboard.press("1" if left_is_ours else "2")
    page.wait_for_selector(".reveal")

    panes = page.locator(".pane h2").all_inner_texts()
    assert sorted("qwen-max" in pane for pane in panes) == [False, True]
    assert "Version 2" in panes[0 if left_is_ours else 1]
    assert "is not kept to learn from" in page.locator(".reveal").inner_text()
    assert first(place, Vote).new_won is True
    assert first(place, PreferencePair) is None

    page.keyboard.press("n")
    page.wait_for_url("**/battles/2")
    complete(page)
    assert elsewhere.requests[-1][1]["model"] == "qwen-max"
    assert page.complaints == []
