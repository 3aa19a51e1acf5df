"""Every page passes axe and fits its window, in both themes and both languages, on a screen and on a phone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page
from sqlalchemy import Engine
from sqlmodel import Session

from curator.security import COOKIE
from curator.services import accounts, arena, projects, reviews, snapshots, uploads, versions
from curator.settings import Settings
from db.models import Project, Run
from tests.curator.taught import answer_both, begin_battle, school
from tests.curator.teaching import Classroom
from tests.e2e.chromium import Witness, overflow
from tests.factories import make_record, make_source

pytestmark = pytest.mark.browser

WIDTHS, NARROWEST = (1280, 375, 320), 320  # the narrowest window is only measured
REFUSALS = ("404 (NOT FOUND)", "409 (CONFLICT)")  # asked for: the error page and the conflict
LONG_NAME = "conversations_export_2026-04-01_of_the_whole_company_final_v2.jsonl"
LOG = b"""{"question": "May my cat come along?", "answer": "Yes, in a carrier.", "contexts": ["Cats: in a carrier."]}
{"question": "Is this line whole"
"""
AXE = Axe().axe_script
RUN_AXE = """async () => {
  const found = await axe.run(document, { resultTypes: ["violations"], elementRef: false });
  return found.violations.map((v) => `${v.id}: ${v.nodes.slice(0, 2).map((n) => n.html.slice(0, 160) + " | "
    + n.any.concat(n.all, n.none).map((one) => one.message).join("; ")).join(" || ")}`);
}"""
OPEN_ALL = 'document.querySelectorAll("details").forEach((one) => (one.open = true))'


class Site:
    """A project in which everything has happened, an empty one, and the paths of all their pages."""

    def __init__(self, engine: Engine, settings: Settings, session: Session, tmp_path: Path) -> None:
        self.place = place = school(engine, settings, tmp_path)
        self.session, self.settings = session, settings
        place.version(1)
        place.version(2)
        place.version(3, "built", gate_passed=False, message="The program that runs models did not answer.")
        taught = Classroom(engine, settings, place.project, place.snapshot)
        taught.teach()
        taught.teach("poor")
        place.runtime.answers |= {"ferry:v1-abcd": "No dogs on board.", "ferry:v2-abcd": "Dogs travel free.\n" * 9}
        self.user = accounts.create_user(session, "noor", "Noor", "", admin=True)
        accounts.create_user(
            session, "eva.with.a.long.address@islands-and-ferries.example", "Eva with quite a long name"
        )
        self.token = accounts.sign_in(session, self.user)
        project = session.get_one(Project, place.project.id)
        versions.promote(session, project, place.versions[1], self.user, "It answers well.")
        snapshots.freeze(session, project, "spring")
        self.quiet = projects.create(
            session, "Donaudampfschifffahrtsgesellschaft and its islands", slug="quiet", creator=self.user
        )
        session.commit()
        self.paths = ["/", "/people/", "/account", "/nowhere", "/sign-in", "/sign-in?failed="]
        self.paths += [self._setup(), "/setup/spent", "/link/spent"]
        self.paths += self._records() + self._sources() + self._runs(taught.run()) + self._battles()
        self.paths += [f"/p/ferry/{name}" for name in ("", "settings", "datasets/", "teach", "compare", "models")]
        self.paths += [
            f"/p/ferry/{name}" for name in ("bases", "adjudication", "overview", "guidelines", "review/summary")
        ]
        self.paths += ["/p/ferry/models/1", "/p/ferry/models/4", "/p/ferry/models/connect"]
        self.paths += ["/p/ferry/datasets/1", "/p/ferry/datasets/2?split=test"]
        self.paths += [f"/p/quiet/{name}" for name in ("", "review", "records", "sources/", "compare", "models")]

    def _setup(self) -> str:
        token = accounts.make_link(self.session, "setup")
        self.session.commit()
        return f"/setup/{token}"

    def _records(self) -> list[str]:
        record = make_record(
            self.session, self.place.project, question="What does a dog cost? 狗要买票吗？", language="zh",
            passages=[("Fares", "Dogs travel free. " * 60, 0.8)] * 9, reference="Nothing.",
            turns=[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}],
            signals={"thumbs": -1, "comment": "That is wrong.", "refusal": True, "truncated": True},
        )  # fmt: skip
        judged = make_record(self.session, self.place.project)
        form = reviews.ReviewForm(
            verdict="reject", version=judged.version, reasons=["stale"], comment="Old prices.", answer="Free.",
            request_id="r" * 32,
        )  # fmt: skip
        reviews.add(self.session, judged, self.user, form)
        self.session.commit()
        desk = [f"/p/ferry/review{part}" for part in ("", "?keys", "?conflict")]
        return [*desk, "/p/ferry/records", *(f"/p/ferry/records/{one.id}" for one in (record, judged))]

    def _sources(self) -> list[str]:
        skips = [{"line": 3, "reason": "There is no answer."}]
        make_source(self.session, self.place.project, name=LONG_NAME, skipped=9, skips=skips, new=4, size=4_200)
        make_source(self.session, self.place.project, state="importing", size=100, read_bytes=30)
        make_source(self.session, self.place.project, state="failed", error="The file is gone. Upload it again.")
        whole, broken = (
            uploads.keep(self.settings, self.place.project, io.BytesIO(text)) for text in (LOG, b"\0\1\2\3" * 40)
        )
        looks = [f"/p/ferry/sources/new?file={file}&name=log.jsonl" for file in (whole, broken)]
        return ["/p/ferry/sources/", *(f"/p/ferry/sources/{number}" for number in (2, 3, 4)), *looks]

    def _runs(self, finished: Run) -> list[str]:
        """One run of each kind; the one at work stands in the quiet project, where its page also polls."""
        common: dict[str, Any] = {"snapshot_id": finished.snapshot_id, "base_id": finished.base_id}
        failed = Run(project_id=finished.project_id, state="failed", failure="memory", message="No memory.", **common)
        live = Run(
            project_id=self.quiet.id or 0, state="running", stage="train", folder=finished.folder,
            started_at=finished.started_at, **common,
        )  # fmt: skip
        self.session.add_all([failed, live])
        self.session.commit()
        return [
            f"/p/ferry/runs/{finished.id}",
            f"/p/ferry/runs/{failed.id}",
            f"/p/quiet/runs/{live.id}",
            "/p/quiet/teach",
            "/p/ferry/runs/compare",
            "/p/quiet/runs/compare",
        ]

    def _battles(self) -> list[str]:
        voted, begun = begin_battle(self.place, self.user), begin_battle(self.place, self.user, "And cats?")
        answer_both(self.place, voted)
        arena.vote(self.session, self.place.project, voted, self.user, "left")
        self.session.commit()
        return [f"/p/ferry/battles/{voted.id}", f"/p/ferry/battles/{begun.id}"]


@pytest.fixture
def site(engine: Engine, settings: Settings, session: Session, tmp_path: Path) -> Site:
    return Site(engine, settings, session, tmp_path)


def opened(browser: Browser, address: str, site: Site, language: str, theme: str) -> BrowserContext:
    context = browser.new_context(base_url=address, reduced_motion="reduce")
    values = {COOKIE: site.token, "language": language, "theme": theme}
    context.add_cookies([{"name": name, "value": value, "url": address} for name, value in values.items()])
    context.add_init_script(AXE)
    return context


def show(page: Page, path: str) -> None:
    page.goto(path)
    if "/battles/2" in path:
        page.wait_for_selector("button[value=left]:not([disabled])")
    if "/runs/" in path and page.locator("#curve").count():
        page.wait_for_selector("#curve canvas")
    if "?keys" in path:
        page.keyboard.press("?")
    if "?conflict" in path:
        page.evaluate('document.querySelector("#card [name=version]").value = 99')
        page.keyboard.press("a")
        page.wait_for_selector("#card.conflict")
    page.evaluate(OPEN_ALL)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "zh_Hans"])
def test_axe_finds_nothing(browser: Browser, address: str, site: Site, language: str, theme: str):
    context, witness, found = opened(browser, address, site, language, theme), Witness(address), []
    witness.watch(context)
    page = context.new_page()
    for path in site.paths:
        page.set_viewport_size({"width": WIDTHS[0], "height": 800})
        show(page, path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            if (pixels := overflow(page)) > 0:
                found.append(f"{path} {width}: {pixels} px too wide")
            if width != NARROWEST:
                found += [f"{path} {width}: {violation}" for violation in page.evaluate(RUN_AXE)]
    context.close()
    assert not found, "\n".join(found)
    assert [text for text in witness.complaints if not any(status in text for status in REFUSALS)] == []


def test_focus_stays_in_the_page_when_a_swap_takes_its_button_away(browser: Browser, address: str, site: Site):
    context = opened(browser, address, site, "en", "light")
    page = context.new_page()
    page.goto("/p/ferry/models")
    page.locator("#v2 summary", has_text="Put into service").focus()
    page.keyboard.press("Enter")
    page.locator("#v2 .btn.primary").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#v2 .chip.on")

    assert page.evaluate("document.activeElement.id") == "main"
    context.close()
