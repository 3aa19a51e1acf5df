"""Tell whether a llama.cpp server that somebody else started really serves what it is to serve.

A name proves nothing: an engineer types it. So the model's size is compared with the file's, its prompts and tokens
with those it was taught with, and its answers with those it gave when it was examined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trainer import net
from trainer.gguf_summary import GgufSummary
from trainer.runtimes.base import ChatOptions, Publication, Remembered, RuntimeFailure
from trainer.runtimes.prompt import asked_as_taught, with_system
from trainer.spec import Message

ASKED = 5  # answers are compared
TOKENS = 48  # of each


class Served(Protocol):
    """What is asked of the model behind a name."""

    def meta(self) -> net.Json:
        """Answer what the server says of its file; empty where it says nothing."""
        ...

    def prompt(self, messages: Sequence[Message]) -> str:
        """Answer the prompt that a chat becomes."""
        ...

    def pieces(self, text: str) -> list[bytes]:
        """Answer a text's tokens."""
        ...

    def answer(self, messages: Sequence[Message], options: ChatOptions) -> str:
        """Answer a chat in one piece."""
        ...


@dataclass(frozen=True)
class Recognised:
    """How it was recognised: answers compared, and those that were as they are to be."""

    asked: int
    alike: int


def recognise(served: Served, publication: Publication, file: GgufSummary, where: str) -> Recognised:
    """Raise RuntimeFailure, saying what is wrong, for a model that is not the publication's. `file` is the loaded one.

    What a server does not tell, and what the run does not know any more, is not compared.
    """
    _check_size(served.meta(), file, publication.tag, where)
    if file.chat_template and not asked_as_taught(
        publication,
        file.chat_template,
        lambda messages: served.prompt(with_system(messages, publication.system)),
    ):
        raise RuntimeFailure(
            f"{where} would put questions to {publication.tag!r} otherwise than it was taught. Start it without a chat "
            "template of its own, and with --jinja."
        )
    tokens = publication.taught.tokens
    if tokens and _texts(served.pieces("".join(tokens))) != list(tokens):
        raise RuntimeFailure(
            f"{where} splits text into other tokens than those {publication.tag!r} was taught with. Check which file "
            "it was started with."
        )
    return _check_answers(served.answer, publication, where)


def _check_size(meta: net.Json, file: GgufSummary, tag: str, where: str) -> None:
    ours = {"n_params": file.parameters, "size": sum(tensor.size for tensor in file.tensors.values())}
    if any(meta.get(name) not in (None, value) for name, value in ours.items()):
        raise RuntimeFailure(
            f"{where} serves another model under the name {tag!r}: it has {meta.get('n_params')} weights in "
            f"{meta.get('size')} bytes, and {file.path.name} has {ours['n_params']} in {ours['size']}. Check which "
            "file it was started with."
        )


def _check_answers(
    answer: Callable[[Sequence[Message], ChatOptions], str], found: Publication, where: str
) -> Recognised:
    telling = [one for one in found.taught.answers if one.old[:TOKENS] != one.new[:TOKENS]][:ASKED]
    options = ChatOptions(max_tokens=TOKENS, stop=found.stop)
    alike = sum(_is_new(answer(one.messages, options).strip(), one) for one in telling)
    if telling and alike * 2 <= len(telling):
        raise RuntimeFailure(
            f"{where} does not answer as {found.tag!r} did when it was examined: {alike} of {len(telling)} answers "
            "begin more like it than like the untaught base. Check which file it was started with."
        )
    return Recognised(len(telling), alike)


def _is_new(said: str, one: Remembered) -> bool:
    """Tell whether an answer begins more like the taught model's than like the untaught one's.

    Not word for word: another processor rounds otherwise, and then a long answer takes another turn somewhere.
    """
    return _shared(said, one.new) > _shared(said, one.old)


def _shared(one: str, other: str) -> int:
    """Count the letters with which two texts begin alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _texts(pieces: Sequence[bytes]) -> list[str]:
    """Put bytes together until they are letters, as a plan does with the tokens it shows."""
    texts: list[str] = []
    waiting = b""
    for piece in pieces:
        waiting += piece
        try:
            texts.append(waiting.decode())
        except UnicodeDecodeError:
            continue
        waiting = b""
    return texts
