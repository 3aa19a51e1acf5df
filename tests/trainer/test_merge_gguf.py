from __future__ import annotations

import gc
import tracemalloc

import gguf
import numpy as np
import pytest

from tests.trainer.tiny import (
    CHATML,
    Shape,
    TinyAdapter,
    gguf_name,
    gguf_rows,
    hf_model,
    tiny_weights,
    write_gguf,
    write_tiny_llama_gguf,
)
from trainer import quantize
from trainer.archs import PERMUTES
from trainer.gguf_check import check
from trainer.lora_gguf import convert_adapter
from trainer.merge_gguf import merge, unrounded

# peft 0.21 still asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SHAPE = Shape()
SOME = ("self_attn.q_proj", "mlp.down_proj")


@pytest.fixture
def base(tmp_path):
    return write_tiny_llama_gguf(tmp_path / "base.gguf", alignment=64)


@pytest.fixture
def adapter(tmp_path, base):
    folder = TinyAdapter(SHAPE, modules=SOME).write(tmp_path / "adapter")
    convert_adapter(folder, check(base), tmp_path / "adapter.gguf", metadata={"curator.base_sha256": "ab" * 32})
    return tmp_path / "adapter.gguf"


def weights_of(path):
    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def fields_of(path):
    fields = gguf.GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def raw(path, name):
    tensor = check(path).tensors[name]
    return path.read_bytes()[tensor.start : tensor.start + tensor.size]


def peft_merged(shape, folder):
    """Merge with PEFT and put the result into GGUF names and row order by tiny's own code."""
    peft = pytest.importorskip("peft")
    model = peft.PeftModel.from_pretrained(hf_model(tiny_weights(shape), shape), folder).merge_and_unload()
    state = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    if shape.tied:
        del state["lm_head.weight"]
    return {gguf_name(name): gguf_rows(name, weight, shape) for name, weight in state.items()}


CASES = {
    "plain": {},
    "rslora": {"config": {"use_rslora": True}},
    "patterns": {
        "ranks": {"k_proj": 2, "model.layers.1.mlp.up_proj": 8},
        "config": {
            "rank_pattern": {"k_proj": 2, "model.layers.1.mlp.up_proj": 8},
            "alpha_pattern": {"o_proj": 3, r"layers\.0\.self_attn\.q_proj": 32},
        },
    },
    "rslora and patterns": {
        "ranks": {"q_proj": 2},
        "config": {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 1}},
    },
}


@pytest.mark.parametrize("shape", [Shape(), Shape(kind="qwen2", tied=False)], ids=lambda shape: shape.kind)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:You passed a `rank_pattern` or `alpha_pattern`")
def test_merged_weights_are_those_that_peft_merges(case, shape, tmp_path):
    base = write_gguf(tmp_path / "base.gguf", tiny_weights(shape), shape)
    folder = TinyAdapter(shape, **CASES[case]).write(tmp_path / "adapter")

    report = merge(base, folder, tmp_path / "merged.gguf", "F32")

    expected = peft_merged(shape, folder)
    merged = weights_of(tmp_path / "merged.gguf")
    assert set(merged) == set(expected)
    for name, weight in merged.items():
        np.testing.assert_allclose(weight, expected[name], atol=2e-6, rtol=1e-5, err_msg=name)
    assert (report.touched, report.types) == (14, {"F32": 14})


def test_leaving_the_permutation_out_is_noticed(base, tmp_path, monkeypatch):
    monkeypatch.setitem(PERMUTES, "llama", False)
    folder = TinyAdapter(SHAPE).write(tmp_path / "adapter")

    merge(base, folder, tmp_path / "merged.gguf", "F32")

    expected, merged = peft_merged(SHAPE, folder), weights_of(tmp_path / "merged.gguf")
    wrong = {name for name in merged if not np.allclose(merged[name], expected[name], atol=1e-3)}
    assert wrong == {f"blk.{i}.attn_{part}.weight" for i in (0, 1) for part in "qk"}


def test_a_peft_folder_and_its_adapter_gguf_give_the_same_file(base, adapter, tmp_path):
    merge(base, adapter, tmp_path / "one.gguf")
    merge(base, tmp_path / "adapter", tmp_path / "two.gguf")

    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()
    assert not list(tmp_path.glob(".merge-*"))


@pytest.mark.parametrize("base_type", ["F32", "Q4_1"])
def test_untouched_tensors_keep_their_bytes_and_all_tensors_their_order(base_type, adapter, tmp_path):
    base = write_tiny_llama_gguf(tmp_path / "other.gguf", tensor_type=base_type, alignment=128)
    out = tmp_path / "merged.gguf"

    report = merge(base, adapter, out)

    before, after = check(base), check(out, whole=True, finite=True)
    touched = {f"blk.{i}.{part}.weight" for i in (0, 1) for part in ("attn_q", "ffn_down")}
    assert list(after.tensors) == list(before.tensors)
    assert after.alignment == 128
    for name, tensor in after.tensors.items():
        assert tensor.shape == before.tensors[name].shape
        if name in touched:
            assert tensor.type.name == "Q8_0"
        else:
            assert tensor.type == before.tensors[name].type
            assert raw(out, name) == raw(base, name)
    assert (report.touched, report.copied, report.size) == (4, len(before.tensors) - 4, out.stat().st_size)


def test_merged_q8_is_the_rounded_sum(base, adapter, tmp_path):
    merge(base, adapter, tmp_path / "full.gguf", "F32")
    merge(base, adapter, tmp_path / "small.gguf", "Q8_0")

    full, small = weights_of(tmp_path / "full.gguf"), weights_of(tmp_path / "small.gguf")
    for name, weight in full.items():
        blocks = np.abs(weight).reshape(-1, 32).max(axis=1) if weight.ndim == 2 else np.zeros(1)
        assert np.abs(small[name] - weight).max() <= blocks.max() / 127 * 0.51 + 1e-9


def test_settings_are_copied_byte_for_byte_and_only_ours_are_added(base, adapter, tmp_path):
    out = tmp_path / "merged.gguf"

    merge(base, adapter, out, "F32", {"general.name": "Ferry v3", "curator.run": "12"})

    before, after = check(base), check(out)
    for key, (start, end) in before.entries.items():
        if key != "general.name":
            begin, stop = after.entries[key]
            assert out.read_bytes()[begin:stop] == base.read_bytes()[start:end]
    assert [*after.entries] == [*before.entries, "curator.run"]
    fields = fields_of(out)
    assert (fields["general.name"], fields["curator.run"]) == ("Ferry v3", "12")
    assert fields["tokenizer.chat_template"] == CHATML


def test_the_file_type_follows_the_weights(adapter, base, tmp_path):
    all_layers = TinyAdapter(SHAPE).write(tmp_path / "all")
    merge(base, all_layers, tmp_path / "most.gguf")
    merge(base, adapter, tmp_path / "few.gguf")

    assert fields_of(tmp_path / "most.gguf")["general.file_type"] == 7
    assert fields_of(tmp_path / "few.gguf")["general.file_type"] == 0
    assert fields_of(tmp_path / "few.gguf")["general.quantization_version"] == 2


@pytest.mark.parametrize("base_type", ["F16", "Q8_0", "Q4_0", "Q4_1"])
def test_same_keeps_every_tensors_type_and_the_files_size(base_type, adapter, tmp_path):
    base = write_tiny_llama_gguf(tmp_path / "other.gguf", tensor_type=base_type, alignment=64)

    merge(base, adapter, tmp_path / "merged.gguf", "same")

    types = [(t.name, t.type) for t in check(tmp_path / "merged.gguf").tensors.values()]
    assert types == [(t.name, t.type) for t in check(base).tensors.values()]
    assert (tmp_path / "merged.gguf").stat().st_size == base.stat().st_size


def test_k_quants_are_written_through_ggml(tmp_path):
    if quantize.ggml() is None:
        pytest.skip("libggml-python is not installed")
    shape = Shape(hidden=256, ffn=256, layers=1)
    base = write_gguf(tmp_path / "base.gguf", tiny_weights(shape), shape)
    folder = TinyAdapter(shape).write(tmp_path / "adapter")

    merge(base, folder, tmp_path / "k.gguf", "Q4_K")
    merge(tmp_path / "k.gguf", folder, tmp_path / "again.gguf", "same")

    merge(base, folder, tmp_path / "full.gguf", "F32")
    full, small = weights_of(tmp_path / "full.gguf"), weights_of(tmp_path / "k.gguf")
    name = "blk.0.ffn_up.weight"
    assert np.std(small[name] - full[name]) < 0.09 * np.std(full[name])
    assert check(tmp_path / "again.gguf").tensors[name].type.name == "Q4_K"


@pytest.mark.parametrize(("asked", "found"), [("Q4_K", "Q5_0"), ("Q5_K", "Q5_1"), ("Q6_K", "Q8_0"), ("Q3_K", "IQ4_NL")])
def test_a_k_quant_of_narrow_rows_becomes_the_next_type_of_small_blocks_as_in_llama_cpp(
    asked, found, base, adapter, tmp_path
):
    if quantize.ggml() is None:
        pytest.skip("libggml-python is not installed")

    report = merge(base, adapter, tmp_path / "merged.gguf", asked)

    assert report.types == {found: 4}
    assert len(report.fell_back) == 4


@pytest.mark.parametrize("base_type", ["F32", "Q4_1"])
def test_all_tensors_in_f32_are_the_base_decoded_plus_the_update(base_type, adapter, tmp_path):
    base = write_tiny_llama_gguf(tmp_path / "other.gguf", tensor_type=base_type, alignment=64)

    unrounded(base, tmp_path / "base-f32.gguf")
    unrounded(base, tmp_path / "merged.gguf", adapter)

    merged = tmp_path / "merged.gguf"
    merge(base, adapter, tmp_path / "touched.gguf", "F32")
    assert {tensor.type.name for tensor in check(merged).tensors.values()} == {"F32"}
    assert fields_of(merged)["general.file_type"] == 0
    for name, weight in weights_of(tmp_path / "touched.gguf").items():
        np.testing.assert_array_equal(weights_of(merged)[name], weight, err_msg=name)
    for name, weight in weights_of(base).items():
        np.testing.assert_array_equal(weights_of(tmp_path / "base-f32.gguf")[name], weight, err_msg=name)


def test_rows_that_do_not_divide_become_f16(tmp_path):
    shape = Shape(ffn=80)
    base = write_gguf(tmp_path / "base.gguf", tiny_weights(shape), shape)
    folder = TinyAdapter(shape, modules=SOME).write(tmp_path / "adapter")

    report = merge(base, folder, tmp_path / "merged.gguf")

    assert report.fell_back == ("blk.0.ffn_down.weight", "blk.1.ffn_down.weight")
    assert report.types == {"Q8_0": 2, "F16": 2}
    check(tmp_path / "merged.gguf", finite=True)


def test_merging_needs_less_memory_than_three_tensors(tmp_path):
    shape = Shape(hidden=512, ffn=4096, layers=1, vocab=384)
    base = write_gguf(tmp_path / "base.gguf", tiny_weights(shape), shape)
    folder = TinyAdapter(shape).write(tmp_path / "adapter")
    convert_adapter(folder, check(base), tmp_path / "adapter.gguf")
    largest = 512 * 4096 * 4
    gc.collect()
    tracemalloc.start()
    try:
        merge(base, tmp_path / "adapter.gguf", tmp_path / "merged.gguf")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 3 * largest
