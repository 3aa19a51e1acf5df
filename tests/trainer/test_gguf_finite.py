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
from trainer.gguf_finite import OTHERS, PLAIN, SCALES
from trainer.quantize import can_decode

NAN = struct.pack("<e", float("nan"))
READ = [kind for kind in TENSOR_TYPES if can_decode(kind) and kind.name not in (*PLAIN, *OTHERS)]
INTEGERS = {"I8", "I16", "I32", "I64"}


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


def refused(name: str, block: bytes, path) -> bool:
    """Tell whether a tensor of two good blocks and this one is refused."""
    kind = BY_NAME[name]
    data = bytes(kind.size) * 2 + block
    path.write_bytes(craft(tensors=(("a", (kind.block * 3,), kind.number, 0),), data=data))
    try:
        check(path, finite=True)
    except BadGguf as refusal:
        assert "NaN or infinity) in a" in str(refusal)
        return True
    return False


def decoded(name: str, block: bytes) -> np.ndarray:
    with np.errstate(all="ignore"):
        return dequantize(np.frombuffer(block, np.uint8).reshape(1, -1), GGMLQuantizationType[name])


@pytest.mark.parametrize("others", [0, 0xFFF])  # the words' other bits are of no account
def test_a_scale_in_scattered_bits_is_put_together(others, tmp_path):
    """Every half-precision number as the scale of an IQ1_M block is refused exactly when its weights are none."""
    for number in [*range(0, 1 << 16, 129), 0x7BFF, 0x7C00, 0x7FFF, 0xFBFF, 0xFC00, 0xFFFF, 0x7800, 0x7400, 0x3C00]:
        words = [(number >> shift & 0xF) << 12 | others for shift in (0, 4, 8, 12)]
        block = bytes([1]) * 48 + struct.pack("<4H", *words)

        assert refused("IQ1_M", block, tmp_path / "some.gguf") is bool(not np.isfinite(decoded("IQ1_M", block)).all())


@pytest.mark.parametrize("nibbles", [0x77, 0xFF, 0x11])
def test_an_exponent_that_takes_weights_beyond_all_numbers_is_found(nibbles, tmp_path):
    for exponent in range(256):
        block = bytes([exponent]) + bytes([nibbles]) * 16
        found = refused("MXFP4", block, tmp_path / "some.gguf")

        assert found or np.isfinite(decoded("MXFP4", block)).all()
        assert found == (exponent >= 252)


def test_the_one_nan_of_small_scales_is_found_wherever_it_stands(tmp_path):
    import torch

    numbers = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn).float()
    for place in range(4):
        for scale in range(256):
            scales = bytearray(bytes(4))
            scales[place] = scale
            found = refused("NVFP4", bytes(scales) + bytes([0x77]) * 32, tmp_path / "some.gguf")

            assert found is bool(numbers[scale].isnan())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_doubles_are_looked_at_too(bad, tmp_path):
    assert refused("F64", struct.pack("<d", bad), tmp_path / "some.gguf")
    assert not refused("F64", struct.pack("<d", 1e308), tmp_path / "some.gguf")


def test_no_type_of_weights_is_passed_over():
    looked_at = {*PLAIN, *SCALES, *OTHERS}

    assert {kind.name for kind in TENSOR_TYPES} - INTEGERS == looked_at
