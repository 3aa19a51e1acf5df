"""What an admin of One-API, LiteLLM or any program types in, to be answered by whatever is in service."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, select

from curator.services import handover, versions
from curator.settings import Settings
from db.models import Project, Promotion
from trainer import net
from trainer.runtimes.modelfile import LLAMA_SERVER


@dataclass(frozen=True)
class Connection:
    """Where the project's model answers. `server` is the address of Ollama or llama-server, as `kind` says.

    Both are empty for the embedded runtime. `known` tells that the name exists, which it does from the first promotion
    on; `near` that the address only means something on this machine; `token` that the server asks for one.
    """

    model: str
    server: str
    known: bool
    near: bool
    token: bool
    kind: str = ""
    restarts: bool = False  # somebody starts the server, and maybe anew for each version
    system: str = ""  # what a program has to send itself, because llama-server keeps none

    by_hand: str = f"{LLAMA_SERVER}/v1"  # where the command on a version's page lets llama-server answer

    @property
    def base_url(self) -> str:
        """Answer what OpenAI's own clients call base_url."""
        return f"{self.server}/v1"


def of_project(session: Session, project: Project, settings: Settings) -> Connection:
    """Answer how a project's model is reached from outside."""
    places = (
        ("ollama", settings.ollama_url, settings.ollama_token),
        ("llama-server", settings.llama_server_url, settings.llama_server_token),
    )
    kind, url, token = next((place for place in places if place[1]), ("", "", settings.ollama_token))
    known = session.exec(select(Promotion.id).where(Promotion.project_id == project.id).limit(1)).first() is not None
    return Connection(
        model=versions.alias(project),
        server=url.rstrip("/"),
        known=known,
        near=bool(url) and net.is_local(url),
        token=bool(token.get_secret_value()),
        kind=kind,
        restarts=handover.only_by_hand(settings),
        system=project.system_prompt.strip() if kind == "llama-server" else "",
    )
