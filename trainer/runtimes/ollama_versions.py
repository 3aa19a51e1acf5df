"""What each Ollama does with a GGUF: facts of server/create.go and server/routes.go, 0.17 to 0.35."""

from __future__ import annotations

import re

REFUSED_BELOW = (0, 17, 1)  # CVE-2026-7482: a crafted GGUF reads other people's chats out of memory
WARNED_BELOW = (0, 35, 0)  # CVE-2026-103663: a crafted digest runs code on the server
READS_TEMPLATES = (0, 30, 0)  # the one inside a GGUF; before, a known one had to resemble it
TAKES_GGUF_AS_IT_IS = (0, 34, 1)  # before that, llama-quantize rewrites it and its digest changes


def numbers(version: str) -> tuple[int, int, int]:
    """Read `0.35.0-rc1` as (0, 35, 0); a version that says nothing, as a build from source has, is all zeros."""
    found = re.match(r"v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})", version)
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def is_unsafe(version: str) -> bool:
    """Tell whether our files would pass through a known hole."""
    return (0, 0, 0) < numbers(version) < REFUSED_BELOW


def has_a_hole(version: str) -> bool:
    """Tell whether whoever reaches it can run programs on its machine."""
    return numbers(version) < WARNED_BELOW


def keeps_digests(version: str) -> bool:
    """Tell whether a file is served as it was sent, so that its digest can be compared."""
    return numbers(version) >= TAKES_GGUF_AS_IT_IS


def allows(version: str) -> str:
    """Say what a version does with what is published, in one sentence."""
    if keeps_digests(version):
        return "takes merged GGUF files as they are, no adapters; what it serves is compared by digest"
    if numbers(version) >= READS_TEMPLATES:
        return "takes merged GGUF files and rewrites them, so digests cannot be compared; adapters as well"
    return "takes merged GGUF files, and is told the chat template where it does not know it"
