"""Every architecture of the table, on a tiny model of it: against PEFT, and (slow) against llama.cpp.

Names and settings of the GGUF files are written out here from llama.cpp's converters; the base file itself is
proved by llama.cpp agreeing with transformers on it.
"""

from __future__ import annotations

import re
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
SETTINGS: dict[str, Any] = {
    "block_count": 2,
    "context_length": 1024,
    "embedding_length": 64,
    "feed_forward_length": 128,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 16,
    "attention.value_length": 16,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "rope.dimension_count": 16,
    "rope.freq_base": 1e4,
    "rope.scaling.original_context_length": 1024,
    "vocab_size": 384,
}
ROPE = {"rope_type": "default", "rope_theta": 1e4}
# architecture → (transformers' class, further sizes, further GGUF settings, what the converter adds to norms)
MODELS: dict[str, tuple[str, dict[str, Any], dict[str, Any], float]] = {
    "llama": ("Llama", {}, {}, 0),
    "qwen2": ("Qwen2", {}, {}, 0),
    "qwen3": ("Qwen3", {}, {}, 0),
    "smollm3": ("SmolLM3", {"rope_parameters": ROPE}, {}, 0),
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
    "olmo2": ("Olmo2", {"tie_word_embeddings": False}, {}, 0),
    "exaone4": ("Exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 2}, {}, 0),
    "command-r": (
        "Cohere",
        {"logit_scale": 0.25, "layer_norm_eps": 1e-5},
        {"logit_scale": 0.25, "attention.layer_norm_epsilon": 1e-5, "rope.freq_base": 5e5},
        0,
    ),
    "cohere2": (
        "Cohere2",
        {"logit_scale": 0.25, "layer_norm_eps": 1e-5, "sliding_window": 512, "layer_types": ["sliding_attention"] * 2},
        {"logit_scale": 0.25, "attention.layer_norm_epsilon": 1e-5, "attention.sliding_window": 512},
        0,
    ),
    "stablelm": (
        "StableLm",
        {
            "layer_norm_eps": 1e-5,
            "rope_parameters": {**ROPE, "partial_rotary_factor": 0.5},
            "tie_word_embeddings": False,
        },
        {"attention.layer_norm_epsilon": 1e-5, "rope.dimension_count": 8, "use_parallel_residual": False},
        0,
    ),
    "lfm2": (
        "Lfm2",
        {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False, "norm_eps": 1e-5},
        {"shortconv.l_cache": 3, "attention.head_count_kv": [0, 2], "rope.freq_base": 1e6},
        0,
    ),
    "mistral3": (
        "Ministral3",
        {"rope_parameters": {**ROPE, "llama_4_scaling_beta": 0.0, "original_max_position_embeddings": 1024}},
        {},
        0,
    ),
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
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "conv.conv": "shortconv.conv",
    "conv.in_proj": "shortconv.in_proj",
    "conv.out_proj": "shortconv.out_proj",
    "feed_forward.w1": "ffn_gate",
    "feed_forward.w2": "ffn_down",
    "feed_forward.w3": "ffn_up",
    "operator_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
}
OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "model.norm.bias": "output_norm.bias",
    "model.embedding_norm.weight": "token_embd_norm.weight",
}
NORMS_BEHIND = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


LINEAR = re.compile(r"(_proj|\.w[123])$")


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
    behind = arch.startswith("gemma") or arch in ("olmo2", "exaone4")
    names = {**NAMES, **(NORMS_BEHIND if behind else {})}
    shape = Shape(kind="llama" if arch in ("llama", "smollm3", "granite", "mistral3") else "qwen2")
    weights: dict[str, np.ndarray] = {}
    for name, tensor in model.state_dict().items():
        weight = tensor.detach().numpy()
        if "norm" in name:
            weight = weight + np.float32(norm_offset)
        if name in OUTSIDE:
            weights[OUTSIDE[name]] = weight
        elif name == "lm_head.weight":
            if not model.config.tie_word_embeddings:
                weights["output.weight"] = weight
        else:
            _, _, layer, rest = name.split(".", 3)
            module, kind = rest.rsplit(".", 1)
            weight = weight[:, 0] if module == "conv.conv" else gguf_rows(name, weight, shape)
            weights[f"blk.{layer}.{names[module]}.{kind}"] = weight
    return weights


def write_base(path: Path, model: Any, arch: str) -> Path:
    _, _, extra, _ = MODELS[arch]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("model")
    for key, value in {**SETTINGS, **extra}.items():
        name = f"{arch}.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}[type(value)]
            add(name, value)
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

    layers = sorted({name.split(".")[-1] for name, _ in model.named_modules() if LINEAR.search(name)})
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
    assert report.touched == {"phi3": 8, "lfm2": 12}.get(arch, 14)


@pytest.mark.parametrize("arch", [arch for arch in PERMUTES if arch not in ("phi3", "lfm2")])  # nothing to permute
def test_the_other_answer_to_whether_rows_are_permuted_is_noticed(arch, tmp_path, monkeypatch):
    from peft import PeftModel

    base, adapter = write_base(tmp_path / "base.gguf", tiny(arch), arch), write_adapter(tmp_path / "a", tiny(arch))
    expected = as_gguf(PeftModel.from_pretrained(tiny(arch), adapter).merge_and_unload(), arch)
    monkeypatch.setitem(PERMUTES, arch, not PERMUTES[arch])

    merge(base, adapter, tmp_path / "merged.gguf", "F32")

    merged = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "merged.gguf").tensors}
    wrong = {name.split(".", 2)[2] for name in merged if not np.allclose(merged[name], expected[name], atol=1e-3)}
    assert wrong == {"attn_q.weight", "attn_k.weight"}


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
