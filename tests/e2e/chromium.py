"""How the browser tests start Chromium and watch a page for what must never happen on it."""

from __future__ import annotations

from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, Page

from db.models import Record

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


@dataclass
class Witness:
    """Notes every error in the console and every request that leaves the origin."""

    origin: str
    complaints: list[str] = field(default_factory=list[str])

    def watch(self, context: BrowserContext) -> None:
        context.on("console", lambda said: self._note(said.text) if said.type in ("error", "warning") else None)
        context.on("weberror", lambda error: self._note(str(error.error)))
        context.on("request", lambda request: self._local(request.url))

    def _local(self, url: str) -> None:
        if not url.startswith((self.origin + "/", "data:", "blob:")):
            self._note(f"left the origin: {url}")

    def _note(self, complaint: str) -> None:
        self.complaints.append(complaint)


def overflow(page: Page) -> int:
    """Answer by how many pixels the page is wider than its window; a drawing has two frames to follow its size."""
    return page.evaluate("""async () => {
        const frame = () => new Promise((painted) => requestAnimationFrame(painted));
        const wider = () => document.documentElement.scrollWidth - document.documentElement.clientWidth;
        if (wider() > 0) await frame().then(frame);
        return wider();
    }""")


def shows(page: Page, record: Record) -> None:
    """Wait until the card shows this record."""
    page.wait_for_selector(f'#card[data-record="{record.id}"]')


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
