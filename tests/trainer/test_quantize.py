from __future__ import annotations

import gguf
import numpy as np
import pytest

from trainer import quantize
from trainer.ggml_types import BY_NAME, TENSOR_TYPES
from trainer.quantize import CODERS, CannotEncode, can_decode, check_can_encode, decode, encode, fits, type_named

# Relative error on normal weights: measured, plus a margin of a fifth.
ERRORS = {
    "F32": 0.0,
    "F16": 0.0003,
    "BF16": 0.002,
    "Q8_0": 0.0065,
    "Q5_0": 0.052,
    "Q5_1": 0.046,
    "Q4_0": 0.104,
    "Q4_1": 0.094,
    "Q2_K": 0.36,
    "Q3_K": 0.18,
    "Q4_K": 0.086,
    "Q5_K": 0.044,
    "Q6_K": 0.0215,
    "IQ4_NL": 0.092,
    "IQ4_XS": 0.093,
}
needs_ggml = pytest.mark.skipif(quantize.ggml() is None, reason="libggml-python is not installed")


@pytest.fixture
def weights():
    return np.random.default_rng(3).standard_normal((24, 512)).astype(np.float32)


def named(coder: str) -> list[str]:
    return [name for name, used in CODERS.items() if used == coder]


@pytest.mark.parametrize("name", [*named("gguf"), *(pytest.param(n, marks=needs_ggml) for n in named("ggml"))])
def test_weights_come_back_within_the_types_error(name, weights):
    kind = BY_NAME[name]

    data = encode(weights, kind)
    back = decode(data, kind)

    assert data.dtype == np.uint8
    assert data.shape == (24, kind.row_bytes(512))
    assert back.dtype == np.float32
    error = np.sqrt(np.mean((back - weights) ** 2) / np.mean(weights**2))
    assert error <= ERRORS[name]


@needs_ggml
@pytest.mark.parametrize("name", ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_numpy_and_ggml_write_the_same_bytes(name, weights, monkeypatch):
    by_numpy = encode(weights, BY_NAME[name])
    monkeypatch.setitem(CODERS, name, "ggml")

    assert np.array_equal(by_numpy, encode(weights, BY_NAME[name]))


@needs_ggml
def test_rows_that_are_not_contiguous_are_encoded_as_they_read(weights):
    turned = np.asfortranarray(weights)

    assert np.array_equal(encode(turned, BY_NAME["Q4_K"]), encode(weights, BY_NAME["Q4_K"]))


def test_a_k_quant_without_ggml_is_refused_with_a_way_out(weights, monkeypatch):
    monkeypatch.setattr(quantize, "ggml", lambda: None)

    with pytest.raises(CannotEncode, match=r"Q4_K needs the package libggml-python.*choose Q8_0 or F16"):
        encode(weights, BY_NAME["Q4_K"])
    check_can_encode(BY_NAME["Q8_0"])


def test_types_that_can_only_be_read_or_do_not_exist_are_refused(weights):
    with pytest.raises(CannotEncode, match="can be read but not written"):
        encode(weights, BY_NAME["IQ2_XXS"])
    with pytest.raises(CannotEncode, match="no tensor type 'Q9'"):
        type_named("Q9")


def test_a_row_that_does_not_divide_is_refused():
    assert not fits(BY_NAME["Q8_0"], 48)
    with pytest.raises(CannotEncode, match="Rows of 48 weights"):
        encode(np.zeros((2, 48), np.float32), BY_NAME["Q8_0"])


def test_every_written_type_can_be_read():
    assert all(can_decode(BY_NAME[name]) for name in CODERS)
    assert not can_decode(BY_NAME["F64"])


def test_decoding_agrees_with_the_gguf_package_for_every_type():
    draw = np.random.default_rng(5)
    for kind in filter(can_decode, TENSOR_TYPES):
        data = draw.integers(0, 60, (3, 2 * kind.size), dtype=np.uint8)  # below 0x3C00 halves are finite
        ours = decode(data, kind)
        theirs = gguf.quants.dequantize(data, gguf.GGMLQuantizationType(kind.number))
        assert ours.shape == (3, 2 * kind.block)
        assert np.array_equal(ours, theirs)
