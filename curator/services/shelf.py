"""What a person sees when choosing a base: the ones that are here, and the ones that could be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlmodel import Session

from curator.services import admission
from curator.services import bases as bases_
from db.models import Base, Project
from trainer.bases import ollama_store
from trainer.bases.curated import CURATED, Curated, by_origin

State = Literal["checking", "passed", "failed", "not checked", "gone"]


@dataclass(frozen=True)
class Row:
    """One base that is here. `minutes` for 100 answers; None where its size is not known."""

    base: Base
    state: State
    chosen: bool
    minutes: float | None

    @property
    def usable(self) -> bool:
        return self.state in ("passed", "not checked")


@dataclass(frozen=True)
class Offer:
    """One base that could be brought in. `problem` says why it cannot be taught, else it is empty."""

    source: Literal["embedded", "ollama", "hub"]
    origin: str
    name: str
    size: int
    minutes: float | None
    licence: str = ""
    languages: str = ""
    file: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Offers:
    """What could be brought in, by where it is."""

    ollama: list[Offer]
    curated: list[Offer]


def bases(session: Session, project: Project) -> list[Row]:
    """List the bases that are here, the project's own first."""
    known = bases_.all_bases(session)
    checking = admission.under_way(session, known)
    rows = [_row(project, base, checking=base.id in checking) for base in known]
    return sorted(rows, key=lambda row: not row.chosen)


def offers(rows: Sequence[Row]) -> Offers:
    """List what Ollama has here and the small models worth trying, without what is here already."""
    there = {known for row in rows for known in (row.base.origin, row.base.sha256) if known}
    stored = [_stored(model) for model in ollama_store.models() if not there & {model.name, model.sha256}]
    curated = [_curated(one) for one in CURATED if not there & {one.repository or one.sha256, one.ollama or one.sha256}]
    return Offers(stored, curated)


def _row(project: Project, base: Base, *, checking: bool) -> Row:
    state: State = "not checked"
    if not bases_.is_there(base):
        state = "gone"
    elif checking:
        state = "checking"
    elif base.admission in ("passed", "failed"):
        state = "passed" if base.admission == "passed" else "failed"
    return Row(base, state, base.id == project.base_id, _minutes(base.parameters))


def _stored(model: ollama_store.StoredModel) -> Offer:
    known = by_origin(model.name)
    return Offer(
        source="ollama",
        origin=model.name,
        name=model.name,
        size=model.size,
        minutes=_minutes(model.parameters),
        licence=known.licence if known else "",
        languages=" ".join(known.languages) if known else "",
        problem=model.problem,
    )


def _curated(one: Curated) -> Offer:
    return Offer(
        source="hub" if one.repository else "embedded",
        origin=one.repository,
        name=one.name,
        size=one.size,
        minutes=_minutes(one.parameters),
        licence=one.licence,
        languages=" ".join(one.languages),
        file=one.file,
    )


def _minutes(parameters: int) -> float | None:
    return bases_.minutes_per_100(parameters) if parameters else None
