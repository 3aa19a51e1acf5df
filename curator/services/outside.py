"""Models elsewhere that ours are compared with. They are asked; nothing of ours is ever given to them to serve."""

from __future__ import annotations

from dataclasses import dataclass

from curator.errors import NotFound
from curator.settings import Settings
from trainer.runtimes.base import RuntimeFailure
from trainer.runtimes.openai import OpenAIServer


@dataclass(frozen=True)
class Offer:
    """What can be compared with: the names at `host`. `local`: questions stay on this machine. `trouble`: why none."""

    host: str
    local: bool
    names: list[str]
    trouble: str = ""


def is_set(settings: Settings) -> bool:
    """Tell whether there is a server to compare with."""
    return bool(settings.compare_url)


def open_server(settings: Settings) -> OpenAIServer:
    """Answer the server to compare with; nothing is asked yet."""
    if not is_set(settings):
        raise NotFound("No server to compare with is set. Set CURATOR_COMPARE_URL and start Curator again.")
    return OpenAIServer(settings.compare_url, settings.compare_token.get_secret_value())


def offer(settings: Settings) -> Offer:
    """Ask the server what it has. No transaction may be open: it can take seconds."""
    try:
        server = open_server(settings)
        return Offer(server.host, server.is_local, server.models())
    except RuntimeFailure as failure:
        return Offer("", local=True, names=[], trouble=str(failure))
