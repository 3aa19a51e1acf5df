"""Take README's screenshots: `python -m tools.screenshots LINK`.

Start `make demo`, teach once and vote in two comparisons before. LINK is a one-time sign-in link:
`curator user link demo --home .demo`. Needs Chromium.
"""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, sync_playwright

from tests.e2e.chromium import CHROMIUM, FLAGS

OUT = Path(__file__).parent.parent / "docs" / "screenshots"
PROJECT = "/p/brindle-sound"
PAGES = {"desk": "/review", "teach": "/runs/1", "compare": "/battles/2", "models": "/models"}
LOOKS = {"": ("light", "en"), "-zh-dark": ("dark", "zh_Hans")}


def main(link: str) -> None:
    """Sign in once and photograph each page in both looks."""
    address = urlsplit(link)
    base = f"{address.scheme}://{address.netloc}"
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser: Browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.goto(link)
        page.wait_for_url(lambda url: "/link/" not in url)
        for suffix, (theme, language) in LOOKS.items():
            for name, value in (("theme", theme), ("language", language)):
                context.add_cookies([{"name": name, "value": value, "url": base}])
            for name, path in PAGES.items():
                page.goto(base + PROJECT + path)
                page.wait_for_load_state("networkidle")
                page.screenshot(path=OUT / f"{name}{suffix}.png")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1])
