"""Settings: the only reader of the environment. Every one has a default, a type and a sentence."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SECRETS = ("secret_key", "ollama_token", "llama_server_token", "compare_token", "database_url")
"""What can also be read from a file."""


class Settings(BaseSettings):
    """How this installation runs. Each field is read from CURATOR_<NAME>; secrets also from CURATOR_<NAME>_FILE."""

    model_config = SettingsConfigDict(env_prefix="CURATOR_", frozen=True, extra="ignore")

    home: Path = Field(Path("~/.curator"), description="Folder that holds the database, runs, versions and backups.")
    database_url: str = Field("", description="Database to use; empty means curator.db in the home folder.")
    host: str = Field("127.0.0.1", description="Address the web app listens on.")
    port: int = Field(8700, ge=1, le=65535, description="Port the web app listens on.")
    public_url: str = Field("", description="Address people type, when a proxy stands in front.")
    threads: int = Field(32, ge=2, le=256, description="Requests the web app answers at the same time.")
    secure_cookies: bool = Field(False, description="Send cookies over HTTPS only; set it behind a TLS proxy.")
    ollama_url: str = Field("", description="Ollama server to publish to, for example http://127.0.0.1:11434.")
    ollama_token: SecretStr = Field(SecretStr(""), description="Bearer token for that server, if it asks for one.")
    ollama_form: Literal["merged", "adapter"] = Field(
        "merged",
        description="What of a version goes to that server: merged, one whole file, which every Ollama takes, or "
        "adapter, a few megabytes on top of the base, which Ollama 0.30.0 to 0.34.0 takes; elsewhere it is merged.",
    )
    llama_server_url: str = Field(
        "",
        description="llama.cpp's llama-server to publish to instead, for example http://127.0.0.1:8080; somebody "
        "starts it, with a version's file or as a router.",
    )
    llama_server_token: SecretStr = Field(SecretStr(""), description="Key that it was started with, if any.")
    llama_server_models: Path | None = Field(
        None, description="Folder it was started on as a router (--models-dir); versions are put into it and loaded."
    )
    compare_url: str = Field(
        "",
        description="OpenAI-compatible server whose models versions are compared with, up to and with its /v1, for "
        "example http://127.0.0.1:4000/v1; nothing is ever published there.",
    )
    compare_token: SecretStr = Field(SecretStr(""), description="Key for that server, if it asks for one.")
    hub_url: str = Field(
        "https://huggingface.co", description="Model hub that base models are fetched from, or a mirror of it."
    )
    secret_key: SecretStr = Field(
        SecretStr(""), description="Key that signs forms; made in the home folder when empty."
    )
    upload_limit_mb: int = Field(2048, ge=1, description="Largest file that can be uploaded, in megabytes.")
    min_examples: int = Field(20, ge=1, description="Approved answers needed before the model can be taught.")
    lease_seconds: int = Field(900, ge=10, description="How long a record stays reserved for one reviewer.")
    launcher: Literal["local", "ray"] = Field(
        "local", description="Where models are taught: local, on this machine, or ray, on a Ray cluster."
    )
    ray_address: str = Field(
        "", description="Dashboard of the Ray cluster's head, for example http://10.0.0.5:8265; launcher ray needs it."
    )
    ray_cpus: float = Field(1, gt=0, description="Processors that a node must have to spare for one stage of a run.")
    ray_gpus: float = Field(0, ge=0, description="Graphics cards that it must have; with 0 a stage sees none.")

    @field_validator("llama_server_url")
    @classmethod
    def _one_place(cls, url: str, info: ValidationInfo) -> str:
        if url and info.data.get("ollama_url"):
            raise ValueError("versions go to one place, and CURATOR_OLLAMA_URL is set as well. Take one of them away")
        return url

    @field_validator("llama_server_models", mode="before")
    @classmethod
    def _no_folder(cls, folder: Any) -> Any:  # whatever was given; an empty text is no folder, not the current one
        return folder or None

    def model_post_init(self, _context: Any) -> None:  # pydantic's own signature
        object.__setattr__(self, "home", self.home.expanduser().resolve())
        if self.llama_server_models:
            object.__setattr__(self, "llama_server_models", self.llama_server_models.expanduser().resolve())

    @property
    def url(self) -> str:
        """Answer the database to open."""
        return self.database_url or f"sqlite:///{self.home / 'curator.db'}"

    @property
    def address(self) -> str:
        """Answer the address people type."""
        return self.public_url or f"http://{self.host}:{self.port}"

    def make_home(self) -> None:
        """Make the home when missing; it holds people's questions and password hashes, so it is its owner's alone."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(mode=0o700, exist_ok=True)

    def folder(self, name: str) -> Path:
        """Answer a folder of the home, made when missing."""
        self.make_home()
        folder = self.home / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def signing_key(self) -> str:
        """Answer the key that signs forms: the configured one, or the home folder's own, made once."""
        if self.secret_key.get_secret_value():
            return self.secret_key.get_secret_value()
        file = self.home / "secret.key"
        self.make_home()
        try:
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
                new.write(secrets.token_hex(32))
        except FileExistsError:
            pass
        return file.read_text()


def load_settings(**overrides: Any) -> Settings:  # any field of Settings
    """Read the environment once; `*_FILE` variables name files that hold a secret."""
    for name in SECRETS:
        file = os.environ.get(f"CURATOR_{name.upper()}_FILE")
        if file and name not in overrides:
            overrides[name] = Path(file).read_text(encoding="utf-8").strip()
    return Settings(**overrides)
