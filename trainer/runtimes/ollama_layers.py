"""What an Ollama's models are made of, by what /api/show says of them, and which of it goes with a name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from trainer import net

LAYER = re.compile(r"^(FROM|ADAPTER)\s.*sha256-([0-9a-f]{64})\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Layers:
    """The sha256 of a model's files: its weights (first, and a projector's after it) and its adapters."""

    weights: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()


def layers(shown: net.Json) -> Layers:
    """Read a model's files off its Modelfile; none for a model that is not kept as GGUF files."""
    found: dict[str, list[str]] = {"FROM": [], "ADAPTER": []}
    for kind, digest in LAYER.findall(str(shown.get("modelfile") or "")):
        found[kind].append(digest)
    return Layers(tuple(found["FROM"]), tuple(found["ADAPTER"]))


def freed(models: Mapping[str, tuple[int, Layers]]) -> dict[str, int]:
    """Answer the octets that dropping each name alone frees, of {name: (octets, layers)}.

    Ollama counts shared files in every name and frees a file with the last one. How large the weights are that
    several names share is what the smallest of them takes up.
    """
    return {name: _freed(name, models) for name in models}


def _freed(name: str, models: Mapping[str, tuple[int, Layers]]) -> int:
    size, mine = models[name]
    others = [layers for other, (_, layers) in models.items() if other != name]
    if any(set(mine.weights) <= set(one.weights) and set(mine.adapters) <= set(one.adapters) for one in others):
        return 0
    if all(mine.weights != one.weights for one in others):
        return size
    return size - min(octets for octets, one in models.values() if one.weights == mine.weights)
