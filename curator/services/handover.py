"""A version as others take it: its files, how it is to be asked, and what loads it by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from sqlmodel import Session

from curator.errors import Conflict, NotFound
from curator.services import bases, model_card, versions
from curator.services.run_folder import link
from curator.settings import Settings
from db.models import ModelVersion, Run
from trainer.gguf_check import BadGguf, check
from trainer.rundir import RunDir, folder_written_whole, read_lines, written_whole
from trainer.runtimes.base import Publication, Remembered, Taught
from trainer.runtimes.modelfile import ADAPTER_MODELFILE, LLAMA_SERVER, MODELFILE, ByHand, by_hand, modelfile
from trainer.runtimes.prompt import for_every_ollama
from trainer.spec import Example

FILES = ("model.gguf", "adapter.gguf", MODELFILE, ADAPTER_MODELFILE, "README.md")
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
    run = run_of(session, version)
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


def run_of(session: Session, version: ModelVersion) -> RunDir:
    """Answer the folder of the run that a version came from, or say that it is gone."""
    run = session.get_one(Run, version.run_id)
    if not run.folder:
        raise NotFound("The folder of this version's run is gone. Teach again.")
    return RunDir(Path(run.folder))


def of_version(session: Session, version: ModelVersion) -> Publication:
    """Say how a version is to be loaded."""
    base = bases.get(session, version.base_id)
    return publication(run_of(session, version), version.tag, Path(base.path), Path(version.folder))


def for_hands(session: Session, version: ModelVersion) -> Publication:
    """Say how a version is to be loaded by whoever has any Ollama, one that cannot read a GGUF's template included."""
    found, file = of_version(session, version), Path(version.folder) / "model.gguf"
    template = _template(file, file.stat().st_mtime_ns) if file.is_file() else None
    return for_every_ollama(found, template) if template else found


@lru_cache(maxsize=64)
def _template(file: Path, _changed: int) -> str | None:
    """Read a file's chat template, which takes a moment for a large vocabulary; remembered until the file changes."""
    try:
        return check(file).chat_template
    except BadGguf:
        return None


def on_base(session: Session, version: ModelVersion) -> Publication:
    """Say how a version is to be loaded as an adapter on the base that Curator puts into Ollama."""
    base = bases.get(session, version.base_id)
    return replace(of_version(session, version), on=versions.base_tag(base), base_sha256=base.sha256)


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
    return _by_hand(session, version, for_hands(session, version), settings) if files(version) else None


def adapter_commands(session: Session, version: ModelVersion, settings: Settings) -> ByHand | None:
    """Write those that load it as an adapter, None where nobody wishes that."""
    return _by_hand(session, version, on_base(session, version), settings) if _is_wished(version, settings) else None


def only_by_hand(settings: Settings) -> bool:
    """Tell whether somebody has to start the server with each version, because it cannot be given a file."""
    return bool(settings.llama_server_url) and settings.llama_server_models is None


def _is_wished(version: ModelVersion, settings: Settings) -> bool:
    """Tell whether a version is, or is to be, an adapter in Ollama, and can be one."""
    return "adapter" in (settings.ollama_form, version.form) and (Path(version.folder) / "adapter.gguf").is_file()


def _by_hand(session: Session, version: ModelVersion, found: Publication, settings: Settings) -> ByHand:
    return by_hand(
        found,
        settings.ollama_url.rstrip("/") or "http://127.0.0.1:11434",
        token=bool(settings.ollama_token.get_secret_value()),
        server=settings.llama_server_url or LLAMA_SERVER,
        base_tag=versions.base_tag(bases.get(session, version.base_id)),
    )


def write_beside(session: Session, version: ModelVersion, settings: Settings) -> None:
    """Put Modelfiles and model card beside a version's files, as they are to be today."""
    folder = Path(version.folder)
    texts = {MODELFILE: modelfile(for_hands(session, version)), "README.md": model_card.written(session, version)}
    if _is_wished(version, settings):
        texts[ADAPTER_MODELFILE] = modelfile(on_base(session, version))
    for name, text in texts.items():
        with written_whole(folder / name) as draft:
            draft.write_text(text, encoding="utf-8")


def export(session: Session, version: ModelVersion, target: Path, settings: Settings) -> list[Path]:
    """Copy a version into a folder that needs nothing of Curator; it appears when it is whole. Linked where it can be.

    Raises Conflict for a folder that holds something, which is never replaced.
    """
    target = target.expanduser().resolve()
    if version.state == "retired":
        raise Conflict("Version %(number)d is retired, and its files with it.", number=version.number)
    if target.exists() and any(target.iterdir()):
        raise Conflict("%(folder)s is not empty. Name a new folder.", folder=str(target))
    write_beside(session, version, settings)
    target.parent.mkdir(parents=True, exist_ok=True)
    with folder_written_whole(target) as draft:
        link([file(version, one.name) for one in files(version)], draft)
    return [target / one.name for one in files(version)]
