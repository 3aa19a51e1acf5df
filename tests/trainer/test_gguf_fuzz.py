"""Files broken at any place, by a flip of any bit or a cut at any byte, are refused with a sentence or are harmless.

Never a crash, a hang, or memory that the file does not have itself; not in the check and not in what reads files
after it: merging into a broken base, merging a broken adapter, converting a broken PEFT folder.
"""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.test_gguf_check import SMALL
from tests.trainer.tiny import Shape, TinyAdapter, write_tiny_llama_gguf
from trainer.gguf_check import BadGguf, check
from trainer.lora_gguf import CannotConvert, convert_adapter
from trainer.merge_gguf import merge
from trainer.quantize import CannotEncode

MEMORY = 8 << 20  # bytes; the check reads 1 MB at a time, and merging these models takes 2
SECONDS = 2
REFUSALS = (BadGguf, CannotConvert, CannotEncode)
broken = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
flips = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=0, max_size=4)
cut = st.one_of(st.just(1.0), st.floats(0, 1))


def harmless(work) -> None:
    """Do something that may only succeed, or refuse with a sentence; soon, and with little memory."""
    started = time.monotonic()
    tracemalloc.start()
    try:
        work()
    except REFUSALS as refusal:
        assert str(refusal).endswith(".")
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MEMORY
    assert time.monotonic() - started < SECONDS


def spoil(path: Path, whole: bytes, within: int, flipped, share: float) -> None:
    """Write a file with bits flipped in its first `within` bytes, and cut after a share of it."""
    content = bytearray(whole)
    for place, bit in flipped:
        content[int(place * within)] ^= 1 << bit
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_a_header_with_any_one_byte_changed(mask, tmp_path):
    path = tmp_path / "flipped.gguf"
    for place in range(len(SMALL)):
        content = bytearray(SMALL)
        content[place] ^= mask
        path.write_bytes(content)
        harmless(lambda: check(path, finite=True))


@pytest.fixture
def files(tmp_path):
    """A base, its adapter as PEFT saves it and as GGUF; hypothesis gives each example the same ones."""
    base = tmp_path / "base.gguf"
    if not base.exists():
        write_tiny_llama_gguf(base)
        TinyAdapter(Shape(), modules=("self_attn.q_proj", "mlp.down_proj")).write(tmp_path / "peft")
        convert_adapter(tmp_path / "peft", check(base), tmp_path / "adapter.gguf")
    return tmp_path


@broken
@given(flipped=flips, share=cut)
def test_a_broken_adapter_merges_or_is_refused(flipped, share, files):
    whole = (files / "adapter.gguf").read_bytes()
    spoil(files / "broken.gguf", whole, check(files / "adapter.gguf").data_start, flipped, share)

    harmless(lambda: merge(files / "base.gguf", files / "broken.gguf", files / "merged.gguf"))

    assert not list(files.glob(".*"))


@broken
@given(flipped=flips, share=cut)
def test_a_broken_base_merges_or_is_refused(flipped, share, files):
    whole = (files / "base.gguf").read_bytes()
    spoil(files / "broken.gguf", whole, check(files / "base.gguf").data_start, flipped, share)

    harmless(lambda: merge(files / "broken.gguf", files / "adapter.gguf", files / "merged.gguf"))

    assert not list(files.glob(".*"))


@broken
@given(flipped=flips, share=cut, name=st.sampled_from(["adapter_config.json", "adapter_model.safetensors"]))
def test_a_broken_peft_folder_converts_or_is_refused(flipped, share, name, files):
    for file in (files / "peft").iterdir():
        (files / "folder").mkdir(exist_ok=True)
        whole = file.read_bytes()
        spoil(
            files / "folder" / file.name,
            whole,
            min(len(whole), 4096),
            *((flipped, share) if file.name == name else ([], 1.0)),
        )

    harmless(lambda: convert_adapter(files / "folder", check(files / "base.gguf"), files / "out.gguf"))
