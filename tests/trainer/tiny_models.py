"""A tiny model of every architecture of the table: as transformers' own class, as a GGUF file, as a PEFT adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.trainer.tiny import Shape, gguf_rows
from tests.trainer.tiny_archs import MODELS, SETTINGS, SIZES, arch_of
from tests.trainer.tiny_tokenizer import add_tokenizer

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


def tiny(key: str, seed: int = 0) -> Any:  # Any: transformers' classes are untyped
    """Build a tiny model of the family whose weights, norms included, are all drawn at random."""
    import torch
    import transformers

    family, sizes = MODELS[key].family, MODELS[key].sizes
    text = "TextConfig" if family == "Gemma3" else "Config"
    config = getattr(transformers, family + text)(**(sizes if family == "GPT2" else {**SIZES, **sizes}))
    model = transformers.AutoModelForCausalLM.from_config(config).eval().float()
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
            _, _, layer, rest = name.split(".", 3)
            if made.family == "GPT2" and weight.ndim == 2:
                weight = weight.T
            for tensor_name, rows in in_block(rest, gguf_rows(name, weight, shape), names).items():
                weights[f"blk.{layer}.{tensor_name}"] = rows
    return weights


def in_block(name: str, weight: np.ndarray, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Give what a weight of a block is called in GGUF, and as what it is held there; some become several tensors."""
    module, _, kind = name.rpartition(".")
    match name:
        case "shared_mlp.input_linear.weight":
            half = len(weight) // 2
            return {"ffn_gate.weight": weight[:half], "ffn_up.weight": weight[half:]}
        case "mamba.dt_bias":
            return {"ssm_dt.bias": weight}
        case "mamba.A_log":
            return {"ssm_a": -np.exp(weight)[:, None]}
        case "mamba.D":
            return {"ssm_d": weight[:, None]}
        case "mamba.norm.weight":
            weight = weight[None]
        case "conv.conv.weight" | "mamba.conv1d.weight":
            weight = weight[:, 0]
        case _:
            pass
    return {f"{names[module]}.{kind}": weight}


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
