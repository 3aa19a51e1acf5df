"""Read what an Ollama answers."""

from __future__ import annotations

from trainer import net
from trainer.runtimes.base import Chunk, ServedModel
from trainer.runtimes.failures import clean


def listed(entry: net.Json) -> ServedModel:
    """Read one line of /api/tags."""
    size, name = entry.get("size"), str(entry.get("name", ""))
    found = details(entry.get("details"))
    return ServedModel(short(name), size if isinstance(size, int) else 0, str(entry.get("digest", "")), found)


def short(tag: str) -> str:
    """Answer a name without the tag that every name has."""
    return tag.removesuffix(":latest")


def details(found: object) -> dict[str, str]:
    """Keep the details that are texts."""
    items: net.Json = found if isinstance(found, dict) else {}
    return {key: value for key, value in items.items() if isinstance(value, str) and value}


def last(text: str, part: net.Json) -> Chunk:
    """Read the last frame of a chat."""
    tokens, nanoseconds = part.get("eval_count"), part.get("eval_duration")
    return Chunk(
        text,
        "stop" if part.get("done_reason") == "stop" else "length",
        tokens if isinstance(tokens, int) else None,
        nanoseconds / 1e9 if isinstance(nanoseconds, int) else None,
    )


def share(part: net.Json) -> float | None:
    """Answer how far a status line says it is, between 0 and 1."""
    total, completed = part.get("total"), part.get("completed")
    return completed / total if isinstance(total, int) and isinstance(completed, int) and total > 0 else None


def words(part: net.Json) -> str:
    """Turn an error into a sentence that says what to do."""
    said = clean(str(part.get("error", "nothing")))
    if "no space left" in said:
        return f"Ollama's disk is full. Make room on its machine, or retire old versions, then load it again. ({said})"
    if "digest mismatch" in said:
        return f"The file was damaged on its way to Ollama, or changed meanwhile. Load it again. ({said})"
    if "no longer supported" in said or "not yet implemented" in said:
        return f"This Ollama cannot use an adapter. It says: {said}"
    if "process has terminated" in said:
        return f"Ollama's engine ended when it was to load the model. Ollama's log says why. It says: {said}"
    return f"Ollama could not do that. It says: {said}"
