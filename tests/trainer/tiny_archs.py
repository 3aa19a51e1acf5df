"""How a tiny model of every architecture of the table is made, for tiny_models.py.

Names and settings of the GGUF files are written out here from llama.cpp's converters; the base file itself is
proved by llama.cpp agreeing with transformers on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
DENSE_GRANITE_4: Values = {
    **MULTIPLIED,
    "num_local_experts": 0,
    "num_experts_per_tok": 0,
    "shared_intermediate_size": 128,
    "mamba_n_heads": 8,
}
BEHIND = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


@dataclass(frozen=True)
class Tiny:
    """How a tiny model of one family is made. `sizes` and `settings` go over the common ones."""

    family: str  # the name of transformers' configuration
    sizes: Values = field(default_factory=dict)
    settings: Values = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)  # module → part of the GGUF name, over NAMES
    added_to_norms: float = 0
    permuted: bool = False
    arch: str = ""  # in GGUF, where it is not the family's key here
    layers: int = 14  # linear layers of two blocks, as GGUF counts them


MODELS: dict[str, Tiny] = {
    "llama": Tiny("Llama", permuted=True),
    "internlm3": Tiny("InternLM3", permuted=True, arch="llama"),
    "qwen2": Tiny("Qwen2"),
    "qwen3": Tiny("Qwen3"),
    "smollm3": Tiny("SmolLM3", {"rope_parameters": ROPE}, permuted=True),
    "granite": Tiny("Granite", MULTIPLIED, SCALES, permuted=True),
    "granite 4": Tiny(
        "GraniteMoeHybrid",
        {
            **DENSE_GRANITE_4,
            "layer_types": ["attention"] * 2,
            "position_embedding_type": "rope",
            "rope_parameters": ROPE,
        },
        SCALES,
        {"shared_mlp.output_linear": "ffn_down"},
        permuted=True,
        arch="granite",
    ),
    "granitehybrid": Tiny(
        "GraniteMoeHybrid",
        {
            **DENSE_GRANITE_4,
            "layer_types": ["mamba", "attention"],
            "position_embedding_type": None,
            "mamba_d_state": 16,
            "mamba_chunk_size": 16,
        },
        {
            **SCALES,
            "ssm.conv_kernel": 4,
            "ssm.state_size": 16,
            "ssm.group_count": 1,
            "ssm.inner_size": 128,
            "ssm.time_step_rank": 8,
            "attention.head_count_kv": [0, 2],
            "rope.scaling.finetuned": False,
        },
        {
            "shared_mlp.output_linear": "ffn_down",
            "mamba.in_proj": "ssm_in",
            "mamba.out_proj": "ssm_out",
            "mamba.norm": "ssm_norm",
            "mamba.conv1d": "ssm_conv1d",
        },
        permuted=True,
        layers=12,
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


def arch_of(key: str) -> str:
    return MODELS[key].arch or key
