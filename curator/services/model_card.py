"""The model card of a version: README.md for whoever gets the files, with lineage and evaluation. In English."""

from __future__ import annotations

from pathlib import Path

from sqlmodel import Session

from curator.services import bases
from db.models import Base, Json, ModelVersion, Project, Run, Snapshot
from trainer.rundir import RunDir
from trainer.spec import MATERIAL

SAME = "same"
TEXT = """---
{licence}base_model: {base}
tags: [gguf, lora, curator]
---

# {project}, version {number}

A version of **{base}** that was taught {examples} {material} of the assistant “{project}”.

| file | what it is |
|---|---|
| `model.gguf` | the whole model, to be served |
{adapter}| `Modelfile` | for `ollama create {tag} -f Modelfile` |

## Where it comes from

| | |
|---|---|
| base | {base}, {architecture}, SHA-256 `{base_sha}` |
| dataset | {snapshot}, SHA-256 `{snapshot_sha}` |
| its answers | {train} to learn, {val} to steer by, {test} to be examined on |
| model.gguf | SHA-256 `{sha}`, what was taught is of type {type} |
| taught | {day}, method {method}, rank {rank}, learning rate {rate} |

## How it was examined

{verdict}

{checks}

## Limits

It was examined on the questions of one assistant. Do not expect it to have learnt anything else, and expect it to have
forgotten some of what the base knew. What it was taught may hold knowledge of the company that taught it.
"""
ADAPTER = "| `adapter.gguf` | what was learnt alone, for `llama-server -m BASE.gguf --lora adapter.gguf` |\n"


def written(session: Session, version: ModelVersion) -> str:
    """Write the card from what the database and the run's folder know; no path of this machine is in it."""
    run, base = session.get_one(Run, version.run_id), bases.get(session, version.base_id)
    snapshot, project = session.get_one(Snapshot, run.snapshot_id), session.get_one(Project, version.project_id)
    folder, taught, card = Path(version.folder), RunDir(Path(run.folder)), version.card or run.card
    spec, result = taught.spec(), RunDir(folder).result() or taught.result()
    return TEXT.format(
        licence=f"license: {base.licence.lower()}\n" if base.licence else "",
        base=base.name,
        architecture=base.architecture,
        base_sha=base.sha256,
        project=project.name,
        number=version.number,
        tag=version.tag,
        adapter=ADAPTER if (folder / "adapter.gguf").exists() else "",
        examples=card.get("examples", snapshot.train),
        material=MATERIAL[spec.method],
        snapshot=snapshot.name,
        snapshot_sha=snapshot.sha256,
        train=snapshot.train,
        val=snapshot.val,
        test=snapshot.test,
        sha=(result.files.get("model.gguf") if result else "") or "not noted",
        type=_type(version, card),
        day=f"{version.created_at:%Y-%m-%d}",
        method=spec.method,
        rank=spec.lora.rank,
        rate=spec.learning_rate,
        verdict=_verdict(card, base),
        checks="\n".join(_check(check) for check in version.gate) or "- no checks are noted",
    )


def _type(version: ModelVersion, card: Json) -> str:
    """Name the number type; that of the base is known once it was measured."""
    measured = card.get("rounded", {}).get("type", "")
    return version.merged_type if version.merged_type != SAME else f"{measured} (as in the base)".strip()


def _verdict(card: Json, base: Base) -> str:
    if not card.get("asked"):
        return "No questions were kept back to examine it on."
    return (
        f"On {card['asked']} questions that it never saw it was better than {base.name} on {card['better']}, the same "
        f"on {card['same']} and worse on {card['worse']}. Held-out loss: {card['old_loss']:.3f} before, "
        f"{card['new_loss']:.3f} now. Corrections that must hold: {card['new_pins']} of {card['pins']}."
    )


def _check(check: Json) -> str:
    return f"- {'passed' if check['passed'] else 'failed'}: {check['name']} ({check['detail']})"
