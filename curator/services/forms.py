"""As what a version goes into a runtime: one merged file, or an adapter on top of its base where that is wished.

A wish keeps no version back: where an adapter cannot be put there, the merged file is, and the reason is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from curator.errors import CuratorError, Invalid
from curator.services import versions
from curator.settings import Settings
from db.models import Base
from trainer.rundir import RunDir
from trainer.runtimes import ollama_versions
from trainer.runtimes.base import (
    ChatOptions,
    ModelMissing,
    Progress,
    Publication,
    Runtime,
    RuntimeFailure,
    RuntimeUnavailable,
)
from trainer.spec import Message

Form = Literal["merged", "adapter"]
Talk = Sequence[Message]

SMOKE_TALK = (Message(role="user", content="Hello! Who are you?"),)
SMOKE_TOKENS = 24
TALKS, TALK_TOKENS = 3, 48
FELL_BACK = "It is loaded as one merged file, because it could not be loaded as an adapter: %(reason)s"
OUTDATED = (
    "Ollama %(ollama)s takes no adapters any more. This version, which is one, still answers. Load it again, under "
    "“Details”, and it becomes one merged file."
)


@dataclass(frozen=True)
class Loaded:
    """As what a version was loaded, and what people should know about that; mostly nothing."""

    form: Form
    note: str = ""


def wishes(publication: Publication, base: Base, runtime: Runtime, settings: Settings) -> list[Publication]:
    """List what to try, the best first. The merged file comes last: every runtime takes it.

    A base that came from an Ollama may be there under its own name, which then takes up nothing more.
    """
    if runtime.name != "ollama" or settings.ollama_form != "adapter":
        return [publication]
    names = [*([base.origin] if base.source == "ollama" else []), versions.base_tag(base)]
    return [*(replace(publication, on=name, base_sha256=base.sha256) for name in names), publication]


def load(
    runtime: Runtime, tries: Sequence[Publication], run: RunDir, progress: Progress, *, last_try: bool = False
) -> Loaded:
    """Load a version as the first of these that works, and answer as what. `run` is the one it came from.

    A runtime that goes away meanwhile raises RuntimeUnavailable, so that the same is tried again later; but on the
    last try it may be the adapter that it goes away of.
    """
    *adapters, merged = tries
    reason, talks = "", learnt(run) if adapters else []
    for publication in adapters:
        try:
            runtime.publish(publication, progress)
            _check_adapter(runtime, publication, talks)
        except (RuntimeFailure, CuratorError) as failure:
            if isinstance(failure, RuntimeUnavailable) and not last_try:
                raise
            reason = str(failure)
        else:
            return Loaded("adapter")
    runtime.publish(merged, progress)
    smoke(runtime, merged.tag)
    return Loaded("merged", FELL_BACK % {"reason": reason} if reason else "")


def smoke(runtime: Runtime, tag: str) -> str:
    """Ask a model one thing and answer what it said; saying nothing is a failure."""
    said = _said(runtime, tag, SMOKE_TALK, SMOKE_TOKENS)
    if not said.strip():
        raise Invalid("%(tag)s was loaded but says nothing. It stays unpublished; teach again.", tag=tag)
    return said


def learnt(run: RunDir) -> Sequence[Talk]:
    """List a few conversations to which the taught model gives another answer than its base, by its evaluation."""
    evaluation = run.evaluation()
    answered = evaluation.questions if evaluation else []
    changed = {one.id for one in answered if one.old and one.new and one.old != one.new}
    return [example.messages[:-1] for example in run.examples("test") if example.id in changed][:TALKS]


def outdated(form: str, ollama: str) -> str:
    """Say what to do about a version whose form its Ollama takes no more; empty where nothing is."""
    return OUTDATED % {"ollama": ollama} if form == "adapter" and ollama_versions.lost_adapters(ollama) else ""


def _check_adapter(runtime: Runtime, publication: Publication, talks: Sequence[Talk]) -> None:
    """Ask what was loaded as an adapter, and its base, what was taught: an adapter may be passed over without a word.

    All of one before all of the other, because they take turns in one place in memory.
    """
    try:
        smoke(runtime, publication.tag)
        new = [_said(runtime, publication.tag, talk, TALK_TOKENS) for talk in talks]
        old = [_said(runtime, publication.on, talk, TALK_TOKENS) for talk in talks]
        if talks and new == old:
            raise RuntimeFailure("With it, Ollama answers just as with the base alone.")
    except RuntimeUnavailable:
        raise
    except (RuntimeFailure, CuratorError):
        with suppress(ModelMissing):
            runtime.remove(publication.tag)  # nobody is to be answered by it
        raise


def _said(runtime: Runtime, tag: str, talk: Talk, tokens: int) -> str:
    return "".join(chunk.text for chunk in runtime.chat(tag, talk, ChatOptions(max_tokens=tokens)))
