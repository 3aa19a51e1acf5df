"""An Ollama store as Ollama lays it out: manifests that name layers, and blobs named by their content."""

from __future__ import annotations

import json
from pathlib import Path

from trainer.bases.ollama_store import MODEL
from trainer.rundir import sha256_of

TEMPLATE = "application/vnd.ollama.image.template"


class OllamaStore:
    """A store in a folder. `add` copies a file in and names it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "blobs").mkdir(parents=True)
        (root / "manifests").mkdir()

    def add(self, name: str, *layers: tuple[str, Path], library: str = "registry.ollama.ai/library") -> Path:
        """Add a model; a layer given as a path alone is the model. Answers the first layer's blob."""
        entries: list[dict[str, object]] = []
        blobs: list[Path] = []
        for kind, file in layers:
            blob = self.root / "blobs" / f"sha256-{sha256_of(file)}"
            blob.write_bytes(file.read_bytes())
            blobs.append(blob)
            digest = blob.name.replace("-", ":", 1)
            entries.append({"mediaType": kind, "digest": digest, "size": blob.stat().st_size})
        self.write(name, json.dumps({"schemaVersion": 2, "layers": entries}), library)
        return blobs[0]

    def add_model(self, name: str, file: Path) -> Path:
        return self.add(name, (MODEL, file))

    def write(self, name: str, manifest: str, library: str = "registry.ollama.ai/library") -> None:
        """Write a manifest as it is."""
        model, _, tag = name.partition(":")
        path = self.root / "manifests" / library / model / (tag or "latest")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(manifest, encoding="utf-8")
