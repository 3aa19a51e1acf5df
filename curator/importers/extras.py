"""Read what a record knows besides its turns: passages, reference, time, conversation and signals."""

from __future__ import annotations

from typing import Any

from curator.importers import fields, passages, values
from curator.importers.draft import RecordDraft

DIFY_CUT = 500  # Dify's feedback export keeps this many characters of an answer and adds "..."


def draft(
    line: int,
    question: str,
    answer: str,
    picked: dict[str, Any],
    mapping: dict[str, str],
    *,
    turns: tuple[dict[str, str], ...] = (),
    system: str = "",
    rejected: str = "",
) -> RecordDraft:
    """Make a draft of the turns and of what `picked` holds under the fields of fields.EXTRAS."""
    found, names = passages.read(picked.get("passages"))
    reference = picked.get("reference")
    if isinstance(parsed := values.parsed(reference), list):
        reference = parsed[0] if parsed else ""
    return RecordDraft(
        line=line,
        question=question,
        answer=answer,
        turns=turns,
        system=system,
        passages=found,
        reference=values.text(reference),
        signals=_signals(answer, picked, mapping, names, rejected) if picked or rejected else {},
        conversation=values.text(picked.get("conversation")),
        external_id=values.text(picked.get("external_id")),
        happened_at=values.moment(picked.get("happened_at")),
        language=values.text(picked.get("language"))[:20],
    )


def _signals(
    answer: str, picked: dict[str, Any], mapping: dict[str, str], names: list[str], rejected: str
) -> dict[str, Any]:
    signals: dict[str, Any] = {}
    if (thumb := values.thumbs(picked.get("thumbs"))) is not None:
        signals["thumbs"] = thumb
    if comment := values.text(picked.get("comment")):
        signals["comment"] = comment
    if (latency := values.number(picked.get("latency"))) is not None:
        in_ms = fields.plain(mapping.get("latency", "")).endswith("ms")
        signals["latency_ms"] = round(latency if in_ms else latency * 1000)
    if (score := values.number(picked.get("score"))) is not None:
        signals["score"] = score
    if names:
        signals["documents"] = names
    if rejected:
        signals["rejected"] = rejected
    if mapping.get("answer") == "ai_response" and len(answer) == DIFY_CUT + 3 and answer.endswith("..."):
        signals["truncated"] = True
    return signals
