"""A runtime in memory for tests and demonstrations: same question, same answer, no waiting, no model."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from trainer.runtimes.base import (
    ChatOptions,
    Chunk,
    Progress,
    Publication,
    RuntimeFailure,
    RuntimeUnavailable,
    ServedModel,
    check_name,
    missing,
)
from trainer.spec import Message


@dataclass(frozen=True)
class Call:
    """One call that a fake runtime got."""

    method: str
    tag: str = ""
    publication: Publication | None = None
    messages: tuple[Message, ...] = ()
    options: ChatOptions | None = None
    side: int = 0


class FakeRuntime:
    """Answers from `answers` (by tag and question, by tag, or by question), else repeats the question.

    Set `fail_with` to make every call fail, `fail_only` to limit that to some tags, and `break_after` to make
    answers go silent after that many pieces, as a server that hangs does once the wait is over.
    `stopped` counts the answers that were closed before their end.
    """

    name = "fake"

    def __init__(self, answers: Mapping[str | tuple[str, str], str] | None = None) -> None:
        self.answers = dict(answers or {})
        self.served: dict[str, ServedModel] = {}
        self.publications: dict[str, Publication] = {}
        self.calls: list[Call] = []
        self.fail_with: RuntimeFailure | None = None
        self.fail_only: set[str] = set()
        self.break_after: int | None = None
        self.on_chunk: Callable[[Chunk], None] = lambda _chunk: None
        self.stopped = 0

    def version(self) -> str:
        self._called(Call("version"))
        return "1.0"

    def warnings(self) -> list[str]:
        return []

    def models(self) -> list[ServedModel]:
        self._called(Call("models"))
        return [self.served[tag] for tag in sorted(self.served)]

    def show(self, tag: str) -> ServedModel:
        self._called(Call("show", tag))
        return self._get(tag)

    def publish(self, publication: Publication, progress: Progress) -> ServedModel:
        tag = check_name(publication.tag)
        self._called(Call("publish", tag, publication))
        path = publication.merged or publication.adapter or publication.base
        size = path.stat().st_size if path.exists() else 0
        progress("uploading", 0.5)
        digest = hashlib.sha256(str(path).encode()).hexdigest()
        self.served[tag] = ServedModel(tag, size, digest, {"format": "gguf"})
        self.publications[tag] = publication
        progress("success", 1.0)
        return self.served[tag]

    def copy(self, source: str, destination: str) -> None:
        check_name(destination)
        self._called(Call("copy", source))
        self.served[destination] = replace(self._get(source), tag=destination)
        self.publications[destination] = self.publications[source]

    def remove(self, tag: str) -> None:
        self._called(Call("remove", tag))
        self._get(tag)
        del self.served[tag], self.publications[tag]

    def frees(self, besides: Collection[str] = ()) -> dict[str, int]:
        del besides
        return {}

    def chat(self, tag: str, messages: Sequence[Message], options: ChatOptions, side: int = 0) -> Generator[Chunk]:
        self._called(Call("chat", tag, None, tuple(messages), options, side))
        self._get(tag)
        words = re.findall(r"\s*\S+", self._answer(tag, messages[-1].content))
        finished = False
        try:
            for count, word in enumerate(words[: options.max_tokens]):
                if count == self.break_after:
                    raise RuntimeUnavailable("The model has been silent for 30 seconds. Ask again in a moment.")
                chunk = Chunk(word)
                self.on_chunk(chunk)
                yield chunk
            finished = True
            finish = "stop" if len(words) <= options.max_tokens else "length"
            yield Chunk("", finish, tokens=min(len(words), options.max_tokens), seconds=0.0)
        finally:
            self.stopped += not finished

    def _answer(self, tag: str, question: str) -> str:
        for key in ((tag, question), tag, question):
            if key in self.answers:
                return self.answers[key]
        return f"{tag} says: {question}"

    def _get(self, tag: str) -> ServedModel:
        if tag not in self.served:
            raise missing(tag, "The runtime")
        return self.served[tag]

    def _called(self, call: Call) -> None:
        self.calls.append(call)
        if self.fail_with and (not self.fail_only or call.tag in self.fail_only):
            raise self.fail_with
