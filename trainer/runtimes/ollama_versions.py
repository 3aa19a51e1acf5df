"""What each Ollama does with a GGUF: facts of server/create.go and server/routes.go, 0.1.14 to 0.35."""

from __future__ import annotations

import re

Order = tuple[int, int, int, int]

REFUSED_BELOW = (0, 17, 1, 1)  # CVE-2026-7482: a crafted GGUF reads other people's chats out of memory
WARNED_BELOW = (0, 35, 0, 1)  # CVE-2026-103663: a crafted digest runs code on the server
RUNS_ADAPTERS = (0, 30, 0, 1)  # on every kind of model; before, only on some, and it showed in the first chat
TAKES_GGUF_AS_IT_IS = (0, 34, 1, 1)  # before that, llama-quantize rewrites it and its digest changes
REFUSES_ADAPTERS = (0, 34, 1, 1)  # those that are there go on answering

UNKNOWN = (0, 0, 0, 0)


def order(version: str) -> Order:
    """Read `0.35.0` as (0, 35, 0, 1), and what came before it, `0.35.0-rc1` and builds of that, as (0, 35, 0, 0).

    A candidate may lack what its release has, so it counts as older. A version that says nothing, as a build from
    source has, is all zeros.
    """
    found = re.match(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(-rc)?", version)
    if not found or not any(map(int, found.group(1, 2, 3))):
        return UNKNOWN
    return int(found[1]), int(found[2]), int(found[3]), 0 if found[4] else 1


def is_unsafe(version: str) -> bool:
    """Tell whether our files would pass through a known hole."""
    return UNKNOWN < order(version) < REFUSED_BELOW


def has_a_hole(version: str) -> bool:
    """Tell whether whoever reaches it can run programs on its machine."""
    return order(version) < WARNED_BELOW


def keeps_digests(version: str) -> bool:
    """Tell whether a file is served as it was sent, so that its digest can be compared."""
    return order(version) >= TAKES_GGUF_AS_IT_IS


def takes_adapters(version: str) -> bool:
    """Tell whether a model can be made of a base and an adapter, and answers then."""
    return RUNS_ADAPTERS <= order(version) < REFUSES_ADAPTERS


def lost_adapters(version: str) -> bool:
    """Tell whether it goes on answering with adapters that it has, but takes none any more."""
    return order(version) >= REFUSES_ADAPTERS


def allows(version: str) -> str:
    """Say what a version does with what is published, in one sentence."""
    if keeps_digests(version):
        return "takes merged GGUF files as they are, no adapters; what it serves is compared by digest"
    if takes_adapters(version):
        return "takes merged GGUF files and rewrites them, so digests cannot be compared; adapters as well"
    return "takes merged GGUF files, no adapters, and is told the chat template where it does not know it"
