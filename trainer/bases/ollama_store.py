"""What Ollama has on this machine. Models are used where they lie; nothing in the store is ever written.

A store is `manifests/<host>/<namespace>/<model>/<tag>`, JSON that names the layers, and `blobs/sha256-<hex>`.
Layout: Ollama's docs/faq and manifest/paths.go.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainer.bases.files import EXPERTS, NO_TEMPLATE, UNKNOWN_ARCHITECTURE, why_not
from trainer.failures import TrainerFailure
from trainer.gguf_check import BadGguf, check

SERVICE_STORE = Path("/usr/share/ollama/.ollama/models")
MODEL = "application/vnd.ollama.image.model"
ADAPTER = "application/vnd.ollama.image.adapter"
DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
MAX_MANIFEST = 1 << 20

DAMAGED = "Its entry in Ollama's store is damaged. Pull it again with Ollama."
NOT_GGUF = "It is not kept as one GGUF file, so it cannot be taught."
HAS_ADAPTER = "It is a model with an adapter on top. Choose the model that the adapter belongs to."
MISSING = "Its file is missing from Ollama's store. Pull it again with Ollama."
FORBIDDEN = "Its file may not be read by the user that Curator runs as. Give that user the right to read it."
NOT_WHOLE = "Its file is damaged or no whole model. Pull it again with Ollama."
PROBLEMS = (DAMAGED, NOT_GGUF, HAS_ADAPTER, MISSING, FORBIDDEN, NOT_WHOLE, NO_TEMPLATE, EXPERTS, UNKNOWN_ARCHITECTURE)


@dataclass(frozen=True)
class StoredModel:
    """A name in Ollama's store. `path` is its GGUF file; `problem` says why it cannot be taught, else it is empty."""

    name: str
    path: Path | None = None
    size: int = 0
    parameters: int = 0
    problem: str = ""

    @property
    def sha256(self) -> str:
        """Answer its digest, which its file is named by; empty where there is no file."""
        return self.path.name.removeprefix("sha256-") if self.path else ""


def stores() -> list[Path]:
    """List the stores there are on this machine: the one that is configured, the user's, the service's."""
    configured = os.environ.get("OLLAMA_MODELS", "")
    places = [Path(configured)] if configured else [Path.home() / ".ollama" / "models", SERVICE_STORE]
    return [place for place in places if os.access(place / "manifests", os.R_OK | os.X_OK)]


def models() -> list[StoredModel]:
    """List what Ollama has here, by name; what cannot be taught says why. A name in two stores is the first one's."""
    found: dict[str, StoredModel] = {}
    for store in stores():
        for manifest in _manifests(store):
            name = _name(manifest.relative_to(store / "manifests"))
            found.setdefault(name, _model(name, manifest, store))
    return [found[name] for name in sorted(found)]


def find(name: str) -> StoredModel:
    """Answer the model of that name; TrainerFailure with a sentence when it is not there or cannot be taught."""
    wanted = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
    model = next((model for model in models() if model.name == wanted), None)
    if model is None:
        raise TrainerFailure("base", f"Ollama has no model {name[:100]} on this machine. Pull it with Ollama first.")
    if model.problem:
        raise TrainerFailure("base", model.problem)
    return model


def _manifests(store: Path) -> Iterator[Path]:
    """Yield the manifests in a store: files exactly four names deep."""
    yield from (path for path in sorted((store / "manifests").glob("*/*/*/*")) if path.is_file())


def _name(path: Path) -> str:
    host, namespace, model, tag = path.parts
    if host != "registry.ollama.ai":
        return f"{host}/{namespace}/{model}:{tag}"
    return f"{model}:{tag}" if namespace == "library" else f"{namespace}/{model}:{tag}"


def _model(name: str, manifest: Path, store: Path) -> StoredModel:
    layers = _layers(manifest)
    if layers is None:
        return StoredModel(name, problem=DAMAGED)
    if MODEL not in layers:
        return StoredModel(name, problem=NOT_GGUF)
    if ADAPTER in layers:
        return StoredModel(name, problem=HAS_ADAPTER)
    blob = store / "blobs" / f"sha256-{layers[MODEL]}"
    try:
        size = blob.stat().st_size
    except FileNotFoundError:
        return StoredModel(name, problem=MISSING)
    except PermissionError:
        return StoredModel(name, problem=FORBIDDEN)
    if not os.access(blob, os.R_OK):
        return StoredModel(name, blob, size, problem=FORBIDDEN)
    parameters, problem = _looked_at(blob, size)
    return StoredModel(name, blob, size, parameters, problem)


def _layers(manifest: Path) -> dict[str, str] | None:
    """Answer the first layer of each kind as {media type: sha256}; None for a manifest that cannot be understood."""
    try:
        with manifest.open("rb") as file:
            content: Any = json.loads(file.read(MAX_MANIFEST))  # Any: JSON from outside, checked below
        layers: dict[str, str] = {}
        for layer in content["layers"]:
            digest = DIGEST.fullmatch(layer["digest"])
            if digest is None:
                return None
            layers.setdefault(str(layer["mediaType"]), digest[1])
        return layers
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@lru_cache(maxsize=256)
def _looked_at(blob: Path, _size: int) -> tuple[int, str]:
    """Answer a blob's weights and why it cannot be taught; remembered, as a blob's name is its content."""
    try:
        summary = check(blob, whole=True)
    except BadGguf:
        return 0, NOT_WHOLE
    return summary.parameters, NOT_WHOLE if summary.general_type != "model" else why_not(summary)
