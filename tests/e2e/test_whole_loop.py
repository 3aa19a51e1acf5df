"""The whole loop as one person walks it, with nothing that stands in: `curator up`, its workers, a base, Chromium."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from curator.launchers.environment import ROOT
from tests.curator.test_supervisor import ENV, Up
from tests.e2e.chromium import Witness, overflow

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOON, LONG = 20_000, 240_000  # milliseconds to wait at most: for a page, for the model
RECORDS, APPROVED = 40, 34
STEPS = 6

# Notes how often each of the two answers grew, since a whole answer would come in one piece.
PIECES = """
  window.pieces = [0, 0];
  addEventListener("DOMContentLoaded", () => new MutationObserver((changes) => {
    const answers = [...document.querySelectorAll(".answer[data-stream]")];
    for (const { target } of changes) if (answers.includes(target)) window.pieces[answers.indexOf(target)] += 1;
  }).observe(document.body, { subtree: true, childList: true }));
"""


@pytest.fixture
def up(tmp_path: Path, real_base: Path) -> Iterator[Up]:
    """A home with the real base, and `curator up` at work in it."""
    home = tmp_path / "home"
    init = [sys.executable, "-m", "curator.cli", "init", "--home", str(home), "--base", str(real_base)]
    subprocess.run(init, cwd=ROOT, env=ENV, check=True, capture_output=True)  # noqa: S603  our own command
    up = Up(home)
    yield up
    up.process.terminate()
    assert up.process.wait(60) == 0
    up.process.stdout.close()  # pyright: ignore[reportOptionalMemberAccess] # it was opened as a pipe


@pytest.fixture
def page(browser: Browser, up: Up) -> Iterator[Page]:
    origin = f"http://127.0.0.1:{up.port}"
    witness = Witness(origin)
    context = browser.new_context(base_url=origin, viewport={"width": 1280, "height": 800}, locale="en")
    context.set_default_timeout(SOON)
    context.add_init_script(PIECES)
    witness.watch(context)
    page = context.new_page()
    yield page
    context.close()
    assert witness.complaints == []


def test_from_a_log_to_a_model_in_service_and_back(up: Up, page: Page, tmp_path: Path):
    sign_in(page, up.said.rsplit(maxsplit=1)[-1])
    make_project(page)
    bring_in(page, write_log(tmp_path / "ferry log.jsonl"))
    review(page)
    freeze(page)
    teach(page)
    passed = look_at_the_card(page)
    load(page, passed)
    compare(page)
    put_into_service(page, passed)
    go_back(page)


def sign_in(page: Page, link: str) -> None:
    """Spend the one-time link, and come back with name and password."""
    page.goto(link)
    arrived(page, "Welcome")
    for label, text in (("Your name", "Noor"), ("Sign-in name", "noor"), ("Password", "a long password")):
        page.get_by_label(label, exact=True).fill(text)
    page.keyboard.press("Enter")
    arrived(page, "Projects")

    page.get_by_role("link", name="Noor").click()
    arrived(page, "Noor")
    page.get_by_role("button", name="Sign out").click()
    arrived(page, "Sign in")
    page.goto(link)
    expect(page.locator("main")).to_contain_text("This link was used already")

    page.goto("/sign-in")
    page.get_by_label("Sign-in name").fill("noor")
    page.get_by_label("Password").fill("a long password")
    page.keyboard.press("Enter")
    arrived(page, "Projects")


def make_project(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Name of the assistant")).to_be_focused()
    page.get_by_label("Name of the assistant").fill("Ferry line")
    page.get_by_role("button", name="Create").click()
    arrived(page, "Settings")
    page.get_by_label("System prompt").fill("You answer for a ferry line. Be brief.")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".flash, #notice")).to_contain_text(["Saved."])
    page.locator("main a[href$='/bases']").click()
    arrived(page, "Base model")
    row = page.locator("#bases li").filter(has_text="SmolLM2")
    row.get_by_role("button", name="Teach this one").click()
    expect(row).to_contain_text("this project’s")


def write_log(file: Path) -> Path:
    """Write the sample's first English records, one of them twice, and a line that is broken."""
    log = (ROOT / "curator" / "sample" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    english = [line for line in log if json.loads(line)["language"] == "en"][:RECORDS]
    file.write_text("\n".join([*english, english[0], '{"question": "Is this', ""]), encoding="utf-8")
    return file


def bring_in(page: Page, log: Path) -> None:
    """Look at the log first, take it in, and read the report."""
    page.get_by_role("link", name="Today").click()
    page.get_by_role("link", name="Bring in a log").click()
    arrived(page, "Logs")
    page.get_by_label("File").set_input_files(log)
    page.get_by_role("button", name="Look at it first").click()
    arrived(page, log.name)
    expect(page.locator(".draft").first).to_contain_text("how long is the crossing")
    assert fits(page)

    page.get_by_role("button", name="Take it in").click()
    expect(page.locator("#source .lead")).to_contain_text("40 records came in.", timeout=SOON)
    figures = page.locator("#source .facts").inner_text().split("\n")
    assert figures[:6] == ["New", "40", "Known already", "1", "Skipped", "1"]
    expect(page.locator("#source")).to_contain_text("Line 42:")
    assert fits(page)


def review(page: Page) -> None:
    """Decide by keys alone: correct, reject, take back, skip, and accept until there is enough."""
    page.get_by_role("link", name="Review").first.click()
    arrived(page)
    expect(page.locator("#card .meta")).to_contain_text("40 left")

    decide(page, "5", "a")
    page.keyboard.press("e")
    expect(page.locator("textarea[name=answer]")).to_be_focused()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("Dogs travel free, on a lead, in the aft lounge.")
    decide(page, "ControlOrMeta+Enter")
    expect(page.locator("#notice")).to_contain_text("Accepted with your edit")

    page.keyboard.press("r")
    expect(page.locator("[data-reasons]")).to_be_focused()
    decide(page, "1", "Enter")

    rejected_by_mistake = page.locator("#card").get_attribute("data-record") or ""
    decide(page, "r", "2", "r")
    page.keyboard.press("u")
    expect(page.locator("#card")).to_have_attribute("data-record", rejected_by_mistake)
    decide(page, "Escape", "s")

    for _ in range(APPROVED - 2):
        decide(page, "a")
    expect(page.locator("#card .meta")).to_contain_text("35 done today")
    assert fits(page)

    page.get_by_role("link", name="Records").click()
    expect(page.locator(".filters")).to_contain_text(f"Accepted {APPROVED}")
    expect(page.locator(".filters")).to_contain_text("Rejected 1")
    assert fits(page)


def decide(page: Page, *keys: str) -> None:
    """Press keys until the next record is there, and has the focus."""
    record = page.locator("#card").get_attribute("data-record") or ""
    for key in keys:
        page.keyboard.press(key)
    expect(page.locator("#card")).not_to_have_attribute("data-record", record)
    expect(page.locator("h1.question")).to_be_focused()


def freeze(page: Page) -> None:
    page.get_by_role("link", name="Datasets").click()
    arrived(page, "Datasets")
    page.get_by_label("Name").fill("spring")
    page.keyboard.press("Enter")
    arrived(page, "spring")
    numbers = [int(text) for text in page.locator(".facts dd.num").all_inner_texts()]
    assert sum(numbers) == APPROVED
    assert min(numbers) >= 1, "the sample's groups fall on all three sides"


def teach(page: Page) -> None:
    """Teach from the frozen dataset, and follow it until its card appears by itself."""
    page.get_by_role("link", name="Teach").click()
    arrived(page, "Teach the model")
    page.locator("form.teach summary", has_text="Details").click()
    page.get_by_label("Dataset").select_option(index=1)
    page.get_by_label("Most steps").fill(str(STEPS))
    page.get_by_label("Answers per step").fill("2")
    assert fits(page)
    page.get_by_role("button", name="Teach the model").click()

    arrived(page, "The model is being taught")
    page.locator("#run-details > summary").click()
    page.get_by_role("button", name="Stop").focus()
    expect(page.locator("[role=status].lead")).to_contain_text("It is learning", timeout=LONG)
    expect(page.locator("#curve canvas")).to_be_visible(timeout=LONG)
    expect(page.locator("#run-details")).to_have_attribute("open", "")
    expect(page.get_by_role("button", name="Stop")).to_be_focused()
    assert fits(page)
    expect(page.locator("h1")).to_contain_text("Version 1", timeout=LONG)


def look_at_the_card(page: Page) -> bool:
    """Answer whether the gate let it pass; so few steps may well not be enough."""
    checks = page.locator(".checks li")
    expect(checks).to_have_count(7)
    expect(checks.first).to_contain_text("passed: Questions it never saw: closer to your approved answers")
    passed = page.locator(".checks .no").count() == 0
    expect(page.locator("h1")).to_contain_text("has learnt your corrections" if passed else "is not good enough yet")
    page.get_by_text("As a table").click()
    assert page.locator("#curve-table tbody tr").count() >= 2
    assert fits(page)
    return passed


def load(page: Page, passed: bool) -> None:
    """Load a version that the gate kept back all the same; one that passed is loaded by itself."""
    page.get_by_role("link", name="Models").click()
    arrived(page, "Models")
    version = page.locator("#v1")
    expect(version).to_contain_text("Passed its checks" if passed else "Did not pass its checks")
    if not passed:
        version.get_by_role("button", name="Load it").click()
        expect(page.locator("#notice")).to_contain_text("Version 1 is being loaded.")
        assert focus_is_kept(page)
    expect(version.locator(".chip").first).to_have_text("ready", timeout=LONG)
    assert fits(page)


def compare(page: Page) -> None:
    """Vote by keys on two questions: the first has a winner, the second has none."""
    page.locator("#v1").get_by_role("link", name="Compare").click()
    arrived(page, "Compare two models")
    page.get_by_role("button", name="Ask a question they have never seen").click()
    both_answer(page)
    assert "Version 1" not in page.locator("main").inner_text(), "it is blind until the vote"

    page.keyboard.press("1")
    expect(page.locator(".reveal")).to_be_focused()
    names = " ".join(page.locator(".pane h2").all_inner_texts())
    assert "Version 1" in names and "The untaught base" in names
    assert re.search(r"Version 1 won [01] of 1 votes", page.locator(".tally .said").inner_text())
    assert fits(page)

    page.get_by_role("link", name="Ask something else").click()
    arrived(page, "Compare two models")
    page.get_by_text("Ask a question of your own").click()
    page.get_by_label("Your question").fill("May my dog sit in the aft lounge?")
    page.get_by_role("button", name="Ask both").click()
    both_answer(page)
    page.keyboard.press("0")
    expect(page.locator(".reveal")).to_contain_text("You found both the same.")


def both_answer(page: Page) -> None:
    expect(page.locator("#said")).to_have_text("Both answers are complete. You can vote.", timeout=LONG)
    assert all(page.locator(".pane .answer").all_inner_texts())
    assert min(page.evaluate("window.pieces")) > 2, "both answers came word by word"
    assert fits(page)


def put_into_service(page: Page, passed: bool) -> None:
    page.get_by_role("link", name="Models").click()
    arrived(page, "Models")
    models = page.locator("#models")
    expect(models.locator(".lead")).to_have_text("The untaught base answers your users.")
    models.get_by_text("Put into service…").click()
    reason = models.get_by_label("Why? It is kept in the journal.").last
    if not passed:
        models.get_by_role("button", name="Put version 1 into service").click()
        assert reason.evaluate("field => !field.validity.valid"), "without a reason it stays where it is"
    reason.fill("A trial with six steps.")
    models.get_by_role("button", name="Put version 1 into service").click()
    expect(models.locator(".lead")).to_have_text("Version 1 answers your users.")
    expect(page.locator("#notice")).to_contain_text("Version 1 is in service.")
    assert focus_is_kept(page)
    assert fits(page)


def go_back(page: Page) -> None:
    models = page.locator("#models")
    models.get_by_text("Go back to the untaught base…").click()
    models.get_by_label("Why? It is kept in the journal.").first.fill("The trial is over.")
    models.get_by_role("button", name="Go back").click()
    expect(models.locator(".lead")).to_have_text("The untaught base answers your users.")
    journal = models.get_by_role("row").all_inner_texts()
    assert ["The trial is over." in journal[1], "A trial with six steps." in journal[2]] == [True, True]
    assert fits(page)


def arrived(page: Page, heading: str = "") -> Locator:
    """Wait for a page by its heading, and see that it fits."""
    found = page.get_by_role("heading", level=1)
    expect(found).to_contain_text(heading, timeout=SOON)
    assert fits(page)
    return found


def fits(page: Page) -> bool:
    return overflow(page) <= 0


def focus_is_kept(page: Page) -> bool:
    return page.evaluate("document.activeElement !== document.body")
