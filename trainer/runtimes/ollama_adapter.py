"""An adapter on a base that Ollama has already, instead of one merged file: what is looked at before and after.

Ollama checks nothing when it is made: a wrong adapter shows in the first chat, as an engine that ends without a reason,
and one on top of another adapter counts as well. So all of it is looked at from here.
"""

from __future__ import annotations

from pathlib import Path

from trainer import net
from trainer.gguf_summary import GgufSummary
from trainer.runtimes import ollama_versions
from trainer.runtimes.base import Publication, RuntimeFailure
from trainer.runtimes.checked import checked, checked_adapter
from trainer.runtimes.failures import clean
from trainer.runtimes.ollama_layers import Layers, layers


def checked_file(publication: Publication, version: str) -> tuple[Path, GgufSummary]:
    """Answer the adapter's file and what its base says of itself; RuntimeFailure where they would not work together."""
    if not ollama_versions.takes_adapters(version):
        raise RuntimeFailure(f"Ollama {clean(version) or '(unknown version)'} takes no adapters; 0.30.0 to 0.34.0 do.")
    if publication.adapter is None:
        raise RuntimeFailure("This version has no adapter file.")
    base = checked(publication.base)
    checked_adapter(publication.adapter, base)
    return publication.adapter, base


def check_base(publication: Publication, base: GgufSummary, shown: net.Json) -> None:
    """Refuse a name in Ollama that is not the untaught base.

    It is when its file's digest is that of the base. An Ollama that takes adapters rewrites what it is sent, and then
    architecture, names, shapes and types of all tensors have to be the same.
    """
    name, found = publication.on, layers(shown)
    details = shown.get("details")
    if not found.weights or not isinstance(details, dict) or details.get("format") != "gguf":
        raise RuntimeFailure(f"{name} is not kept as a GGUF file in Ollama, so no adapter can be put on it.")
    if found.adapters:
        raise RuntimeFailure(f"{name} has an adapter in Ollama already, and both would count.")
    info = shown.get("model_info")
    if not isinstance(info, dict) or info.get("general.architecture") != base.architecture:
        raise RuntimeFailure(f"{name} is of another architecture in Ollama than the base that was taught.")
    if found.weights[0] != publication.base_sha256 and not _same_tensors(base, shown):
        raise RuntimeFailure(f"{name} is not the base that was taught: its weights are others in Ollama.")


def check_made(publication: Publication, digest: str, base: net.Json, made: net.Json) -> None:
    """Refuse a model that is not exactly the base's weights and this one adapter."""
    if layers(made) != Layers(layers(base).weights, (digest,)):
        raise RuntimeFailure(f"Ollama created {publication.tag!r} but not from this base and this adapter alone.")


def _same_tensors(base: GgufSummary, shown: net.Json) -> bool:
    """Tell whether names, shapes and types agree. Ollama calls a type that it has no name for unknown.

    Rewriting leaves out sides of length 1 at a shape's end.
    """
    said = shown.get("tensors")
    rows = [row for row in said if isinstance(row, dict)] if isinstance(said, list) else []
    theirs = {str(row.get("name")): (_shape(row.get("shape")), row.get("type")) for row in rows}
    ours = {tensor.name: (_shape(list(tensor.shape)), tensor.type.name) for tensor in base.tensors.values()}
    return theirs.keys() == ours.keys() and all(
        theirs[name] in ((shape, kind), (shape, "unknown")) for name, (shape, kind) in ours.items()
    )


def _shape(sides: object) -> list[object]:
    found = list[object](sides) if isinstance(sides, list) else []
    while len(found) > 1 and found[-1] == 1:
        found.pop()
    return found
