"""The launchers there are, by name."""

from __future__ import annotations

from curator.launchers.base import Launcher
from curator.launchers.local import LocalLauncher

LAUNCHERS: dict[str, type[Launcher]] = {"local": LocalLauncher}


def open_launcher(name: str = "local") -> Launcher:
    """Answer the launcher of that name."""
    return LAUNCHERS[name]()
