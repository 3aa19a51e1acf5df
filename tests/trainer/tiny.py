"""Make base models and adapters small enough for any test: 0.1 M weights, 0.5 MB, 50 ms.

    base = write_tiny_llama_gguf(tmp_path / "base.gguf")            # llama, tied, F32, real tokenizer
    base = write_tiny_llama_gguf(tmp_path / "q.gguf", kind="qwen2", tensor_type="Q8_0", tied=False)

The file is a whole language model, only untaught. It carries a byte-level BPE tokenizer (any text goes in
and comes back out) and a chatml chat template whose turns end with `<|im_end|>`, which is also the eos:

    AutoTokenizer.from_pretrained(base.parent, gguf_file=base.name)
    AutoModelForCausalLM.from_pretrained(base.parent, gguf_file=base.name, dtype=torch.float32,
                                         quantization_config=GgufConfig(dequantize=True))
    xllamacpp: CommonParams().model.path = str(base)                # in a child process, see facts 8

Nothing here uses trainer's converters: names and the llama permutation are written a second time on
purpose, so that a mistake in one of them shows. torch is imported only by `hf_model`.
The context is 1,024 tokens; a token is about two characters of English. Weights are drawn so that logits spread by
about one. LoRA r16 α32 at a rate of 1e-2 learns eight short answers by heart in about 100 full-batch steps (3 s on
one core); the loss starts at 6 and cannot fall below 0.22, because the tied random embedding bounds the logits.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.quants import quantize

from tests.trainer.tiny_tokenizer import CHATML, SPECIAL, add_tokenizer

__all__ = [
    "CHATML",
    "SPECIAL",
    "Shape",
    "TinyAdapter",
    "add_tokenizer",
    "hf_model",
    "tiny_weights",
    "write_tiny_llama_gguf",
]

Weights = dict[str, np.ndarray]
Kind = Literal["llama", "qwen2"]

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
    "Q4_1": LlamaFileType.MOSTLY_Q4_1,
}


@dataclass(frozen=True)
class Shape:
    """The size of a tiny model. All widths divide by 32, so every 32-block type fits."""

    kind: Kind = "llama"
    vocab: int = 384
    hidden: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 128
    tied: bool = True

    @property
    def head(self) -> int:
        return self.hidden // self.heads

    def linear(self) -> dict[str, tuple[int, int]]:
        """Name the linear layers of one block with (out, in)."""
        kv = self.kv_heads * self.head
        return {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (kv, self.hidden),
            "self_attn.v_proj": (kv, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.ffn, self.hidden),
            "mlp.up_proj": (self.ffn, self.hidden),
            "mlp.down_proj": (self.hidden, self.ffn),
        }


def write_tiny_llama_gguf(
    path: Path,
    *,
    seed: int = 0,
    kind: Kind = "llama",
    tied: bool = True,
    vocab: int = 384,
    tensor_type: str = "F32",
    alignment: int = 32,
    **sizes: int,
) -> Path:
    """Write a runnable untaught model and answer its path; the same arguments give the same bytes."""
    shape = Shape(kind=kind, tied=tied, vocab=vocab, **sizes)
    return write_gguf(path, tiny_weights(shape, seed), shape, tensor_type=tensor_type, alignment=alignment)


def tiny_weights(shape: Shape, seed: int = 0) -> Weights:
    """Draw a model's weights under Hugging Face names, rows as Hugging Face orders them."""
    draw = np.random.default_rng(seed)

    def normal(*size: int) -> np.ndarray:
        return (draw.standard_normal(size) / np.sqrt(size[-1])).astype(np.float32)

    def norm() -> np.ndarray:
        return (1 + 0.1 * draw.standard_normal(shape.hidden)).astype(np.float32)

    weights = {"model.embed_tokens.weight": normal(shape.vocab, shape.hidden)}
    for layer in range(shape.layers):
        block = f"model.layers.{layer}."
        weights[block + "input_layernorm.weight"] = norm()
        for name, size in shape.linear().items():
            weights[f"{block}{name}.weight"] = normal(*size)
            if shape.kind == "qwen2" and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                weights[f"{block}{name}.bias"] = normal(size[0])
        weights[block + "post_attention_layernorm.weight"] = norm()
    weights["model.norm.weight"] = norm()
    if not shape.tied:
        weights["lm_head.weight"] = normal(shape.vocab, shape.hidden)
    return weights


def gguf_name(hf_name: str) -> str:
    """Give a Hugging Face weight its GGUF name, from a table of our own."""
    ends = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    ends["lm_head.weight"] = "output.weight"
    if hf_name in ends:
        return ends[hf_name]
    _, _, layer, rest = hf_name.split(".", 3)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[module]}.{kind}"


def gguf_rows(hf_name: str, weight: np.ndarray, shape: Shape) -> np.ndarray:
    """Put the rows of a llama q or k into GGUF order: each head's two rotary halves interleaved.

    Row by row, unlike the reshape that converters use. Row i of the first half goes to 2i, of the second to 2i + 1.
    """
    if shape.kind != "llama" or not hf_name.endswith(("q_proj.weight", "k_proj.weight")):
        return weight
    half = shape.head // 2
    out = np.empty_like(weight)
    for head in range(len(weight) // shape.head):
        start = head * shape.head
        for i in range(half):
            out[start + 2 * i] = weight[start + i]
            out[start + 2 * i + 1] = weight[start + half + i]
    return out


def write_gguf(
    path: Path,
    weights: Mapping[str, np.ndarray],
    shape: Shape,
    *,
    tensor_type: str = "F32",
    alignment: int = 32,
    extra: Mapping[str, np.ndarray] | None = None,
) -> Path:
    """Write Hugging Face weights as a GGUF file with tokenizer and chat template, and `extra` tensors as they are."""
    writer = GGUFWriter(path, shape.kind)
    writer.add_type("model")
    writer.add_name("Tiny")
    writer.add_custom_alignment(alignment)
    writer.add_file_type(FILE_TYPES[tensor_type])
    writer.add_quantization_version(2)
    writer.add_block_count(shape.layers)
    writer.add_context_length(1024)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.head)
    writer.add_vocab_size(shape.vocab)
    add_tokenizer(writer, shape.vocab)
    for name, weight in weights.items():
        rows = gguf_rows(name, weight, shape)
        kind = GGMLQuantizationType.F32 if rows.ndim == 1 else GGMLQuantizationType[tensor_type]
        writer.add_tensor(gguf_name(name), quantize(rows, kind), raw_dtype=kind)
    for name, tensor in (extra or {}).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@dataclass
class TinyAdapter:
    """A synthetic PEFT adapter: which layers, how large, and what its adapter_config.json says."""

    shape: Shape
    rank: int = 4
    alpha: float = 8
    size: float = 0.3  # of B; 0.02 is gentle enough for a taught model
    seed: int = 1
    modules: tuple[str, ...] = tuple(Shape().linear())
    config: dict[str, Any] = field(default_factory=dict)
    ranks: dict[str, int] = field(default_factory=dict)

    def tensors(self) -> Weights:
        """Draw A and B, both far from zero, under the names that PEFT saves."""
        draw = np.random.default_rng(self.seed)
        out: Weights = {}
        for layer in range(self.shape.layers):
            for name in self.modules:
                rows, columns = self.shape.linear()[name]
                rank = self.ranks.get(f"model.layers.{layer}.{name}", self.ranks.get(name.split(".")[1], self.rank))
                stem = f"base_model.model.model.layers.{layer}.{name}"
                a, b = draw.standard_normal((rank, columns)), draw.standard_normal((rows, rank))
                out[f"{stem}.lora_A.weight"] = (a / np.sqrt(columns)).astype(np.float32)
                out[f"{stem}.lora_B.weight"] = (self.size * b / np.sqrt(rank)).astype(np.float32)
        return out

    def write(self, folder: Path, extra: Mapping[str, np.ndarray] | None = None) -> Path:
        """Write adapter_config.json and adapter_model.safetensors and answer the folder."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "target_modules": sorted({name.split(".")[1] for name in self.modules}),
            "bias": "none",
            "base_model_name_or_path": "/home/somebody/secret/base",
            **self.config,
        }
        (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        save_file({**self.tensors(), **(extra or {})}, folder / "adapter_model.safetensors")
        return folder


def hf_model(weights: Mapping[str, np.ndarray], shape: Shape) -> Any:  # Any: transformers' classes are untyped
    """Build the transformers model with these weights, in F32, ready for PEFT."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    config_class, model_class = {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
    }[shape.kind]
    config = config_class(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        tie_word_embeddings=shape.tied,
    )
    model = model_class(config)
    state = {name: torch.from_numpy(weight.copy()) for name, weight in weights.items()}
    if shape.tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model.eval()
