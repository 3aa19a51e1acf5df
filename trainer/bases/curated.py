"""Small models worth trying, as a literal table, and how long teaching one takes.

Sizes are rounded. Languages are those that a model's makers name: a code each, `+` for many more, and nothing
where they name none.
"""

from __future__ import annotations

from dataclasses import dataclass

EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

SECONDS_PER_EXAMPLE = 1.3  # SmolLM2-135M, 3 epochs, 2 cores, short answers
MEASURED_PARAMETERS = 134_515_008

M = 1_000_000  # bytes, or weights


@dataclass(frozen=True)
class Curated:
    """A model, and the one file of it that is fetched. `size` in bytes and `parameters` are rounded.

    `ollama` is its name in Ollama's library; the embedded base alone has no repository but a `sha256`.
    """

    name: str
    parameters: int
    licence: str
    languages: tuple[str, ...]
    size: int
    repository: str = ""
    file: str = ""
    ollama: str = ""
    sha256: str = ""


APACHE, LLAMA, GEMMA = "Apache-2.0", "Llama 3.2 Community License", "Gemma Terms of Use"
LLAMA_LANGUAGES = ("en", "de", "fr", "it", "pt", "hi", "es", "th")

CURATED: tuple[Curated, ...] = (
    Curated("SmolLM2-135M-Instruct", 135 * M, APACHE, ("en",), 98 * M, sha256=EMBEDDED_SHA256),
    Curated(
        "gemma-3-270m-it", 270 * M, GEMMA, (), 290 * M,
        "ggml-org/gemma-3-270m-it-GGUF", "gemma-3-270m-it-Q8_0.gguf", "gemma3:270m",
    ),
    Curated(
        "SmolLM2-360M-Instruct", 360 * M, APACHE, ("en",), 390 * M,
        "bartowski/SmolLM2-360M-Instruct-GGUF", "SmolLM2-360M-Instruct-Q8_0.gguf", "smollm2:360m",
    ),
    Curated(
        "Qwen2.5-0.5B-Instruct", 490 * M, APACHE, ("en", "zh", "+"), 680 * M,
        "Qwen/Qwen2.5-0.5B-Instruct-GGUF", "qwen2.5-0.5b-instruct-q8_0.gguf", "qwen2.5:0.5b",
    ),
    Curated(
        "Qwen3-0.6B", 600 * M, APACHE, ("en", "zh", "+"), 640 * M,
        "Qwen/Qwen3-0.6B-GGUF", "Qwen3-0.6B-Q8_0.gguf", "qwen3:0.6b",
    ),
    Curated(
        "gemma-3-1b-it", 1_000 * M, GEMMA, ("en",), 1_070 * M,
        "ggml-org/gemma-3-1b-it-GGUF", "gemma-3-1b-it-Q8_0.gguf", "gemma3:1b",
    ),
    Curated(
        "Llama-3.2-1B-Instruct", 1_240 * M, LLAMA, LLAMA_LANGUAGES, 1_320 * M,
        "bartowski/Llama-3.2-1B-Instruct-GGUF", "Llama-3.2-1B-Instruct-Q8_0.gguf", "llama3.2:1b",
    ),
    Curated(
        "Qwen2.5-1.5B-Instruct", 1_540 * M, APACHE, ("en", "zh", "+"), 1_890 * M,
        "Qwen/Qwen2.5-1.5B-Instruct-GGUF", "qwen2.5-1.5b-instruct-q8_0.gguf", "qwen2.5:1.5b",
    ),
    Curated(
        "SmolLM2-1.7B-Instruct", 1_710 * M, APACHE, ("en",), 1_820 * M,
        "bartowski/SmolLM2-1.7B-Instruct-GGUF", "SmolLM2-1.7B-Instruct-Q8_0.gguf", "smollm2:1.7b",
    ),
    Curated(
        "Qwen3-1.7B", 1_720 * M, APACHE, ("en", "zh", "+"), 1_830 * M,
        "Qwen/Qwen3-1.7B-GGUF", "Qwen3-1.7B-Q8_0.gguf", "qwen3:1.7b",
    ),
)  # fmt: skip


def by_sha256(sha256: str) -> Curated | None:
    """Answer the model whose one file this is."""
    return next((one for one in CURATED if one.sha256 == sha256), None)


def by_origin(origin: str) -> Curated | None:
    """Answer the model that a repository or a name in Ollama's library stands for."""
    return next((one for one in CURATED if origin and origin in (one.repository, one.ollama)), None)


def seconds_per_example(parameters: int) -> float:
    """Estimate how long one example takes to be learnt on two cores, from the one model that was measured."""
    return SECONDS_PER_EXAMPLE * parameters / MEASURED_PARAMETERS
