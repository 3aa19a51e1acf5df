"""What the browser tests share: one Chromium for a file's tests, and the app answering at an address."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, sync_playwright
from sqlmodel import Session
from werkzeug.serving import make_server

from curator.security import COOKIE
from curator.services import accounts
from db.models import User
from tests.e2e.chromium import CHROMIUM, FLAGS


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def address(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    thread.join()
    server.server_close()


# Notes when a key goes down and when the card that follows it has been painted.
STOPWATCH = """
  window.waits = [];
  let pressed = 0;
  addEventListener("keydown", (event) => { if (event.key !== "Control") pressed = performance.now(); }, true);
  document.addEventListener("card:shown", () => {
    const from = pressed;
    requestAnimationFrame(() => setTimeout(() => window.waits.push(performance.now() - from)));
  });
"""


@pytest.fixture
def page(browser: Browser, address: str, session: Session, make_user: Callable[..., User]) -> Iterator[Page]:
    token = accounts.sign_in(session, make_user())
    session.commit()
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 800})
    context.add_cookies([{"name": COOKIE, "value": token, "url": address}])
    context.add_init_script(STOPWATCH)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield page
    context.close()
    assert errors == []
