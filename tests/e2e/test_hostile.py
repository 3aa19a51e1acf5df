"""Texts that were written to be run are shown to the letter and run nowhere; unreadable ones break no page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest
from playwright.sync_api import Browser, Page
from sqlmodel import Session

from curator.security import COOKIE
from curator.services import accounts, guidelines, reviews, search, views
from curator.services.choice import Choice
from curator.services.reviews import ReviewForm
from db.models import Project, Record, User
from tests.e2e.chromium import Witness, overflow, shows
from tests.e2e.hostile import CORPUS, TURNED, UNSEEN, ZALGO
from tests.factories import make_record, make_source

pytestmark = pytest.mark.browser

ALL = "\n\n".join(CORPUS)
_numbers = count(1)

# What pages are made of. Anything else, a handler, or an address that is no page and no plain link came from a text.
STRANGE = """() => {
  const house = new Set(("html head meta title link script body a header span div form input nav main p h1 h2 h3 h4 h5"
    + " h6 button select option label details summary kbd ul ol li dialog table thead tbody tr th td aside section"
    + " article time mark textarea fieldset legend b u ins del hr br strong em s code pre blockquote svg rect text dl"
    + " dt dd").split(" "));
  const lead = (one) => [one.getAttribute("href"), one.getAttribute("src"), one.getAttribute("action"),
    one.getAttribute("formaction")].filter((to) => to !== null);
  return [...document.querySelectorAll("*")].filter((one) => !house.has(one.localName)
    || one.getAttributeNames().some((name) => name.startsWith("on") || name === "style" || name.startsWith("hx-on"))
    || lead(one).some((to) => to !== "" && !/^(\\/(?!\\/)|#|\\?|https?:|mailto:)/.test(to) || to.startsWith("/stolen"))
    || one.localName === "script" && !one.getAttribute("src")?.startsWith("/static/")
  ).map((one) => one.outerHTML.slice(0, 200));
}"""
# What was typed or logged, as a reader sees it: without what a correction took away and without our own words.
READ = """(css) => [...document.querySelectorAll(css)].map((one) => {
  const copy = one.cloneNode(true);
  copy.querySelectorAll("del, .all").forEach((ours) => ours.remove());
  return one.matches("textarea") ? one.value : copy.textContent.trim();
})"""


class Reader:
    """A lead's browser that notes whatever a text makes it do."""

    def __init__(self, browser: Browser, address: str, token: str, width: int = 1280) -> None:
        self.context = browser.new_context(base_url=address, viewport={"width": width, "height": 800})
        self.context.add_cookies([{"name": COOKIE, "value": token, "url": address}])
        self.witness = Witness(address)
        self.witness.watch(self.context)
        self.page: Page = self.context.new_page()
        self.page.on("dialog", lambda dialog: (self.witness.complaints.append(dialog.message), dialog.dismiss()))

    def open(self, path: str) -> None:
        self.page.goto(f"/p/ferry/{path}")
        self.is_calm()

    def is_calm(self) -> None:
        """Hold the page to what it is made of, everything on it unfolded."""
        self.page.evaluate('document.querySelectorAll("details").forEach((one) => (one.open = true))')
        assert self.page.evaluate("typeof pwned") == "undefined", self.page.url
        assert self.page.evaluate(STRANGE) == [], self.page.url
        assert self.witness.complaints == [], self.page.url

    def read(self, css: str) -> list[str]:
        return self.page.evaluate(READ, css)


@pytest.fixture
def lead(make_user: Callable[..., User]) -> User:
    return make_user("lead", "lead")


@pytest.fixture
def reader(browser: Browser, address: str, session: Session, lead: User) -> Iterator[Reader]:
    reader = Reader(browser, address, accounts.sign_in(session, lead))
    session.commit()
    yield reader
    reader.context.close()


def holding(session: Session, project: Project, text: str) -> Record:
    """Make a record with this text wherever a log can put one."""
    return make_record(
        session, project, question=text, answer=text, reference=text, passages=[(text, text, 0.5)],
        signals={"comment": text},
        turns=[{"role": "user", "content": text}, {"role": "assistant", "content": text}],
    )  # fmt: skip


def test_a_log_runs_nothing_at_the_desk_and_in_lists(reader: Reader, session: Session, project: Project):
    records = [holding(session, project, text) for text in CORPUS]
    for record in records:
        record.cluster_id = records[0].id
    search.put(session, records)
    session.commit()

    reader.open("review")
    for record in records:
        shows(reader.page, record)
        reader.is_calm()
        assert set(reader.read("#card :is(.question, .answer, .passage b, .passage .text, .turn > .text)")) == {
            record.question
        }
        assert record.question in reader.read(".said")[0]
        reader.page.click("#card [value=skip]")
    listed: list[str] = []
    reader.open("records")
    while True:
        listed += reader.read("[data-line]")
        if not (more := reader.page.get_by_text("More records")).count():
            break
        more.click()
        reader.is_calm()
    assert sorted(listed) == sorted(CORPUS)
    reader.open("records?q=pwned")
    found = reader.read("[data-line]")
    assert len(found) > 20 and set(found) <= set(CORPUS)
    reader.open("twins/1")
    assert set(reader.read(".list :is(h2, .text)")) <= set(CORPUS)


def test_what_people_write_runs_nothing_where_it_is_read(
    reader: Reader, session: Session, project: Project, make_user: Callable[..., User]
):
    project.reviews_needed = 2
    noor, lin = make_user(), make_user("lin")
    records = [holding(session, project, text) for text in CORPUS]
    for record in records:
        for person, mark in ((noor, "!"), (lin, "?")):
            given = dict.fromkeys(("question", "answer", "comment"), record.question + mark)
            given |= {"verdict": "accept", "turns": {"1": record.question + mark}}
            form = ReviewForm.model_validate(
                {"version": record.version, "request_id": f"opinion-{next(_numbers)}", **given}
            )
            reviews.add(session, record, person, form)
    session.commit()

    for record in records:
        text = record.question
        reader.open(f"adjudication?after={(record.id or 0) - 1}")
        assert set(reader.read("h1.question, article, .passage b, .passage .text, .turn .text")) == {text}
        assert set(reader.read("#card > .columns .text, #own textarea")) == {text + "!", text + "?"}
        reader.open(f"records/{record.id}")
        assert set(reader.read(".past .text")) == {text + "!", text + "?"}


def test_names_and_guidelines_run_nothing(reader: Reader, session: Session, project: Project, lead: User):
    make_source(session, project, name=ALL)
    make_record(session, project)
    guidelines.change(session, project, ALL, lead)
    guidelines.change(session, project, f"{ALL}\n\nMore.", lead)
    project.reasons = [{"key": "stale", "en": ALL, "zh": ALL}]
    lead.name = ALL
    views.save(session, project, lead, "A view", Choice(language="zh"), shared=True).name = ALL
    session.commit()

    for path in ("", "review", "records", "sources/", "sources/1", "settings", "overview", "guidelines", "datasets/"):
        reader.open(path)
        if path == "guidelines":
            assert reader.read("#changes + .text") == [f"{ALL}\n\nMore."]
    reader.open("review")
    reader.page.click("[data-dialog=guidelines]")
    assert reader.page.is_visible("#guidelines")
    reader.is_calm()


@pytest.mark.parametrize("text", [ZALGO, UNSEEN, TURNED], ids=["piled-up accents", "invisible", "turned"])
def test_unreadable_texts_break_no_page(
    browser: Browser, address: str, session: Session, project: Project, lead: User, text: str
):
    record, twin = holding(session, project, text), holding(session, project, text)
    record.cluster_id = twin.cluster_id = record.id
    token = accounts.sign_in(session, lead)
    session.commit()
    reader = Reader(browser, address, token, width=375)
    for path in ("review", f"records/{record.id}", "records", "batches/new?language=zh", f"twins/{record.id}"):
        reader.open(path)
        assert overflow(reader.page) == 0, path
    reader.page.goto("/p/ferry/review")
    assert reader.read(".question")[0] == text.strip() and reader.read("textarea.answer")[-1] == text
    assert reader.page.locator(".decide").bounding_box()["height"] < 200
    reader.context.close()


def test_two_hundred_passages_fit_and_can_be_reached(
    browser: Browser, address: str, session: Session, project: Project, lead: User
):
    passages = [(f"document-{n}.pdf" * 9, f"Passage {n} says something. " * 30, 0.5) for n in range(200)]
    record = make_record(session, project, answer="It says so [199].", passages=passages)
    token = accounts.sign_in(session, lead)
    session.commit()
    for width in (375, 1280):
        reader = Reader(browser, address, token, width)
        reader.open("review")
        shows(reader.page, record)
        assert overflow(reader.page) == 0
        assert reader.page.locator(".passage").count() == 200
        reader.page.reload()
        reader.page.click(".cite")
        reader.page.locator(f"#passage-{record.id}-198").scroll_into_view_if_needed()
        assert reader.page.is_visible(f"#passage-{record.id}-198 .text")
        reader.is_calm()
        reader.context.close()
