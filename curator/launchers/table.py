"""The launchers there are, by name."""

from __future__ import annotations

from collections.abc import Callable

from curator.launchers.base import Launcher
from curator.launchers.local import LocalLauncher
from curator.launchers.ray import RayLauncher
from curator.settings import Settings

LAUNCHERS: dict[str, Callable[[Settings], Launcher]] = {
    "local": lambda _settings: LocalLauncher(),
    "ray": RayLauncher.from_settings,
}


def open_launcher(settings: Settings) -> Launcher:
    """Answer the launcher that the settings name."""
    return LAUNCHERS[settings.launcher](settings)
