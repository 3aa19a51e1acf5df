"""Measure PEFT adapter → adapter GGUF and base + adapter → merged Q8_0, against a bare copy and a bare numpy loop;
and merging to K-quants against libggml's quantiser alone.

python bench/convert.py [--base FILE] [--rank 16] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

from trainer.ggml_types import BY_NAME
from trainer.gguf_check import GgufSummary, TensorInfo, check
from trainer.lora_gguf import convert_adapter
from trainer.merge_gguf import merge
from trainer.quantize import encode, fits, ggml

LAYERS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
K_QUANTS = ("Q4_K", "Q6_K")
ROUNDS = 3
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="a llama or qwen2 GGUF; the embedded base when left out")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    base = check(options.base or embedded_base(), whole=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapter = write_adapter(folder / "adapter", touched(base), options.rank)
        lora, merged = folder / "adapter.gguf", folder / "merged.gguf"
        convert_seconds, _ = best(lambda: convert_adapter(adapter, base, lora))
        copy_adapter, _ = best(lambda: copy(adapter / "adapter_model.safetensors", folder / "copy"))
        merge_seconds, merge_cpu = best(lambda: merge(base.path, lora, merged))
        copy_merged, _ = best(lambda: copy(merged, folder / "copy"))
        loop_seconds, loop_cpu = best(lambda: bare_loop(base.path, lora))
        report, peak = traced(lambda: merge(base.path, lora, merged))
        k_quants = {kind: k_quant(base, folder, kind, options.rank) for kind in K_QUANTS} if ggml() else {}
    weights = report.touched_weights
    largest = max(4 * tensor.rows * tensor.shape[0] for tensor in touched(base))
    assert report.types == {"Q8_0": report.touched}, report
    show("adapter to GGUF", convert_seconds, "s", "lower", 1.0, copy_adapter, options)
    show("merge to Q8_0", merge_seconds, "s", "lower", 4.0, copy_merged + loop_seconds, options)
    show("merge, weights/s/core", weights / merge_cpu / 1e6, "M/s", "higher", 60.0, weights / loop_cpu / 1e6, options)
    show("merge, peak memory", peak / largest, "tensors", "lower", 3.0, None, options)
    for kind, (share, speed, alone) in k_quants.items():
        show(f"merge to {kind}, weights/s/core", speed, "M/s", "higher", None, alone, options)
        show(f"merge to {kind}, libggml's share", share, "of it", "higher", None, None, options)


def k_quant(base: GgufSummary, folder: Path, kind: str, rank: int) -> tuple[float, float, float]:
    """Answer the share of a merge to a K-quant that libggml takes, and M weights/s/core of the merge and of it alone.

    Only tensors whose rows divide into the type's blocks are taught; of SmolLM2-135M these are the ffn_down.
    """
    tensors = [tensor for tensor in touched(base) if fits(BY_NAME[kind], tensor.shape[0])]
    weights = sum(tensor.rows * tensor.shape[0] for tensor in tensors) / 1e6
    adapter, lora = write_adapter(folder / f"adapter-{kind}", tensors, rank), folder / "k-adapter.gguf"
    convert_adapter(adapter, base, lora)
    _, merging = best(lambda: merge(base.path, lora, folder / "k.gguf", kind))
    names = {tensor.name for tensor in tensors}
    blocks = [dequantize(t.data, t.tensor_type) for t in GGUFReader(base.path).tensors if t.name in names]
    _, encoding = best(lambda: [encode(block, BY_NAME[kind]) for block in blocks])
    return encoding / merging, weights / merging, weights / encoding


def embedded_base() -> Path:
    given = os.environ.get("CURATOR_TEST_BASE")
    if given:
        return Path(given)
    from trainer.bases import fetch_embedded

    return fetch_embedded(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "curator-tests")


def touched(base: GgufSummary) -> list[TensorInfo]:
    return [tensor for tensor in base.tensors.values() if tensor.name.split(".")[-2] in LAYERS]


def write_adapter(folder: Path, taught: list[TensorInfo], rank: int) -> Path:
    """Write a made-up PEFT adapter on these tensors."""
    draw = np.random.default_rng(17)
    tensors: dict[str, np.ndarray] = {}
    for tensor in taught:
        _, block, layer, _ = tensor.name.split(".")
        stem = f"base_model.model.model.layers.{block}.{LAYERS[layer]}"
        tensors[f"{stem}.lora_A.weight"] = draw.standard_normal((rank, tensor.shape[0]), np.float32) * 0.02
        tensors[f"{stem}.lora_B.weight"] = draw.standard_normal((tensor.rows, rank), np.float32) * 0.02
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def copy(source: Path, target: Path) -> None:
    """Copy a file and see it onto the disk, as our own writers do."""
    with source.open("rb") as read, target.open("wb") as write:
        shutil.copyfileobj(read, write, 4 << 20)
        write.flush()
        os.fsync(write.fileno())


def bare_loop(base: Path, lora: Path) -> None:
    """Decode and encode the same tensors with numpy alone, whole tensors at once, writing nothing."""
    names = {tensor.name.removesuffix(".lora_a") for tensor in GGUFReader(lora).tensors}
    for tensor in GGUFReader(base).tensors:
        if tensor.name in names:
            quantize(dequantize(tensor.data, tensor.tensor_type), GGMLQuantizationType.Q8_0)


def best(work: Callable[[], object]) -> tuple[float, float]:
    """Answer the shortest of a few rounds: seconds on the clock, seconds of processor."""
    clock, processor = [], []
    for _ in range(ROUNDS):
        start, busy = time.perf_counter(), time.process_time()
        work()
        clock.append(time.perf_counter() - start)
        processor.append(time.process_time() - busy)
    return min(clock), min(processor)


def traced(work: Callable[[], T]) -> tuple[T, int]:
    """Answer a result and the most memory that Python and numpy held on the way to it."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def show(
    metric: str,
    value: float,
    unit: str,
    better: str,
    budget: float | None,
    floor: float | None,
    options: argparse.Namespace,
) -> None:
    if options.json:
        row = {"bench": "convert", "metric": metric, "value": round(value, 3), "unit": unit, "better": better}
        ratio = round(value / floor, 3) if floor else None
        print(json.dumps({**row, "budget": budget, "floor": round(floor, 3) if floor else None, "ratio": ratio}))
        return
    told = f"   budget {budget:,}" if budget else ""
    print(f"{metric:32} {value:12,.2f} {unit}{told}" + (f"   floor {floor:,.2f}" if floor else ""))


if __name__ == "__main__":
    main()
