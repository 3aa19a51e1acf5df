"""What every version string that an Ollama may give is taken for."""

from __future__ import annotations

import pytest

from tests.fakes.ollama_server import FakeOllama
from trainer.runtimes import ollama_versions
from trainer.runtimes.base import RuntimeFailure
from trainer.runtimes.ollama import OllamaRuntime

REFUSED, WARNED, FINE = "refused", "warned of", "fine"


@pytest.mark.parametrize(
    ("version", "order", "safety", "adapters", "digests"),
    [
        ("0.1.14", (0, 1, 14, 1), REFUSED, False, False),
        ("0.5.13-rc4", (0, 5, 13, 0), REFUSED, False, False),
        ("0.17.0", (0, 17, 0, 1), REFUSED, False, False),
        ("0.17.0-5-g1a2b3c4", (0, 17, 0, 1), REFUSED, False, False),
        ("0.17.1-rc2", (0, 17, 1, 0), REFUSED, False, False),  # perhaps from before the mend
        ("0.17.1", (0, 17, 1, 1), WARNED, False, False),
        ("0.24.0", (0, 24, 0, 1), WARNED, False, False),
        ("0.30.0-rc1", (0, 30, 0, 0), WARNED, False, False),
        ("0.30.0", (0, 30, 0, 1), WARNED, True, False),
        ("v0.33.4", (0, 33, 4, 1), WARNED, True, False),
        ("0.34.0", (0, 34, 0, 1), WARNED, True, False),
        ("0.34.1-rc0", (0, 34, 1, 0), WARNED, True, False),  # if it takes none, it says so, and the file is merged
        ("0.34.1", (0, 34, 1, 1), WARNED, False, True),
        ("0.35.0-rc0-12-gabc", (0, 35, 0, 0), WARNED, False, True),
        ("0.35.0", (0, 35, 0, 1), FINE, False, True),
        ("0.35.0-dirty", (0, 35, 0, 1), FINE, False, True),
        ("0.40.0", (0, 40, 0, 1), FINE, False, True),
        ("1.0.0", (1, 0, 0, 1), FINE, False, True),
        ("0.0.0", (0, 0, 0, 0), WARNED, False, False),
        ("", (0, 0, 0, 0), WARNED, False, False),
        ("dev-build-of-tuesday", (0, 0, 0, 0), WARNED, False, False),
        ("9" * 40 + ".1.1", (0, 0, 0, 0), WARNED, False, False),
    ],
)
def test_a_version_string_is_taken_for(
    version: str, order: tuple[int, ...], safety: str, adapters: bool, digests: bool
) -> None:
    assert ollama_versions.order(version) == order
    assert ollama_versions.takes_adapters(version) is adapters
    assert ollama_versions.keeps_digests(version) is digests
    assert ollama_versions.lost_adapters(version) is digests
    with FakeOllama() as ollama:
        ollama.told_version = version
        runtime = OllamaRuntime(ollama.url)
        if safety == REFUSED:
            with pytest.raises(RuntimeFailure, match="too old to be safe"):
                runtime.version()
        else:
            assert runtime.version() == version
            assert bool(runtime.warnings()) is (safety == WARNED)


def test_what_versions_allow_is_told_in_a_sentence() -> None:
    assert "no adapters" in ollama_versions.allows("0.34.1")
    assert "adapters as well" in ollama_versions.allows("0.33.0")
    assert "rewrites them" in ollama_versions.allows("0.33.0")
    assert "no adapters, and is told the chat template" in ollama_versions.allows("0.24.0")
