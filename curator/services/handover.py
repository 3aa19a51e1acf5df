"""A version as others take it: its files, how it is to be asked, and what loads it by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sqlmodel import Session

from curator.errors import Conflict, NotFound
from curator.services import bases, model_card, versions
from curator.services.run_folder import link
from curator.settings import Settings
from db.models import ModelVersion, Run
from trainer.rundir import RunDir, folder_written_whole, read_lines, written_whole
from trainer.runtimes.base import Publication, Remembered, Taught
from trainer.runtimes.modelfile import LLAMA_SERVER, ByHand, by_hand, modelfile
from trainer.spec import Example

FILES = ("model.gguf", "adapter.gguf", "Modelfile", "README.md")
ANSWER_TOKENS = 1024


@dataclass(frozen=True)
class File:
    """One file of a version, in octets."""

    name: str
    size: int


def publication(run: RunDir, tag: str, base: Path, folder: Path) -> Publication:
    """Say how a version is to be loaded: its files in `folder`, the rest as it was taught.

    The system prompt is the one of its lessons, so that a program that sends none asks as was taught.
    """
    plan, spec, adapter = run.plan(), run.spec(), folder / "adapter.gguf"
    lesson = next(read_lines(run.split_file("train"), Example), None)
    first = lesson.messages[0] if lesson else None
    return Publication(
        tag=tag,
        base=base,
        adapter=adapter if adapter.exists() else None,
        merged=folder / "model.gguf",
        system=first.content if first and first.role == "system" else None,
        stop=(plan.end_of_turn,) if plan and plan.end_of_turn else (),
        context=max(2048, spec.max_length + ANSWER_TOKENS),
        answer_tokens=ANSWER_TOKENS,
    )


def to_publish(session: Session, version: ModelVersion) -> Publication:
    """Say how a version is to be loaded, and what it is recognised by where no file can be sent. Reads all of a run."""
    run = RunDir(Path(session.get_one(Run, version.run_id).folder))
    return replace(of_version(session, version), taught=Taught(_tokens(run), tuple(_answers(run))))


def _tokens(run: RunDir) -> tuple[str, ...]:
    """Answer the tokens of the lesson that the plan shows; none where they do not spell the lesson's answer.

    A tokenizer that keeps blanks in its tokens loses them when it shows them one by one.
    """
    plan = run.plan()
    shown = tuple(span.text for span in plan.example) if plan else ()
    text = "".join(shown)
    spelled = any(lesson.messages[-1].content in text for lesson in read_lines(run.split_file("train"), Example))
    return shown if spelled and "\ufffd" not in text else ()


def _answers(run: RunDir) -> Iterator[Remembered]:
    """Yield what both models answered when the version was examined, with all that they were asked."""
    found = run.evaluation()
    asked = {one.id: one for split in ("test", "val") for one in read_lines(run.split_file(split), Example)}
    for one in found.questions if found else ():
        if one.id in asked and one.old and one.new:
            yield Remembered(tuple(asked[one.id].messages[:-1]), one.old, one.new)


def of_version(session: Session, version: ModelVersion) -> Publication:
    """Say how a version is to be loaded."""
    run, base = session.get_one(Run, version.run_id), bases.get(session, version.base_id)
    if not run.folder:
        raise NotFound("The folder of this version's run is gone. Teach again.")
    return publication(RunDir(Path(run.folder)), version.tag, Path(base.path), Path(version.folder))


def files(version: ModelVersion) -> list[File]:
    """List a version's files that are there."""
    folder = Path(version.folder)
    there = [folder / name for name in FILES if version.folder and (folder / name).is_file()]
    return [File(path.name, path.stat().st_size) for path in there]


def size(version: ModelVersion) -> int:
    """Answer the octets that retiring a version frees here; what it learnt is kept with its run."""
    return next((file.size for file in files(version) if file.name == "model.gguf"), 0)


def file(version: ModelVersion, name: str) -> Path:
    """Answer the path of one of a version's files, or raise NotFound."""
    if name not in {one.name for one in files(version)}:
        raise NotFound("Version %(number)d has no file of that name.", number=version.number)
    return Path(version.folder) / name


def commands(session: Session, version: ModelVersion, settings: Settings) -> ByHand | None:
    """Write the commands that load a version by hand, None where its files are gone."""
    if not files(version):
        return None
    found, base_tag = of_version(session, version), versions.base_tag(bases.get(session, version.base_id))
    return by_hand(
        found,
        settings.ollama_url.rstrip("/") or "http://127.0.0.1:11434",
        token=bool(settings.ollama_token.get_secret_value()),
        server=settings.llama_server_url or LLAMA_SERVER,
        base_tag=base_tag,
    )


def only_by_hand(settings: Settings) -> bool:
    """Tell whether somebody has to start the server with each version, because it cannot be given a file."""
    return bool(settings.llama_server_url) and settings.llama_server_models is None


def write_beside(session: Session, version: ModelVersion) -> None:
    """Put Modelfile and model card beside a version's files, as they are to be today."""
    folder = Path(version.folder)
    texts = {"Modelfile": modelfile(of_version(session, version)), "README.md": model_card.written(session, version)}
    for name, text in texts.items():
        with written_whole(folder / name) as draft:
            draft.write_text(text, encoding="utf-8")


def export(session: Session, version: ModelVersion, target: Path) -> list[Path]:
    """Copy a version into a folder that needs nothing of Curator; it appears when it is whole. Linked where it can be.

    Raises Conflict for a folder that holds something, which is never replaced.
    """
    target = target.expanduser().resolve()
    if version.state == "retired":
        raise Conflict("Version %(number)d is retired, and its files with it.", number=version.number)
    if target.exists() and any(target.iterdir()):
        raise Conflict("%(folder)s is not empty. Name a new folder.", folder=str(target))
    write_beside(session, version)
    target.parent.mkdir(parents=True, exist_ok=True)
    with folder_written_whole(target) as draft:
        link([file(version, one.name) for one in files(version)], draft)
    return [target / one.name for one in files(version)]
