"""Measure the whole loop on the sample project, headless, after set-up: log to published model and both answers.

python bench/loop.py [--base FILE] [--home DIR] [--json]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from pathlib import Path

from curator.cli.loop import WholeLoop
from curator.settings import load_settings
from trainer.bases import fetch_embedded

BUDGET_SECONDS = 360.0
SET_UP = ("base",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="GGUF file to teach; the embedded base when left out")
    parser.add_argument("--home", type=Path, help="folder to use; a new temporary one when left out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp(prefix="curator-bench-"))
    base = options.base or fetch_embedded(home)
    loop = WholeLoop(load_settings(home=home))
    with contextlib.redirect_stdout(sys.stderr):
        better = loop.run(base)
    spent = {name: seconds for name, seconds in loop.seconds.items() if name not in SET_UP}
    for name, seconds in spent.items():
        show(name, seconds, None, as_json=options.json)
    show("whole loop", sum(spent.values()), BUDGET_SECONDS, as_json=options.json)
    assert better, "the taught model did not beat the base"


def show(metric: str, value: float, budget: float | None, *, as_json: bool) -> None:
    if as_json:
        line = {
            "bench": "loop", "metric": metric, "value": round(value, 2), "unit": "s", "better": "lower",
            "budget": budget, "floor": None, "ratio": None,
        }  # fmt: skip
        print(json.dumps(line))
    else:
        print(f"{metric:<20} {value:8.1f} s" + (f"  (budget {budget:.0f} s)" if budget else ""))


if __name__ == "__main__":
    main()
