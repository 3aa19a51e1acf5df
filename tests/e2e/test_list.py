"""The list of records by keyboard, and the pages around it: axe, and every window's width."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect
from sqlmodel import Session, select

from curator.security import COOKIE
from curator.services import accounts, reviews, search, views
from curator.services.choice import Choice
from curator.services.reviews import ReviewForm
from db.models import Project, User
from tests.e2e.chromium import Witness, overflow, press
from tests.factories import make_record

pytestmark = pytest.mark.browser

AXE = Axe().axe_script
RUN_AXE = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations.map((one) => one.id)"


@pytest.fixture
def token(session: Session, project: Project, make_user: Callable[..., User]) -> str:
    lead = make_user("lead", "lead")
    make_user("noor")
    made = [make_record(session, project, language="zh", passages=["A muzzle is needed."]) for _ in range(4)]
    for record in made[:3]:
        record.cluster_id = made[0].id
        session.add(record)
    search.put(session, made)
    views.save(session, project, lead, "Chinese", Choice(language="zh"), shared=True)
    token = accounts.sign_in(session, lead)
    session.commit()
    return token


def test_lines_and_a_batch_by_keyboard_alone(browser: Browser, address: str, token: str):
    context, witness = browser.new_context(), Witness(address)
    context.add_cookies([{"name": COOKIE, "value": token, "url": address}])
    witness.watch(context)
    page = context.new_page()
    page.goto(f"{address}/p/ferry/records?language=zh")

    for key, line in (("j", 0), ("j", 1), ("j", 2), ("k", 1), ("k", 0), ("k", 0)):
        page.keyboard.press(key)
        expect(page.locator("[data-line]").nth(line)).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/records/1")

    page.goto(f"{address}/p/ferry/batches/new?language=zh")
    page.get_by_role("button", name="Accept all 4 as they stand").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="4 accepted")).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_text("4 decisions were taken back.")).to_be_visible()
    assert witness.complaints == []
    context.close()


def test_a_persons_own_keys_work_in_the_list_and_where_a_lead_settles(
    browser: Browser, address: str, session: Session, project: Project, token: str
):
    noor = session.exec(select(User).where(User.login == "noor")).one()
    split = make_record(session, project)
    reviews.add(session, split, noor, ReviewForm(version=1, request_id="theirs-00", verdict="unsure"))
    session.commit()
    context = browser.new_context(base_url=address)
    context.add_cookies([{"name": COOKIE, "value": token, "url": address}])
    page = context.new_page()
    page.goto("/account")
    for action, key in (("next", "v"), ("note", "y")):
        page.fill(f"[name='keys.{action}']", key)
    page.click("text=Save the keys")

    page.goto("/p/ferry/records")
    press(page, "j")
    expect(page.locator("[data-line]").first).not_to_be_focused()
    press(page, "v", "v", "k")
    expect(page.locator("[data-line]").first).to_be_focused()
    page.goto("/p/ferry/adjudication")
    press(page, "c")
    expect(page.locator(".note")).not_to_have_attribute("open", "")
    press(page, "y")
    expect(page.locator(".note")).to_have_attribute("open", "")

    page.goto("/account")
    page.locator("[name=single_keys]").uncheck()
    page.click("text=Save the keys")
    page.goto("/p/ferry/adjudication")
    press(page, "y", "r")
    expect(page.locator("details:is(.note, #reject)[open]")).to_have_count(0)
    expect(page.locator(".decide kbd").first).to_be_hidden()
    page.goto("/p/ferry/records")
    press(page, "v")
    expect(page.locator("[data-line]:focus")).to_have_count(0)
    context.close()


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 375), ("light", 320)])
def test_the_pages_pass_axe_and_fit_their_window(browser: Browser, address: str, token: str, theme: str, width: int):
    context = browser.new_context(viewport={"width": width, "height": 800}, bypass_csp=True)
    context.add_cookies(
        [{"name": name, "value": value, "url": address} for name, value in ((COOKIE, token), ("theme", theme))]
    )
    page = context.new_page()
    for path in ("records?language=zh&signal=down", "records?q=muzzle", "batches/new?language=zh", "twins/1"):
        page.goto(f"{address}/p/ferry/{path}")
        page.evaluate('document.querySelectorAll("details").forEach((one) => (one.open = true))')
        page.evaluate(AXE)
        assert (page.evaluate(RUN_AXE), overflow(page)) == ([], 0), path
    context.close()
