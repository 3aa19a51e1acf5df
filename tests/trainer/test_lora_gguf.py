from __future__ import annotations

import json
from math import sqrt

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.trainer.tiny import Shape, TinyAdapter, gguf_name, gguf_rows, write_tiny_llama_gguf
from trainer.archs import PERMUTES
from trainer.gguf_check import check
from trainer.lora_gguf import convert_adapter
from trainer.peft_files import HARMLESS, REFUSED

# peft 0.21 still asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SHAPE = Shape()


@pytest.fixture
def base(tmp_path):
    return check(write_tiny_llama_gguf(tmp_path / "base.gguf"))


@pytest.fixture
def convert(tmp_path, base):
    """Convert a synthetic adapter and answer (metadata, {base tensor: what llama.cpp will add})."""

    def run(adapter: TinyAdapter, base=base, dtype="F32", **metadata: str):
        out = tmp_path / "adapter.gguf"
        convert_adapter(adapter.write(tmp_path / "adapter"), base, out, dtype, metadata)
        return read_adapter(out)

    return run


def read_adapter(path):
    """Read an adapter GGUF as llama.cpp does: scale = alpha ? alpha / r : 1, with r of each tensor."""
    reader = gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    alpha = fields["adapter.lora.alpha"]
    updates = {}
    for name in tensors:
        if name.endswith(".lora_a"):
            a, b = tensors[name], tensors[name[:-1] + "b"]
            updates[name.removesuffix(".lora_a")] = (alpha / len(a) if alpha else 1.0) * (b @ a)
    assert len(tensors) == 2 * len(updates)
    return fields, updates


def expected_updates(adapter: TinyAdapter, scale_of=None):
    """Compute scale · B·A in Hugging Face order, then put its rows into GGUF order one by one."""
    tensors = adapter.tensors()
    updates = {}
    for name, a in tensors.items():
        if name.endswith(".lora_A.weight"):
            module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
            scale = scale_of(module, len(a)) if scale_of else adapter.alpha / len(a)
            delta = scale * (tensors[name.replace("lora_A", "lora_B")] @ a)
            updates[gguf_name(f"{module}.weight")] = gguf_rows(f"{module}.weight", delta, adapter.shape)
    return updates


def assert_same(updates, expected, tolerance=1e-5):
    assert set(updates) == set(expected)
    for name, update in updates.items():
        np.testing.assert_allclose(update, expected[name], atol=tolerance, rtol=tolerance)


def test_an_adapter_becomes_the_same_update_under_gguf_names(convert):
    adapter = TinyAdapter(SHAPE)

    fields, updates = convert(adapter)

    assert_same(updates, expected_updates(adapter))
    assert len(updates) == 14
    assert fields["adapter.lora.alpha"] == 8


def test_the_rows_of_q_and_k_are_permuted_for_llama_only(convert, tmp_path):
    adapter = TinyAdapter(SHAPE, modules=("self_attn.q_proj", "self_attn.k_proj"))
    _, llama = convert(adapter)
    qwen_base = check(write_tiny_llama_gguf(tmp_path / "qwen.gguf", kind="qwen2"))
    _, qwen = convert(TinyAdapter(Shape(kind="qwen2"), modules=adapter.modules), base=qwen_base)

    for name in llama:
        assert not np.allclose(llama[name], qwen[name], atol=0.01)
        assert np.allclose(np.sort(llama[name], axis=0), np.sort(qwen[name], axis=0), atol=1e-6)


def test_the_test_above_can_fail(convert, monkeypatch):
    monkeypatch.setitem(PERMUTES, "llama", False)
    adapter = TinyAdapter(SHAPE)

    _, updates = convert(adapter)

    with pytest.raises(AssertionError):
        assert_same(updates, expected_updates(adapter))


def test_qwen2_keeps_its_rows(convert, tmp_path):
    adapter = TinyAdapter(Shape(kind="qwen2", tied=False))

    _, updates = convert(adapter, base=check(write_tiny_llama_gguf(tmp_path / "q.gguf", kind="qwen2", tied=False)))

    assert_same(updates, expected_updates(adapter))


def test_rank_stabilised_scaling_is_kept(convert):
    adapter = TinyAdapter(SHAPE, config={"use_rslora": True})

    fields, updates = convert(adapter)

    assert_same(updates, expected_updates(adapter, lambda _, rank: 8 / sqrt(rank)))
    assert fields["adapter.lora.alpha"] == pytest.approx(8 * sqrt(4))


def test_rank_and_alpha_patterns_give_every_layer_its_own_scale(convert):
    ranks = {"q_proj": 2, "model.layers.1.mlp.down_proj": 8}
    config = {"rank_pattern": ranks, "alpha_pattern": {"v_proj": 3, r"layers\.0\.mlp\..*": 5}}
    adapter = TinyAdapter(SHAPE, ranks=ranks, config=config)

    fields, updates = convert(adapter)

    def scale(module: str, rank: int) -> float:
        alpha = 3 if module.endswith("v_proj") else 5 if "layers.0.mlp." in module else 8
        return alpha / rank

    assert fields["adapter.lora.alpha"] == 0  # no common one, so B carries the scales
    assert_same(updates, expected_updates(adapter, scale))


def test_rank_patterns_and_rank_stabilised_scaling_together(convert):
    adapter = TinyAdapter(SHAPE, ranks={"q_proj": 2}, config={"use_rslora": True, "rank_pattern": {"q_proj": 2}})

    _, updates = convert(adapter)

    assert_same(updates, expected_updates(adapter, lambda _, rank: 8 / sqrt(rank)))


def test_alpha_zero_adds_nothing_although_llama_cpp_reads_it_as_scale_one(convert):
    _, updates = convert(TinyAdapter(SHAPE, alpha=0))

    assert all(np.all(update == 0) for update in updates.values())


def test_f16_is_close_and_half_the_size(convert, tmp_path):
    adapter = TinyAdapter(SHAPE)
    convert(adapter)
    full = (tmp_path / "adapter.gguf").stat().st_size

    _, updates = convert(adapter, dtype="F16")

    assert_same(updates, expected_updates(adapter), 2e-3)
    assert (tmp_path / "adapter.gguf").stat().st_size < 0.6 * full


@pytest.mark.parametrize("kind", ["BF16", "F16", "F64"])
def test_adapters_saved_in_other_types_are_read_and_never_written_as_f64(kind, base, tmp_path):
    adapter = TinyAdapter(SHAPE)
    folder = adapter.write(tmp_path / "adapter")
    path = folder / "adapter_model.safetensors"
    if kind == "BF16":
        torch = pytest.importorskip("torch")
        from safetensors.torch import save_file as save_torch

        save_torch({k: torch.from_numpy(v.copy()).bfloat16() for k, v in adapter.tensors().items()}, path)
    else:
        save_file({k: v.astype({"F16": "f2", "F64": "f8"}[kind]) for k, v in adapter.tensors().items()}, path)

    convert_adapter(folder, base, tmp_path / "a.gguf")

    assert {t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors} == {"F32"}
    assert_same(read_adapter(tmp_path / "a.gguf")[1], expected_updates(adapter), 2e-2)


def test_the_file_carries_our_metadata_and_no_local_path(convert, tmp_path):
    own = {"general.name": "Ferry v3", "curator.run": "12", "curator.base_sha256": "ab" * 32}

    fields, _ = convert(TinyAdapter(SHAPE), **own)

    assert fields == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 8.0,
        **own,
    }
    content = (tmp_path / "adapter.gguf").read_bytes()
    assert b"somebody" not in content
    assert str(tmp_path).encode() not in content


def test_foreign_metadata_is_a_programming_error(convert):
    with pytest.raises(ValueError, match="not ours"):
        convert(TinyAdapter(SHAPE), **{"general.license": "mine"})


def test_the_result_passes_our_own_check(convert, tmp_path):
    convert(TinyAdapter(SHAPE))

    summary = check(tmp_path / "adapter.gguf", whole=True, finite=True)

    assert summary.general_type == "adapter"
    assert not summary.tied


def test_every_option_of_pefts_plain_adapter_is_known():
    lora = pytest.importorskip("peft").LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], r=8, lora_alpha=16)

    set_options = {key for key, value in lora.to_dict().items() if value}

    assert set_options <= HARMLESS
    assert not HARMLESS & set(REFUSED)
    assert set(REFUSED) <= set(lora.to_dict())


def test_the_saved_names_are_those_that_peft_writes(tmp_path):
    peft = pytest.importorskip("peft")
    from tests.trainer.tiny import hf_model, tiny_weights

    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
    model = peft.get_peft_model(hf_model(tiny_weights(SHAPE), SHAPE), config)
    model.save_pretrained(tmp_path)

    ours = TinyAdapter(SHAPE, modules=("self_attn.q_proj", "mlp.down_proj")).tensors()
    assert set(load_file(tmp_path / "adapter_model.safetensors")) == set(ours)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA"
