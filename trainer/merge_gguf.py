"""Merge an adapter into its base GGUF, tensor by tensor.

Only the tensors that LoRA touched are decoded, changed and encoded. All others, and all settings including the
tokenizer and the chat template, are copied byte for byte, so nothing can drift between training and serving.
A few rows at a time go through memory, so it stays far below one tensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Set
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from gguf import LlamaFileType
from numpy.typing import NDArray

from trainer.adapter_pairs import Halves, adapter_pairs
from trainer.ggml_types import BY_NAME, TensorType
from trainer.gguf_check import check
from trainer.gguf_summary import GgufSummary, TensorInfo
from trainer.gguf_write import NewTensor, Piece, padding, setting, write_header, write_tensor
from trainer.lora_gguf import CannotConvert, Pair, checked_metadata, convert_adapter
from trainer.quantize import can_decode, check_can_encode, decode, encode, fits, type_named
from trainer.rundir import written_whole

# Weights decoded at once. They stay in the processor's cache, and the product B·A stays below the size from which
# OpenBLAS wakes all its threads (m·n·k = 2^18): on busy cores that made merging ten times slower.
AT_ONCE = 1 << 14
PRODUCT_AT_ONCE = 1 << 18
COPY_AT_ONCE = 1 << 20  # bytes
SAME = "same"
BASE_KEY = "curator.base_sha256"

FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "BF16": LlamaFileType.MOSTLY_BF16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": LlamaFileType.MOSTLY_Q4_1,
    "Q5_0": LlamaFileType.MOSTLY_Q5_0,
    "Q5_1": LlamaFileType.MOSTLY_Q5_1,
    "Q2_K": LlamaFileType.MOSTLY_Q2_K,
    "Q3_K": LlamaFileType.MOSTLY_Q3_K_M,
    "Q4_K": LlamaFileType.MOSTLY_Q4_K_M,
    "Q5_K": LlamaFileType.MOSTLY_Q5_K_M,
    "Q6_K": LlamaFileType.MOSTLY_Q6_K,
    "IQ4_NL": LlamaFileType.MOSTLY_IQ4_NL,
    "IQ4_XS": LlamaFileType.MOSTLY_IQ4_XS,
}

# What takes the place of a type where rows do not divide by 256, as in llama.cpp's llama-quant.cpp.
SMALLER_BLOCKS = {
    "Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "IQ4_XS": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0",
}  # fmt: skip


@dataclass(frozen=True)
class MergeReport:
    """What a merge did."""

    touched: int
    copied: int
    touched_weights: int
    types: Mapping[str, int]  # type name → touched tensors now of that type
    fell_back: tuple[str, ...]  # tensors of another type because their rows do not divide into its blocks
    size: int  # bytes of the merged file


@dataclass(frozen=True)
class Planned:
    """A merged file that can be measured before it is written, and without writing it."""

    base: GgufSummary
    adapter: Path
    halves: Mapping[str, Halves]
    tensors: Mapping[str, NewTensor]
    settings: list[bytes]
    fell_back: tuple[str, ...]  # as in MergeReport

    @property
    def types(self) -> Counter[str]:
        """Count the touched tensors by the type they are to have."""
        return Counter(self.tensors[name].type.name for name in self.halves)

    @property
    def type(self) -> str:
        """Answer the type that most of the touched weights are to have."""
        weights = Counter[str]()
        for name in self.halves:
            weights[self.tensors[name].type.name] += prod(self.tensors[name].shape)
        return weights.most_common(1)[0][0]

    @property
    def size(self) -> int:
        """Answer the bytes that the file will have."""
        header = BytesIO()
        write_header(header, self.settings, list(self.tensors.values()), self.base.version, self.base.alignment)
        sizes = [tensor.size for tensor in self.tensors.values()]
        return header.tell() + sum(size + padding(size, self.base.alignment) for size in sizes)

    def weights(self, name: str) -> NDArray[np.float32]:
        """Answer a touched tensor (rows, width) as whoever reads the file will find it, rounding included."""
        tensor, kind = self.base.tensors[name], self.tensors[name].type
        with self.base.path.open("rb") as source, self.adapter.open("rb") as updates:
            pair = _load(updates, name, self.halves[name])
            pieces = [np.frombuffer(piece, np.uint8) for piece in _merged(source, tensor, pair, kind)]
        return decode(np.concatenate(pieces).reshape(tensor.rows, -1), kind)


def plan(base: GgufSummary, adapter: Path, merged_type: str, metadata: Mapping[str, str] | None = None) -> Planned:
    """Decide all of a merged file before a byte is written; `adapter` is a GGUF file, all else as in `merge`."""
    metadata = checked_metadata(metadata)
    lora = check(adapter, finite=True)
    trained_on = lora.text(BASE_KEY)
    if trained_on and metadata.get(BASE_KEY, trained_on) != trained_on:
        raise CannotConvert("The adapter was trained on another base. Choose that one.")
    halves = adapter_pairs(lora, base)
    tensors, fell_back = _plan(base, set(halves), merged_type)
    return Planned(base, adapter, halves, tensors, _settings(base, tensors, metadata), fell_back)


def merge(
    base_path: Path,
    adapter: Path,
    out: Path,
    merged_type: str = "Q8_0",
    metadata: Mapping[str, str] | None = None,
) -> MergeReport:
    """Write base + adapter as one model that needs no adapter.

    `adapter` is an adapter GGUF or a PEFT folder. `merged_type` is the type of the touched tensors: a name such
    as "Q8_0" or "F16", or "same" for the type each has in the base. `metadata` may hold general.name and
    curator.* texts. Raises BadGguf, CannotConvert or CannotEncode with a sentence; whatever goes wrong, a full
    disk included, no half file stays.
    """
    base = check(base_path, whole=True)
    if out.exists() and out.samefile(base_path):
        raise CannotConvert("The merged model would overwrite its base. Choose another name for it.")
    with _as_gguf(adapter, base, out.parent) as adapter_gguf:
        planned = plan(base, adapter_gguf, merged_type, metadata)
        halves = planned.halves
        _write(out, base, planned.tensors, planned.settings, adapter_gguf, halves)
    return MergeReport(
        touched=len(halves),
        copied=len(base.tensors) - len(halves),
        touched_weights=sum(base.tensors[name].rows * base.tensors[name].shape[0] for name in halves),
        types=dict(planned.types),
        fell_back=planned.fell_back,
        size=planned.size,
    )


def unrounded(base_path: Path, out: Path, adapter: Path | None = None) -> None:
    """Write base (+ adapter GGUF) with every weight in F32, for comparing and not for serving.

    A runtime that gets only F32 rounds nothing that matters, so whatever then differs from training is a mistake.
    Raises as `merge` does.
    """
    base = check(base_path, whole=True)
    halves = adapter_pairs(check(adapter, finite=True), base) if adapter else {}
    planned, _ = _plan(base, set(base.tensors), "F32")
    _write(out, base, planned, _settings(base, planned, {}), adapter, halves)


@contextmanager
def _as_gguf(adapter: Path, base: GgufSummary, beside: Path) -> Generator[Path]:
    """Yield the adapter as a GGUF file; a PEFT folder is converted into a passing one."""
    if not adapter.is_dir():
        yield adapter
        return
    with TemporaryDirectory(dir=beside, prefix=".merge-") as folder:
        converted = Path(folder) / "adapter.gguf"
        convert_adapter(adapter, base, converted)
        yield converted


def _plan(base: GgufSummary, changed: Set[str], merged_type: str) -> tuple[dict[str, NewTensor], tuple[str, ...]]:
    """Decide every tensor's new type; refuse what cannot be read or written before a byte is written."""
    planned: dict[str, NewTensor] = {}
    fell_back: list[str] = []
    for tensor in base.tensors.values():
        kind = tensor.type
        if tensor.name in changed:
            if not can_decode(kind):
                raise CannotConvert(f"{tensor.name} of the base is of type {kind.name}, which cannot be changed.")
            kind = kind if merged_type == SAME else type_named(merged_type)
            check_can_encode(kind)
            if not fits(kind, tensor.shape[0]):
                fell_back.append(tensor.name)
            while not fits(kind, tensor.shape[0]):
                kind = BY_NAME[SMALLER_BLOCKS.get(kind.name, "F16")]
        planned[tensor.name] = NewTensor(tensor.name, tensor.shape, kind)
    return planned, tuple(fell_back)


def _settings(base: GgufSummary, planned: Mapping[str, NewTensor], metadata: Mapping[str, str]) -> list[bytes]:
    """Carry the base's settings over byte for byte, replace only those that became untrue, and add ours."""
    new = {key: setting(key, value) for key, value in metadata.items()}
    kinds = Counter[str]()
    for name, tensor in planned.items():
        if len(tensor.shape) > 1:
            kinds[tensor.type.name] += base.tensors[name].rows * tensor.shape[0]
    changed = {tensor.type.name for name, tensor in planned.items() if tensor.type != base.tensors[name].type}
    most = kinds.most_common(1)[0][0] if kinds else ""
    if most in changed:
        new["general.file_type"] = setting("general.file_type", int(FILE_TYPES[most]))
    if changed - {"F32", "F16", "BF16"} and "general.quantization_version" not in base.entries:
        new["general.quantization_version"] = setting("general.quantization_version", 2)
    with base.path.open("rb") as file:
        settings: list[bytes] = []
        for key, (start, end) in base.entries.items():
            file.seek(start)
            old = file.read(end - start)
            settings.append(new.pop(key, old))
    return [*settings, *new.values()]


def _write(
    out: Path,
    base: GgufSummary,
    planned: Mapping[str, NewTensor],
    settings: list[bytes],
    adapter: Path | None,
    halves: Mapping[str, Halves],
) -> None:
    """Write the planned file; what keeps its type and has no update is copied."""
    with (
        written_whole(out) as draft,
        draft.open("wb") as file,
        base.path.open("rb") as source,
        adapter.open("rb") if adapter else nullcontext() as updates,
    ):
        write_header(file, settings, list(planned.values()), base.version, base.alignment)
        for tensor in base.tensors.values():
            kind, pair = planned[tensor.name].type, None
            if updates and tensor.name in halves:
                pair = _load(updates, tensor.name, halves[tensor.name])
            copied = pair is None and kind == tensor.type
            pieces = _copied(source, tensor) if copied else _merged(source, tensor, pair, kind)
            write_tensor(file, planned[tensor.name], pieces, base.alignment)


def _load(file: BufferedReader, name: str, halves: Halves) -> Pair:
    def read(tensor: TensorInfo) -> NDArray[np.float32]:
        file.seek(tensor.start)
        return decode(_rows(file, tensor, tensor.rows), tensor.type).reshape(tensor.shape[::-1])

    return Pair(name, read(halves.a), read(halves.b), halves.scale)


def _rows(file: BufferedReader, tensor: TensorInfo, count: int) -> NDArray[np.uint8]:
    """Read the next `count` rows as bytes (count, bytes a row)."""
    data = np.empty((count, tensor.type.row_bytes(tensor.shape[0])), np.uint8)
    if file.readinto(data.data) != data.nbytes:
        raise CannotConvert(f"The base became shorter while {tensor.name} was read. Copy it again.")
    return data


def _merged(source: BufferedReader, tensor: TensorInfo, pair: Pair | None, kind: TensorType) -> Iterator[Piece]:
    """Decode, add scale · B·A where there is a pair, and encode, a few rows at a time."""
    source.seek(tensor.start)
    a = pair.a * np.float32(pair.scale) if pair else None
    step = max(1, min(AT_ONCE, PRODUCT_AT_ONCE // (len(a) if a is not None else 1)) // tensor.shape[0])
    for start in range(0, tensor.rows, step):
        weights = decode(_rows(source, tensor, min(step, tensor.rows - start)), tensor.type)
        if pair and a is not None:
            np.add(weights, pair.b[start : start + step] @ a, out=weights)
        data = encode(weights, kind)
        if kind.name == "F16" and not np.isfinite(data.view(np.float16)).all():
            raise CannotConvert(f"The merged weights of {tensor.name} are too large for F16. Choose Q8_0.")
        yield data.data


def _copied(source: BufferedReader, tensor: TensorInfo) -> Iterator[Piece]:
    source.seek(tensor.start)
    left = tensor.size
    while left:
        piece = source.read(min(COPY_AT_ONCE, left))
        if not piece:
            raise CannotConvert(f"The base became shorter while {tensor.name} was read. Copy it again.")
        left -= len(piece)
        yield piece
