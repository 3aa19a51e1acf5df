"""Ask the base and the new model the same questions: in the embedded runtime on the files that will be served,
or in transformers where that runtime is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from peft import PeftModel

from trainer.data import Encoder
from trainer.gguf_check import check
from trainer.hardware import detect
from trainer.merge_gguf import unrounded
from trainer.peft_files import CannotConvert
from trainer.rundir import RunDir
from trainer.runtimes.base import ChatOptions, Publication
from trainer.runtimes.embedded import EmbeddedHost
from trainer.runtimes.llamacpp import LlamaCppRuntime
from trainer.spec import Message

OLD, NEW, MERGED, UNROUNDED = "old", "new", "merged", "unrounded"
SPARE = 1 << 30  # bytes left free on the disk and in memory


@dataclass(frozen=True)
class Answer:
    """A model's answer, and whether it ended by itself."""

    text: str
    stopped: bool


class Asker(Protocol):
    """Answers questions as the base (old) or as the new model."""

    def ask(self, which: str, messages: Sequence[Message], longest: int) -> Answer:
        """Answer one conversation in at most `longest` tokens, always taking the likeliest word."""
        ...


@dataclass(frozen=True)
class ServedAsker:
    """Asks the embedded runtime, where base and adapter are loaded as they will be served.

    `new` is the name that stands for the new model there. A merged file of few bits is another model than base and
    adapter, so it answers for itself.
    """

    runtime: LlamaCppRuntime
    new: str = NEW

    def ask(self, which: str, messages: Sequence[Message], longest: int) -> Answer:
        options, tag = ChatOptions(max_tokens=longest), self.new if which == NEW else which
        chunks = list(self.runtime.chat(tag, messages, options, side=0 if which == OLD else 1))
        return Answer("".join(chunk.text for chunk in chunks).strip(), chunks[-1].finish == "stop")


@dataclass(frozen=True)
class LocalAsker:
    """Asks the model that was trained, in this process."""

    model: PeftModel
    encoder: Encoder
    end: int

    @torch.no_grad()
    def ask(self, which: str, messages: Sequence[Message], longest: int) -> Answer:
        self.model.eval()
        ids = torch.tensor([self.encoder.prompt(messages)], device=self.model.device)
        without: Any = self.model.disable_adapter() if which == OLD else nullcontext()  # Any: two kinds of contexts
        with without:
            found: Any = self.model.generate(  # Any: transformers' own union of outputs
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=longest,
                do_sample=False,
                use_cache=True,
                eos_token_id=self.end,
                pad_token_id=self.end,
            )
        tokens: list[int] = found[0, ids.shape[1] :].tolist()
        stopped = bool(tokens) and tokens[-1] == self.end
        return Answer(str(self.encoder.tokenizer.decode(tokens, skip_special_tokens=True)).strip(), stopped)


def runtime_installed() -> bool:
    """Tell whether the embedded runtime can be used here."""
    return find_spec("xllamacpp") is not None


@contextmanager
def served(run: RunDir, context: int) -> Generator[LlamaCppRuntime]:
    """Serve base, base with adapter, and the merged file from a home of their own inside the run folder.

    Raises RuntimeFailure with a sentence. `context` in tokens.
    """
    base = run.base_gguf()
    with runtime_of_its_own(run.path, run.spec().threads) as runtime:
        # the adapter first: a later one would restart the process that serves the base
        runtime.publish(Publication(NEW, base, adapter=run.adapter_gguf, context=context), quiet)
        runtime.publish(Publication(OLD, base, context=context), quiet)
        runtime.publish(Publication(MERGED, base, merged=run.model_gguf, context=context), quiet)
        yield runtime


def serve_unrounded(runtime: LlamaCppRuntime, base: Path, context: int, adapter: Path | None = None) -> str | None:
    """Serve a base (with an adapter GGUF) with every weight in F32 as well, and answer the name it has.

    None where machine or disk have no room for it, or where a type can be copied but not decoded. The file lies in
    the runtime's passing home and goes with it. Raises RuntimeFailure.
    """
    free = min(detect().free_memory, shutil.disk_usage(runtime.home).free)
    if 4 * check(base, whole=True).parameters + SPARE > free:
        return None
    path = runtime.home / "unrounded.gguf"
    try:
        unrounded(base, path, adapter)
    except CannotConvert:
        return None
    runtime.publish(Publication(UNROUNDED, base, merged=path, context=context), quiet)
    return UNROUNDED


@contextmanager
def runtime_of_its_own(folder: Path, threads: int | None = None) -> Generator[LlamaCppRuntime]:
    """Run the embedded runtime from a home inside a folder, gone again afterwards. Raises RuntimeFailure."""
    home = folder / ".runtime"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    try:
        with EmbeddedHost(home, threads=detect(threads).threads):
            yield LlamaCppRuntime(home)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def quiet(_word: str, _share: float | None) -> None:
    """Report nothing; publishing here takes a second or two."""
