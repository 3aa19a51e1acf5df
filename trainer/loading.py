"""Load a base's tokenizer and weights from its GGUF file, offline and without anybody's code.

transformers reads the file three times and builds the table of tensor names once per module, which
takes longer than a small run. Both are remembered while one file is loaded.
"""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: nothing here may reach a hub

import gguf
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from trainer.bases.folder import check_folder
from trainer.failures import TrainerFailure
from trainer.four_bits import hold_in_four_bits, require_four_bits
from trainer.gguf_check import check
from trainer.gguf_summary import GgufSummary
from trainer.recipe import Precision

if TYPE_CHECKING:
    from trainer.shards import Shards

transformers.logging.set_verbosity_error()  # pyright: ignore[reportAttributeAccessIssue] - a lazy module
transformers.logging.disable_progress_bar()  # pyright: ignore[reportAttributeAccessIssue] - the same


@dataclass(frozen=True)
class Base:
    """A base ready for work: what its file says, its tokenizer, its weights."""

    summary: GgufSummary
    tokenizer: PreTrainedTokenizerBase
    model: PreTrainedModel
    shards: Shards | None = None
    """How it is spread over several processes, if it is."""

    @property
    def precision(self) -> Precision:
        return "bfloat16" if self.model.dtype == torch.bfloat16 else "float32"


@functools.lru_cache(maxsize=1)
def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer and chat template of a GGUF file."""
    summary = check(path, whole=True)
    if summary.chat_template is None:
        raise TrainerFailure(
            "base",
            f"{path.name} has no chat template, so it was not made for conversations. Choose an instruct model.",
        )
    try:  # not by AutoTokenizer, which wants to know the architecture's configuration first
        return PreTrainedTokenizerFast.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except (ValueError, KeyError) as error:
        raise TrainerFailure(
            "base",
            f"{path.name} cannot be trained: the library transformers does not make its tokenizer from a GGUF file "
            f"({error}). Choose another base.",
        ) from error


@functools.lru_cache(maxsize=1)
def load_base(path: Path, precision: Precision = "float32", folder: Path | None = None, bits: int = 16) -> Base:
    """Load a base whole; its weights are dequantised, so what is trained on is what is served.

    With a full-precision `folder` the weights come from there; tokenizer and chat template stay the GGUF's. With 4
    `bits` the layers that hold most of them are rounded, to be taught where memory is short.
    """
    if bits == 4:
        require_four_bits()
    tokenizer, dtype = load_tokenizer(path), getattr(torch, precision)
    model = _from_folder(folder, path, dtype) if folder else _from_gguf(path, dtype)
    model.config.use_cache = False
    if bits == 4:
        hold_in_four_bits(model, dtype)
    _reader.cache_clear()  # its views of every token take more memory than a small model
    return Base(check(path, whole=True), tokenizer, model)


def _from_gguf(path: Path, dtype: torch.dtype) -> PreTrainedModel:
    with _loading(path):
        return AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=dtype, local_files_only=True, **_dequantised()
        )


def _from_folder(folder: Path, path: Path, dtype: torch.dtype) -> PreTrainedModel:
    check_folder(folder, check(path, whole=True))
    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True, use_safetensors=True)
    except (ValueError, KeyError, OSError) as error:
        raise TrainerFailure(
            "base",
            f"The full-precision folder of {path.name} cannot be loaded ({error}). Download it again, "
            "or take it off the base.",
        ) from error


def _dequantised() -> dict[str, Any]:  # Any: keyword arguments of from_pretrained
    """Ask for plain weights; transformers before 5.20 knows no other way and has no word for it."""
    try:
        from transformers import GgufConfig
    except ImportError:
        return {}
    return {"quantization_config": GgufConfig(dequantize=True)}


@contextmanager
def _loading(path: Path) -> Generator[None]:
    reader = _reader(str(path))
    names = functools.lru_cache(maxsize=8)(gguf.get_tensor_name_map)

    def same_file(asked: str | os.PathLike[str], *_args: object) -> gguf.GGUFReader:
        return reader if Path(asked).resolve() == path.resolve() else _reader(str(asked))

    try:
        with (
            mock.patch.object(gguf, "GGUFReader", same_file),
            mock.patch.object(gguf, "get_tensor_name_map", names),
            warnings.catch_warnings(),
        ):
            warnings.filterwarnings("ignore", category=FutureWarning)  # transformers warns of its own renames
            yield
    except (ValueError, KeyError, NotImplementedError) as error:
        raise TrainerFailure(
            "base",
            f"{path.name} cannot be trained: the library transformers does not read its architecture from a GGUF file "
            f"({error}). Add the model's full-precision folder to the base, or choose another base, for instance one "
            "of the Llama, Qwen or Gemma family.",
        ) from error


@functools.lru_cache(maxsize=1)
def _reader(path: str) -> gguf.GGUFReader:
    return gguf.GGUFReader(path)
