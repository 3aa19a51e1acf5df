from __future__ import annotations

import struct
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainer.tiny import CHATML, write_tiny_llama_gguf
from trainer.ggml_types import TENSOR_TYPES
from trainer.gguf_check import BadGguf, GgufSummary, check

ARCHITECTURE = ("general.architecture", 8, b"\x05\0\0\0\0\0\0\0llama")
HUGE = 0xFFFF_FFFF_FFFF_FFFF


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def craft(
    entries: Sequence[tuple[str, int, bytes]] = (ARCHITECTURE,),
    tensors: Sequence[tuple[str, Sequence[int], int, int]] = (("a.weight", (4, 2), 0, 0),),
    data: bytes = bytes(64),
    magic: bytes = b"GGUF",
    version: bytes = b"\x03\0\0\0",
    tensor_count: int | None = None,
    entry_count: int | None = None,
) -> bytes:
    """Build a GGUF file in which anything can be wrong."""
    head = magic + version
    head += struct.pack("<Q", len(tensors) if tensor_count is None else tensor_count)
    head += struct.pack("<Q", len(entries) if entry_count is None else entry_count)
    for key, kind, value in entries:
        head += text(key) + struct.pack("<I", kind) + value
    for name, shape, kind, offset in tensors:
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    return head + bytes(-len(head) % 32) + data


@pytest.fixture
def checked(tmp_path):
    def write_and_check(content: bytes, **how: bool) -> GgufSummary:
        path = tmp_path / "some.gguf"
        path.write_bytes(content)
        return check(path, **how)

    return write_and_check


def test_the_summary_says_what_the_file_says(tmp_path):
    summary = check(write_tiny_llama_gguf(tmp_path / "base.gguf", alignment=64), whole=True, finite=True)

    assert (summary.architecture, summary.general_type, summary.name) == ("llama", "model", "Tiny")
    assert (summary.block_count, summary.head_count, summary.head_count_kv) == (2, 4, 2)
    assert (summary.file_type, summary.alignment, summary.context_length) == (0, 64, 1024)
    assert summary.chat_template == CHATML
    assert summary.tied
    assert summary.split_count == 1


def test_an_untied_model_is_known_by_its_output_layer(tmp_path):
    assert not check(write_tiny_llama_gguf(tmp_path / "base.gguf", tied=False)).tied


def test_tensors_lie_where_the_gguf_package_finds_them(tmp_path):
    path = write_tiny_llama_gguf(tmp_path / "base.gguf", tensor_type="Q4_1")

    tensors = check(path).tensors

    theirs = gguf.GGUFReader(path).tensors
    assert [(t.name, t.shape, t.type.name, t.start, t.size) for t in tensors.values()] == [
        (t.name, tuple(t.shape.tolist()), t.tensor_type.name, t.data_offset, t.n_bytes) for t in theirs
    ]


def test_the_type_table_is_the_gguf_packages():
    theirs = {t.value: (t.name, *gguf.GGML_QUANT_SIZES[t]) for t in gguf.GGMLQuantizationType}
    ours = {kind.number: tuple(kind[1:]) for kind in TENSOR_TYPES}

    assert ours == {number: row for number, row in theirs.items() if row[0] not in ("Q8_1", "Q8_K")}


def test_checking_needs_no_numpy():
    code = "import sys, trainer.gguf_check; sys.exit('numpy' in sys.modules or 'gguf' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - our own code


TWO = (("a.weight", (4, 2), 0, 0), ("b.weight", (4, 2), 0, 32))
REFUSED = {
    "empty": (b"", "is empty"),
    "two bytes": (b"GG", "not a GGUF file"),
    "text": (b"Hello, this is a readme.", "not a GGUF file"),
    "safetensors": (b"\x40\0\0\0\0\0\0\0{}", "not a GGUF file"),
    "magic only": (b"GGUF", "cut short"),
    "big-endian": (craft(version=b"\0\0\0\x03"), "big-endian"),
    "version 1": (craft(version=b"\x01\0\0\0"), "version 1"),
    "version 4": (craft(version=b"\x04\0\0\0"), "version 4"),
    "endless tensors": (craft(tensor_count=HUGE), "more than any model has"),
    "endless settings": (craft(entry_count=1 << 40), "more than any model has"),
    "too many tensors": (craft(tensor_count=1000), "too short to hold them"),
    "too many settings": (craft(entry_count=1000), "too short to hold them"),
    "no weights": (craft(tensors=()), "no weights"),
    "no architecture": (craft(entries=()), "architecture"),
    "architecture no text": (craft(entries=(("general.architecture", 4, bytes(4)),)), "architecture"),
    "setting twice": (craft(entries=(ARCHITECTURE, ARCHITECTURE)), "twice"),
    "setting without name": (craft(entries=(ARCHITECTURE, ("", 4, bytes(4)))), "0 bytes long"),
    "setting of unknown type": (craft(entries=(ARCHITECTURE, ("x", 13, bytes(8)))), "unknown type 13"),
    "text too long": (craft(entries=(ARCHITECTURE, ("x", 8, struct.pack("<Q", HUGE)))), "bytes long"),
    "text past the end": (craft(entries=(ARCHITECTURE, ("x", 8, struct.pack("<Q", 1 << 20)))), "cut short"),
    "text no text": (craft(entries=(ARCHITECTURE, ("x", 8, struct.pack("<Q", 2) + b"\xff\xfe"))), "not readable"),
    "list too long": (craft(entries=(ARCHITECTURE, ("x", 9, struct.pack("<IQ", 0, HUGE)))), "more than"),
    "list past the end": (craft(entries=(ARCHITECTURE, ("x", 9, struct.pack("<IQ", 12, 1 << 20)))), "cut short"),
    "list of lists": (craft(entries=(ARCHITECTURE, ("x", 9, struct.pack("<IQ", 9, 1)))), "unknown type 9"),
    "list of huge texts": (craft(entries=(ARCHITECTURE, ("x", 9, struct.pack("<IQQ", 8, 1, HUGE)))), "cut short"),
    "alignment 0": (craft(entries=(ARCHITECTURE, ("general.alignment", 4, bytes(4)))), "alignment"),
    "alignment true": (craft(entries=(ARCHITECTURE, ("general.alignment", 7, b"\x01"))), "alignment"),
    "alignment 24": (craft(entries=(ARCHITECTURE, ("general.alignment", 4, b"\x18\0\0\0"))), "alignment"),
    "alignment 2^30": (craft(entries=(ARCHITECTURE, ("general.alignment", 4, b"\0\0\0\x40"))), "alignment"),
    "tensor twice": (craft(tensors=(TWO[0], TWO[0])), "twice"),
    "name too long": (craft(tensors=(("n" * 64, (4, 2), 0, 0),)), "64 bytes long"),
    "no dimensions": (craft(tensors=(("a", (), 0, 0),)), "0 dimensions"),
    "five dimensions": (craft(tensors=(("a", (1, 1, 1, 1, 1), 0, 0),)), "5 dimensions"),
    "dimension 0": (craft(tensors=(("a", (4, 0), 0, 0),)), "shape"),
    "overflowing shape": (craft(tensors=(("a", (1 << 32, 1 << 32), 0, 0),)), "impossible shape"),
    "unknown tensor type": (craft(tensors=(("a", (32, 2), 4, 0),)), "unknown type 4"),
    "row no multiple of the block": (craft(tensors=(("a", (33, 2), 8, 0),)), "cannot have the shape"),
    "offset not aligned": (craft(tensors=(TWO[0], ("b", (4, 2), 0, 33))), "lies at 33"),
    "tensors overlap": (craft(tensors=(TWO[0], ("b", (4, 2), 0, 0))), "lies at 0"),
    "gap between tensors": (craft(tensors=(TWO[0], ("b", (4, 2), 0, 64))), "lies at 64"),
    "data past the end": (craft(tensors=(("a", (4, 5), 0, 0),)), "cut short"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_file_is_refused_with_a_sentence_quickly_and_without_memory(case, checked):
    content, words = REFUSED[case]
    started = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(BadGguf) as refusal:
            checked(content)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert time.monotonic() - started < 1
    assert peak < 4 << 20
    sentence = str(refusal.value)
    assert words in sentence
    assert sentence.startswith("some.gguf ")
    assert sentence.endswith(".")


def test_the_crafted_file_itself_is_fine(checked):
    summary = checked(craft(tensors=TWO))

    assert list(summary.tensors) == ["a.weight", "b.weight"]


def test_a_folder_a_pipe_and_a_missing_file_are_refused(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe")
    for name, words in (("", "not a file"), ("pipe", "not a file"), ("missing.gguf", "no file missing.gguf")):
        with pytest.raises(BadGguf, match=words):
            check(tmp_path / name)


def test_a_part_of_a_split_model_is_refused_where_asked(checked):
    content = craft(entries=(ARCHITECTURE, ("split.count", 2, b"\x03\0")))

    assert checked(content).split_count == 3
    with pytest.raises(BadGguf, match="split into 3 files"):
        checked(content, whole=True)


@pytest.mark.parametrize(
    ("kind", "weight"),
    [
        (0, struct.pack("<f", float("nan"))),
        (0, struct.pack("<f", float("-inf"))),
        (1, struct.pack("<e", float("inf"))),
        (30, b"\xc0\x7f"),  # BF16 NaN
    ],
)
def test_weights_that_are_no_numbers_are_found_where_asked(kind, weight, checked):
    content = craft(tensors=(("a", (2,), kind, 0),), data=weight[: len(weight)].rjust(2 * len(weight), b"\0"))

    assert checked(content)
    with pytest.raises(BadGguf, match="NaN or infinity"):
        checked(content, finite=True)


def test_large_but_ordinary_weights_pass(checked):
    assert checked(craft(tensors=(("a", (2,), 0, 0),), data=np.float32([3e38, -3e38]).tobytes()), finite=True)
    assert checked(craft(tensors=(("a", (2,), 1, 0),), data=np.float16([65504, -65504]).tobytes()), finite=True)


SMALL = craft(
    entries=(
        ARCHITECTURE,
        ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("bc")),
        ("scores", 9, struct.pack("<IQ2f", 6, 2, 0.5, 1.5)),
        ("llama.block_count", 4, b"\x01\0\0\0"),
    ),
    tensors=TWO,
)


def test_a_file_cut_at_any_byte_is_refused(checked):
    for length in range(len(SMALL)):
        with pytest.raises(BadGguf):
            checked(SMALL[:length])
    assert checked(SMALL)


def only_refused_or_read(path: Path) -> None:
    started = time.monotonic()
    try:
        summary = check(path, finite=True)
    except BadGguf:
        pass
    else:
        assert all(tensor.start + tensor.size <= summary.size for tensor in summary.tensors.values())
    assert time.monotonic() - started < 2


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(flips=st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_flipped_bytes_are_refused_or_harmless(flips, tmp_path):
    content = bytearray(SMALL)
    for place, value in flips:
        content[place] = value
    path = tmp_path / "flipped.gguf"
    path.write_bytes(content)

    only_refused_or_read(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_real_file_cut_or_flipped_anywhere_is_refused_or_harmless(data, tmp_path):
    whole = tmp_path / "base.gguf"
    if not whole.exists():
        write_tiny_llama_gguf(whole)
    content = bytearray(whole.read_bytes())
    header = check(whole).data_start
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, header - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path / "broken.gguf"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])

    only_refused_or_read(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=400))
def test_any_bytes_after_the_magic_are_refused_or_harmless(tail, tmp_path):
    path = tmp_path / "noise.gguf"
    path.write_bytes(b"GGUF\x03\0\0\0" + tail)

    only_refused_or_read(path)
