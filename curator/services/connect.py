"""What an admin of One-API, LiteLLM or any program types in, to be answered by whatever is in service."""

from __future__ import annotations

from dataclasses import dataclass

from sqlmodel import Session, select

from curator.services import versions
from curator.settings import Settings
from db.models import Project, Promotion
from trainer import net


@dataclass(frozen=True)
class Connection:
    """Where the project's model answers. `server` is Ollama's address, empty for the embedded runtime.

    `known` tells that the name exists, which it does from the first promotion on; `near` that the address only means
    something on this machine; `token` that the server asks for one.
    """

    model: str
    server: str
    known: bool
    near: bool
    token: bool

    by_hand: str = "http://127.0.0.1:8080/v1"  # where the command on a version's page lets llama-server answer

    @property
    def base_url(self) -> str:
        """Answer what OpenAI's own clients call base_url."""
        return f"{self.server}/v1"


def of_project(session: Session, project: Project, settings: Settings) -> Connection:
    """Answer how a project's model is reached from outside."""
    server = settings.ollama_url.rstrip("/")
    known = session.exec(select(Promotion.id).where(Promotion.project_id == project.id).limit(1)).first() is not None
    near = bool(server) and net.is_local(server)
    return Connection(versions.alias(project), server, known, near, bool(settings.ollama_token.get_secret_value()))
