"""A tiny model of every architecture of the table: as transformers' own class, as a GGUF file, as a PEFT adapter.

Names and settings of the GGUF files are written out here from llama.cpp's converters; the base file itself is
proved by llama.cpp agreeing with transformers on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.trainer.tiny import Shape, gguf_rows
from tests.trainer.tiny_tokenizer import add_tokenizer

Values = dict[str, Any]  # Any: fields of as many configurations as there are families

SIZES: Values = {
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
SETTINGS: Values = {
    "block_count": 2,
    "context_length": 1024,
    "embedding_length": 64,
    "feed_forward_length": 128,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
    "attention.key_length": 16,
    "attention.value_length": 16,
    "attention.layer_norm_rms_epsilon": 1e-5,
    "attention.layer_norm_epsilon": 1e-5,
    "rope.dimension_count": 16,
    "rope.freq_base": 1e4,
    "rope.scaling.original_context_length": 1024,
    "vocab_size": 384,
}
ROPE = {"rope_type": "default", "rope_theta": 1e4}
HALF_ROPE = {"rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}}
MULTIPLIED = {
    "embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5, "attention_multiplier": 0.2,
}  # fmt: skip
SCALES = {"embedding_scale": 3.0, "logit_scale": 2.0, "residual_scale": 0.5, "attention.scale": 0.2}
BEHIND = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


@dataclass(frozen=True)
class Tiny:
    """How a tiny model of one family is made. `sizes` and `settings` go over the common ones."""

    family: str  # the name of transformers' classes
    sizes: Values = field(default_factory=dict)
    settings: Values = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)  # module → part of the GGUF name, over NAMES
    added_to_norms: float = 0
    permuted: bool = False
    arch: str = ""  # in GGUF, where it is not the family's key here
    layers: int = 14  # linear layers of two blocks, as GGUF counts them


MODELS: dict[str, Tiny] = {
    "llama": Tiny("Llama", permuted=True),
    "qwen2": Tiny("Qwen2"),
    "qwen3": Tiny("Qwen3"),
    "smollm3": Tiny("SmolLM3", {"rope_parameters": ROPE}, permuted=True),
    "granite": Tiny("Granite", MULTIPLIED, SCALES, permuted=True),
    "granite 4": Tiny(
        "GraniteMoeHybrid",
        {
            **MULTIPLIED,
            "num_local_experts": 0,
            "num_experts_per_tok": 0,
            "shared_intermediate_size": 128,
            "layer_types": ["attention"] * 2,
            "position_embedding_type": "rope",
            "mamba_n_heads": 8,
            "rope_parameters": ROPE,
        },
        SCALES,
        {"shared_mlp.output_linear": "ffn_down"},
        permuted=True,
        arch="granite",
    ),
    "gemma": Tiny("Gemma", added_to_norms=1),
    "gemma2": Tiny(
        "Gemma2",
        {"query_pre_attn_scalar": 16, "sliding_window": 512},
        {"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "attention.sliding_window": 512},
        BEHIND,
        added_to_norms=1,
    ),
    "gemma3": Tiny(
        "Gemma3",
        {"query_pre_attn_scalar": 16, "sliding_window": 512, "layer_types": ["sliding_attention"] * 2},
        {"attention.sliding_window": 512, "rope.freq_base": 1e6},
        BEHIND,
        added_to_norms=1,
    ),
    "phi3": Tiny("Phi3", layers=8),
    "olmo": Tiny("Olmo", permuted=True),
    "olmo2": Tiny("Olmo2", {"tie_word_embeddings": False}, names=BEHIND),
    "olmo3": Tiny(
        "Olmo3",
        {
            "tie_word_embeddings": False,
            "sliding_window": 512,
            "layer_types": ["sliding_attention"] * 2,
        },
        {"attention.sliding_window": 512, "attention.sliding_window_pattern": [True, True], "rope.freq_base": 5e5},
        BEHIND,
        arch="olmo2",
    ),
    "exaone4": Tiny("Exaone4", {"sliding_window": None, "layer_types": ["full_attention"] * 2}, names=BEHIND),
    "command-r": Tiny(
        "Cohere", {"logit_scale": 0.25, "layer_norm_eps": 1e-5}, {"logit_scale": 0.25, "rope.freq_base": 5e5}
    ),
    "cohere2": Tiny(
        "Cohere2",
        {"logit_scale": 0.25, "layer_norm_eps": 1e-5, "sliding_window": 512, "layer_types": ["sliding_attention"] * 2},
        {"logit_scale": 0.25, "attention.sliding_window": 512},
    ),
    "stablelm": Tiny(
        "StableLm",
        {**HALF_ROPE, "layer_norm_eps": 1e-5, "tie_word_embeddings": False},
        {"rope.dimension_count": 8, "use_parallel_residual": False},
    ),
    "lfm2": Tiny(
        "Lfm2",
        {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False, "norm_eps": 1e-5},
        {"shortconv.l_cache": 3, "attention.head_count_kv": [0, 2], "rope.freq_base": 1e6},
        layers=12,
    ),
    "mistral3": Tiny(
        "Ministral3",
        {"rope_parameters": {**ROPE, "llama_4_scaling_beta": 0.0, "original_max_position_embeddings": 1024}},
        permuted=True,
    ),
    "apertus": Tiny(
        "Apertus",
        {"rope_parameters": ROPE, "tie_word_embeddings": False},
        names={"attention_layernorm": "attn_norm", "feedforward_layernorm": "ffn_norm"},
        layers=12,
    ),
    "arcee": Tiny("Arcee", permuted=True, layers=12),
    "starcoder2": Tiny("Starcoder2", {"norm_epsilon": 1e-5, "sliding_window": None}, layers=12),
    "nemotron": Tiny(
        "Nemotron",
        {**HALF_ROPE, "norm_eps": 1e-5, "tie_word_embeddings": False},
        {"rope.dimension_count": 8},
        added_to_norms=1,
        layers=12,
    ),
    "glm4": Tiny(
        "Glm4",
        HALF_ROPE,
        {"rope.dimension_count": 8},
        {
            "post_self_attn_layernorm": "post_attention_norm",
            "post_attention_layernorm": "ffn_norm",
            "post_mlp_layernorm": "post_ffw_norm",
        },
        layers=12,
    ),
    "ernie4_5": Tiny("Ernie4_5", {"rope_parameters": ROPE}),
    "hunyuan-dense": Tiny("HunYuanDenseV1"),
    "seed_oss": Tiny("SeedOss", names={"post_attention_layernorm": "post_attention_norm"}),
    "gpt2": Tiny(
        "GPT2",
        {
            "vocab_size": 384,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "pad_token_id": 0,
            "bos_token_id": 0,
            "eos_token_id": 2,
            "attn_implementation": "eager",
        },
        {"attention.head_count_kv": 4, "feed_forward_length": 256},
        {
            "attn.c_attn": "attn_qkv",
            "attn.c_proj": "attn_output",
            "mlp.c_fc": "ffn_up",
            "mlp.c_proj": "ffn_down",
            "ln_1": "attn_norm",
            "ln_2": "ffn_norm",
        },
        layers=8,
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
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.out_proj": "attn_output",
    "self_attn.q_layernorm": "attn_q_norm",
    "self_attn.k_layernorm": "attn_k_norm",
    "self_attn.query_layernorm": "attn_q_norm",
    "self_attn.key_layernorm": "attn_k_norm",
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
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "model.embedding_norm": "token_embd_norm",
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
}
LINEAR = re.compile(r"(_proj|_linear|\.w[123]|\.c_(attn|fc))$")


def arch_of(key: str) -> str:
    return MODELS[key].arch or key


def tiny(key: str, seed: int = 0) -> Any:  # Any: transformers' classes are untyped
    """Build a tiny model of the family whose weights, norms included, are all drawn at random."""
    import torch
    import transformers

    family, sizes = MODELS[key].family, MODELS[key].sizes
    text = "TextConfig" if family == "Gemma3" else "Config"
    config = getattr(transformers, family + text)(**(sizes if family == "GPT2" else {**SIZES, **sizes}))
    head = "LMHeadModel" if family == "GPT2" else "ForCausalLM"
    model = getattr(transformers, family + head)(config).eval().float()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            noise = torch.randn(weight.shape, generator=draw)
            weight.copy_(weight + 0.1 * noise if weight.ndim == 1 else noise * weight.shape[-1] ** -0.5)
    return model


def as_gguf(model: Any, key: str) -> dict[str, np.ndarray]:
    """Give the model's weights GGUF names, and llama-like q and k GGUF row order, by tiny's own code."""
    made = MODELS[key]
    names = {**NAMES, **made.names}
    shape = Shape(kind="llama" if made.permuted else "qwen2")
    weights: dict[str, np.ndarray] = {}
    for name, tensor in model.state_dict().items():
        weight, (module, _, kind) = tensor.detach().numpy(), name.rpartition(".")
        if "norm" in name and kind == "weight":
            weight = weight + np.float32(made.added_to_norms)
        if module in OUTSIDE:
            weights[f"{OUTSIDE[module]}.{kind}"] = weight
        elif name == "lm_head.weight":
            if not model.config.tie_word_embeddings:
                weights["output.weight"] = weight
        elif "act_fn" not in name:  # numbers of an activation are settings
            _, _, layer, part = module.split(".", 3)
            if part == "conv.conv":
                weight = weight[:, 0]
            if made.family == "GPT2" and weight.ndim == 2:
                weight = weight.T
            if part == "shared_mlp.input_linear":
                half = len(weight) // 2
                weights[f"blk.{layer}.ffn_gate.weight"] = weight[:half]
                weights[f"blk.{layer}.ffn_up.weight"] = weight[half:]
            else:
                weights[f"blk.{layer}.{names[part]}.{kind}"] = gguf_rows(name, weight, shape)
    return weights


def write_base(path: Path, model: Any, key: str, arch: str = "", **settings: int) -> Path:
    """Write a model as the GGUF file a converter would make; with another `arch` or `settings`, as one that is not."""
    arch = arch or arch_of(key)
    writer = gguf.GGUFWriter(path, arch)
    writer.add_type("model")
    for setting, value in {**SETTINGS, **MODELS[key].settings, **settings}.items():
        name = f"{arch}.{setting}"
        if isinstance(value, list):
            writer.add_array(name, value)
        else:
            add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}[type(value)]
            add(name, value)
    if arch == "apertus":
        states = [layer.mlp.act_fn.state_dict() for layer in model.model.layers]
        for number in ("alpha_p", "alpha_n", "beta", "eps"):
            writer.add_array(f"xielu.{number}", [float(state[number]) for state in states])
    add_tokenizer(writer, 384)
    for name, weight in as_gguf(model, key).items():
        writer.add_tensor(name, np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def linear_layers(model: Any) -> set[str]:
    """Name the linear layers of the blocks, written out as patterns and not as the trainer lists them."""
    return {name for name, _ in model.named_modules() if LINEAR.search(name)}


def write_adapter(folder: Path, model: Any) -> Path:
    """Let PEFT itself make and save an adapter on every linear layer of the blocks, with B far from zero."""
    import torch
    from peft import LoraConfig, get_peft_model

    layers = sorted({name.split(".")[-1] for name in linear_layers(model)})
    across = type(model).__name__ == "GPT2LMHeadModel"
    config = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=layers, fan_in_fan_out=across)
    tuned = get_peft_model(model, config)
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.add_(torch.randn(weight.shape, generator=draw) * 0.15)
    tuned.save_pretrained(folder)
    return folder
