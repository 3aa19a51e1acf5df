"""A lead teaches by keyboard, stops, goes on and reads. Worker, launcher and trainer are real, the base is tiny."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from sqlalchemy import Engine

from curator.services import accounts, bases, sample
from curator.settings import Settings
from curator.worker import Worker
from db.models import Project
from db.session import open_session
from tests.e2e.chromium import Witness, overflow
from tests.trainer.tiny import write_tiny_llama_gguf

pytestmark = [pytest.mark.browser, pytest.mark.slow]

LONG = 40_000  # milliseconds to wait at most for what the trainer does
STEPS = 800
RECIPE = {
    "epochs": 50, "max_steps": STEPS, "batch_size": 4, "evals_per_epoch": 4, "patience": 100, "learning_rate": 5e-3,
    "threads": 1, "precision": "float32", "answer_tokens": 8, "canaries": False,
}  # fmt: skip


@pytest.fixture
def project(engine: Engine, settings: Settings, tmp_path: Path) -> Project:
    """The sample project on a base that is taught in seconds, with Lena to lead it."""
    with open_session(engine, write=True) as session:
        base = bases.register(session, write_tiny_llama_gguf(tmp_path / "base.gguf"), name="Tiny")
    project = sample.load(engine, settings, base)
    with open_session(engine, write=True) as session:
        project = session.get_one(Project, project.id)
        project.recipe = RECIPE
        session.add(project)
        accounts.set_role(session, accounts.create_user(session, "lena", "Lena", "a long password"), project, "lead")
    return project


@pytest.fixture
def worker(engine: Engine, settings: Settings, project: Project) -> Iterator[Worker]:
    worker = Worker(settings, "train", engine=engine, beat=0.1)
    thread = threading.Thread(target=worker.run)
    thread.start()
    yield worker
    worker.leave()
    thread.join()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    witness = Witness(address)
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 800}, locale="en")
    context.set_default_timeout(LONG)
    witness.watch(context)
    page = context.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    yield page
    context.close()
    assert witness.complaints == []


def test_a_run_is_started_watched_stopped_gone_on_with_and_read(page: Page, project: Project, worker: Worker):
    sign_in(page)
    page.goto(f"/p/{project.slug}/teach")
    press(page.get_by_role("button", name="Teach the model"))

    heading(page, "The model is being taught")
    expect(page.locator("#curve canvas")).to_be_visible(timeout=LONG)
    press(page.locator("#curve-table summary"))
    rows = page.locator("#curve-table tbody tr")
    expect(rows).not_to_have_count(0)
    seen = rows.count()
    expect(rows).not_to_have_count(seen, timeout=LONG)
    assert rows.count() > seen, "the table grows while it is open"

    press(page.get_by_role("button", name="Stop"))
    heading(page, "This run was stopped")
    stopped_at = steps(page)[-1]
    assert stopped_at < STEPS

    press(page.get_by_role("button", name="Go on from where it stopped"))
    heading(page, "The model is being taught")
    heading(page, "Version 1")
    expect(page.locator("main .lead").first).to_contain_text("approved answers")
    expect(page.locator(".checks li").first).to_contain_text("Questions it never saw")
    course = steps(page)
    assert course == sorted(set(course)), "no step is learnt twice"
    assert stopped_at in course and course[-1] == STEPS
    assert overflow(page) <= 0


def sign_in(page: Page) -> None:
    page.goto("/sign-in")
    page.get_by_label("Sign-in name").fill("lena")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    heading(page, "Brindle Sound Ferries")


def press(wanted: Locator) -> None:
    """Go to something with the Tab key, and press it."""
    page = wanted.page
    expect(wanted).to_be_visible(timeout=LONG)
    for _ in range(80):
        if wanted.evaluate("one => one === document.activeElement"):
            page.keyboard.press("Enter")
            return
        page.keyboard.press("Tab")
    raise AssertionError("the Tab key does not lead there")


def heading(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(text, timeout=LONG)


def steps(page: Page) -> list[int]:
    """Answer the steps in the curve's table, which may be closed."""
    return [int(text) for text in page.locator("#curve-table tbody td:first-child").all_text_contents()]
