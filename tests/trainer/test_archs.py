"""Every architecture of the table, on a tiny model of it: against PEFT, and (slow) against llama.cpp.

Names and settings of the GGUF files are written out here from llama.cpp's converters; the base file itself is
proved by llama.cpp agreeing with transformers on it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.trainer.llamacpp import largest_gap, next_token_logprobs
from tests.trainer.test_llamacpp_agreement import PROMPTS, peft_logprobs
from tests.trainer.tiny import Shape, add_tokenizer, gguf_rows
from trainer.archs import PERMUTES, permute
from trainer.gguf_check import check
from trainer.lora_gguf import convert_adapter
from trainer.merge_gguf import merge

pytest.importorskip("peft")

# peft 0.21 still asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

SIZES: dict[str, Any] = {
    "vocab_size": 384,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
    "attn_implementation": "eager",
}
# architecture → (transformers' class, further sizes, further GGUF settings, what the converter adds to norms)
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, float], float]] = {
    "llama": ("Llama", {}, {}, 0),
    "qwen2": ("Qwen2", {}, {}, 0),
    "qwen3": ("Qwen3", {}, {}, 0),
    "smollm3": ("SmolLM3", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, {}, 0),
    "granite": (
        "Granite",
        {"embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2},
        {"embedding_scale": 3.0, "logit_scale": 2.0, "residual_scale": 0.5, "attention.scale": 0.2},
        0,
    ),
    "gemma2": (
        "Gemma2",
        {"query_pre_attn_scalar": 16, "sliding_window": 512},
        {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "attention.sliding_window": 512},
        1,
    ),
    "gemma3": (
        "Gemma3",
        {"query_pre_attn_scalar": 16, "sliding_window": 512, "layer_types": ["sliding_attention"] * 2},
        {"attention.sliding_window": 512, "rope.freq_base": 1e6},
        1,
    ),
    "phi3": ("Phi3", {}, {}, 0),
}
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
FOUR_NORMS = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def tiny(arch: str, seed: int = 0) -> Any:  # Any: transformers' classes are untyped
    """Build a tiny model of the architecture whose weights, norms included, are all drawn at random."""
    import torch
    import transformers

    family, sizes, _, _ = MODELS[arch]
    text = "TextConfig" if family == "Gemma3" else "Config"
    config = getattr(transformers, family + text)(**{**SIZES, **sizes})
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=draw)
            weight.copy_(weight + 0.1 * noise if weight.ndim == 1 else noise * weight.shape[-1] ** -0.5)
    return model


def as_gguf(model: Any, arch: str) -> dict[str, np.ndarray]:
    """Give the model's weights GGUF names, and llama-like q and k GGUF row order, by tiny's own code."""
    _, _, _, norm_offset = MODELS[arch]
    names = {**NAMES, **(FOUR_NORMS if arch.startswith("gemma") else {})}
    shape = Shape(kind="llama" if arch in ("llama", "smollm3", "granite") else "qwen2")
    weights: dict[str, np.ndarray] = {}
    for name, tensor in model.state_dict().items():
        weight = tensor.detach().numpy()
        if "norm" in name:
            weight = weight + np.float32(norm_offset)
        if name == "model.embed_tokens.weight":
            weights["token_embd.weight"] = weight
        elif name == "model.norm.weight":
            weights["output_norm.weight"] = weight
        elif name != "lm_head.weight":
            _, _, layer, rest = name.split(".", 3)
            module, kind = rest.rsplit(".", 1)
            weights[f"blk.{layer}.{names[module]}.{kind}"] = gguf_rows(name, weight, shape)
    return weights


def write_base(path: Path, model: Any, arch: str) -> Path:
    _, _, extra, _ = MODELS[arch]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("model")
    writer.add_block_count(2)
    writer.add_context_length(1024)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(16)
    writer.add_uint32(f"{arch}.rope.scaling.original_context_length", 1024)
    writer.add_vocab_size(384)
    if "rope.freq_base" not in extra:
        writer.add_rope_freq_base(10000.0)
    for key, value in extra.items():
        add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
        add(f"{arch}.{key}", value)
    add_tokenizer(writer, 384)
    for name, weight in as_gguf(model, arch).items():
        writer.add_tensor(name, np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_adapter(folder: Path, model: Any) -> Path:
    """Let PEFT itself make and save an adapter on every linear layer of the blocks, with B far from zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    layers = sorted({name.split(".")[-1] for name, _ in model.named_modules() if name.endswith("_proj")})
    tuned = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=layers))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.add_(torch.randn(weight.shape, generator=draw) * 0.15)
    tuned.save_pretrained(folder)
    return folder


@pytest.fixture(params=PERMUTES)
def taught(request, tmp_path):
    """An architecture, its base file and an adapter that PEFT saved."""
    arch = request.param
    base = write_base(tmp_path / "base.gguf", tiny(arch), arch)
    return arch, base, write_adapter(tmp_path / "adapter", tiny(arch))


def test_merged_weights_are_those_that_peft_merges(taught, tmp_path):
    from peft import PeftModel

    arch, base, adapter = taught

    report = merge(base, adapter, tmp_path / "merged.gguf", "F32")

    expected = as_gguf(PeftModel.from_pretrained(tiny(arch), adapter).merge_and_unload(), arch)
    merged = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "merged.gguf").tensors}
    assert set(merged) == set(expected)
    for name, weight in merged.items():
        np.testing.assert_allclose(weight, expected[name], atol=2e-6, rtol=1e-5, err_msg=name)
    assert report.touched == (8 if arch == "phi3" else 14)


@pytest.mark.slow
def test_llama_cpp_agrees_with_peft(taught, tmp_path):
    pytest.importorskip("xllamacpp")
    arch, base, adapter = taught
    lora = tmp_path / "adapter.gguf"
    convert_adapter(adapter, check(base), lora)

    expected = peft_logprobs(tiny(arch), adapter, PROMPTS)

    assert largest_gap(expected, next_token_logprobs(base, PROMPTS, lora, top=384)) < 0.005
    assert largest_gap(expected, next_token_logprobs(base, PROMPTS, top=384)) > 0.1


def test_permuting_interleaves_the_halves_of_every_head():
    rows = np.arange(8, dtype=np.float32)[:, None]

    assert permute(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_every_architecture_of_the_table_is_tried_here():
    assert set(PERMUTES) == set(MODELS)
