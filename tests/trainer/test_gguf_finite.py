"""A weight that is no number is found in every type, by what the gguf package makes of the bytes."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from gguf import GGMLQuantizationType
from gguf.quants import dequantize

from tests.trainer.test_gguf_check import craft
from trainer.ggml_types import BY_NAME, TENSOR_TYPES
from trainer.gguf_check import BadGguf, check
from trainer.gguf_finite import PLAIN, SCALES
from trainer.quantize import can_decode

NAN = struct.pack("<e", float("nan"))
SPREAD = ("IQ1_M", "MXFP4")  # no half-precision scale: one of scattered bits, one of an exponent alone
READ = [kind for kind in TENSOR_TYPES if can_decode(kind) and kind.name not in (*PLAIN, *SPREAD)]


def spoilt(kind, place: int) -> bytes:
    """One block of ones with NaN at a place: with zeros, a scale of a scale would not show."""
    block = bytearray(np.full(kind.size, 1, np.uint8).tobytes())
    block[place : place + 2] = NAN
    return bytes(block)


@pytest.mark.parametrize("kind", READ, ids=lambda kind: kind.name)
def test_the_table_names_every_place_whose_nan_reaches_the_weights(kind):
    def reaches(place: int) -> bool:
        data = np.frombuffer(spoilt(kind, place), np.uint8).reshape(1, -1)
        with np.errstate(all="ignore"):
            return not np.isfinite(dequantize(data, GGMLQuantizationType(kind.number))).all()

    found = tuple(place for place in range(0, kind.size - 1, 2) if reaches(place))

    assert SCALES.get(kind.name, ()) == found


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_that_is_no_number_is_found_in_the_last_block_too(name, tmp_path):
    kind = BY_NAME[name]
    good = bytes(kind.size)
    for place in SCALES[name]:
        path = tmp_path / "some.gguf"
        path.write_bytes(
            craft(tensors=(("a", (kind.block * 3,), kind.number, 0),), data=good * 2 + spoilt(kind, place))
        )

        assert check(path)
        with pytest.raises(BadGguf, match=r"NaN or infinity.* in a"):
            check(path, finite=True)


def test_ordinary_scales_pass_and_a_file_of_many_pieces_is_read_to_its_end(tmp_path, monkeypatch):
    kind = BY_NAME["Q4_K"]
    monkeypatch.setattr("trainer.gguf_finite.CHUNK", 1000)  # six blocks and a bit
    blocks = bytes(kind.size) * 20
    path = tmp_path / "some.gguf"
    path.write_bytes(craft(tensors=(("a", (kind.block * 20,), kind.number, 0),), data=blocks))
    assert check(path, finite=True)

    path.write_bytes(
        craft(tensors=(("a", (kind.block * 20,), kind.number, 0),), data=blocks[: -kind.size] + spoilt(kind, 2))
    )
    with pytest.raises(BadGguf, match="NaN or infinity"):
        check(path, finite=True)
