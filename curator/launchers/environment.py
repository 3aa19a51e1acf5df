"""What a trainer's process may know of the one that starts it."""

from __future__ import annotations

import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECRET = re.compile(r"^CURATOR_|_(TOKEN|KEY|SECRET|PASSWORD)(_FILE)?$", re.IGNORECASE)


def scrubbed_environment() -> dict[str, str]:
    """Answer this process's environment without secrets, and with the model hub out of reach."""
    kept = {name: value for name, value in os.environ.items() if not SECRET.search(name)}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH", "")]))
    return kept | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "PYTHONPATH": path}
