"""A lead has number types measured and a version made, by keyboard alone; the page follows by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import Engine

from curator.security import COOKIE
from curator.services import accounts
from curator.settings import Settings
from db.session import open_session
from tests.curator.teaching import Classroom, classroom
from tests.e2e.chromium import Witness, overflow
from tests.e2e.test_teaching import press

pytestmark = pytest.mark.browser


@pytest.fixture
def room(engine: Engine, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Classroom]:
    """A finished run, and a worker that is there for what is asked of it next."""
    monkeypatch.setattr("curator.services.run_folder.MARGIN", 0)  # the test machine's disk is not what is tested
    room = classroom(engine, settings, tmp_path)
    room.teach()
    worker = room.worker()
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield room
    worker.leave()
    thread.join()


@pytest.fixture
def page(browser: Browser, address: str, room: Classroom) -> Iterator[Page]:
    with open_session(room.engine, write=True) as session:
        lead = accounts.create_user(session, "moira", "Moira")
        accounts.set_role(session, lead, room.project, "lead")
        token = accounts.sign_in(session, lead)
    witness = Witness(address)
    context = browser.new_context(base_url=address, viewport={"width": 375, "height": 800}, locale="en")
    context.add_cookies([{"name": COOKIE, "value": token, "url": address}])
    context.set_default_timeout(30_000)
    witness.watch(context)
    yield context.new_page()
    context.close()
    assert witness.complaints == []


def test_a_smaller_version_is_made_by_keyboard(page: Page, room: Classroom):
    page.goto("/p/ferry/runs/1")
    press(page.get_by_role("button", name="See what smaller files would keep"))

    row = page.locator("#types tbody tr", has_text="Q4_0").first
    expect(row).to_contain_text("about four fifths of what it learnt", timeout=30_000)
    assert overflow(page) <= 0
    press(page.get_by_role("button", name="Make a version of type Q4_0"))

    expect(row.get_by_role("link", name="Version 2")).to_be_visible(timeout=30_000)
    press(row.get_by_role("link", name="Version 2"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("Version 2")
    press(page.get_by_role("link", name="other types"))
    expect(page.locator("#types")).to_be_in_viewport()
