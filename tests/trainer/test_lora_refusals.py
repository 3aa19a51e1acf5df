"""What the adapter converter refuses, each with a sentence and without leaving a file."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.trainer.tiny import Shape, TinyAdapter, write_tiny_llama_gguf
from trainer.gguf_check import check
from trainer.lora_gguf import CannotConvert, convert_adapter

SHAPE = Shape()


@pytest.fixture
def base(tmp_path):
    return check(write_tiny_llama_gguf(tmp_path / "base.gguf"))


STEM = "base_model.model.model.layers.0.self_attn.q_proj"
CONFIGS = {
    "DoRA": ({"use_dora": True}, "DoRA"),
    "whole layers": ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
    "tokens": ({"trainable_token_indices": [0]}, "retrained tokens"),
    "parameters": ({"target_parameters": ["mlp.experts"]}, "bare parameters"),
    "biases in LoRA": ({"lora_bias": True}, "lora_bias"),
    "biases": ({"bias": "all"}, "retrained biases"),
    "activated LoRA": ({"alora_invocation_tokens": [1, 2]}, "activated"),
    "PiSSA": ({"init_lora_weights": "pissa"}, "changes the base"),
    "AdaLoRA": ({"peft_type": "ADALORA"}, "type ADALORA"),
    "unheard of": ({"use_magic": True}, "option use_magic"),
    "another rank": ({"r": 5}, "rank 4 and its settings say 5"),
    "rank 0": ({"r": 0}, "below 1"),
    "alpha NaN": ({"lora_alpha": float("nan")}, "not readable"),
    "broken pattern": ({"rank_pattern": {"(": 4}}, "pattern"),
}
TENSORS = {
    "magnitude": ({f"{STEM}.lora_magnitude_vector": np.ones(64, np.float32)}, "DoRA"),
    "lm_head": ({"base_model.model.lm_head.lora_A.weight": np.ones((4, 64), np.float32)}, "output layer"),
    "embedding": ({"base_model.model.model.embed_tokens.lora_embedding_A": np.ones((4, 384), np.float32)}, "embedding"),
    "saved embedding": ({"base_model.model.model.embed_tokens.weight": np.ones((4, 64), np.float32)}, "embedding"),
    "bias": ({f"{STEM}.lora_B.bias": np.ones(64, np.float32)}, "biases"),
    "unexpected": ({f"{STEM}.ia3_l": np.ones(64, np.float32)}, "unexpected tensor"),
    "NaN": ({f"{STEM}.lora_A.weight": np.full((4, 64), np.nan, np.float32)}, "diverged"),
    "infinity": ({f"{STEM}.lora_B.weight": np.full((64, 4), np.inf, np.float32)}, "diverged"),
    "integers": ({f"{STEM}.lora_A.weight": np.ones((4, 64), np.int32)}, "type I32"),
    "too wide": ({f"{STEM}.lora_A.weight": np.ones((4, 96), np.float32)}, "another base"),
    "ranks differ": ({f"{STEM}.lora_B.weight": np.ones((64, 3), np.float32)}, "another base"),
    "unknown layer": (
        {
            "base_model.model.model.layers.0.mlp.magic.lora_A.weight": np.ones((4, 64), np.float32),
            "base_model.model.model.layers.0.mlp.magic.lora_B.weight": np.ones((64, 4), np.float32),
        },
        "unknown for the architecture 'llama'",
    ),
    "an expert": (
        {
            "base_model.model.model.layers.0.block_sparse_moe.experts.0.w1.lora_A.weight": np.ones((4, 64), np.float32),
            "base_model.model.model.layers.0.block_sparse_moe.experts.0.w1.lora_B.weight": np.ones((64, 4), np.float32),
        },
        "unknown for the architecture 'llama'",
    ),
    "half a pair": ({"base_model.model.model.layers.1.mlp.x.lora_A.weight": np.ones((4, 64), np.float32)}, "one half"),
}


def assert_refused(folder, base, out, words):
    with pytest.raises(CannotConvert, match=words) as refusal:
        convert_adapter(folder, base, out)
    assert str(refusal.value).endswith(".")
    assert not list(out.parent.glob("*adapter.gguf*"))


@pytest.mark.parametrize("case", CONFIGS)
def test_settings_that_cannot_be_said_in_gguf_are_refused(case, base, tmp_path):
    config, words = CONFIGS[case]

    assert_refused(
        TinyAdapter(SHAPE, config=config).write(tmp_path / "adapter"), base, tmp_path / "adapter.gguf", words
    )


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_cannot_be_said_in_gguf_are_refused(case, base, tmp_path):
    extra, words = TENSORS[case]

    assert_refused(TinyAdapter(SHAPE).write(tmp_path / "adapter", extra), base, tmp_path / "adapter.gguf", words)


def test_another_base_is_refused(tmp_path):
    folder = TinyAdapter(SHAPE).write(tmp_path / "adapter")
    narrow = check(write_tiny_llama_gguf(tmp_path / "narrow.gguf", hidden=32))
    shallow = check(write_tiny_llama_gguf(tmp_path / "shallow.gguf", layers=1))

    assert_refused(folder, narrow, tmp_path / "adapter.gguf", "another base")
    assert_refused(folder, shallow, tmp_path / "adapter.gguf", "unknown for the architecture")


def test_an_unknown_architecture_and_an_adapter_as_base_are_refused(base, tmp_path):
    folder = TinyAdapter(SHAPE).write(tmp_path / "folder")
    content = (tmp_path / "base.gguf").read_bytes()
    (tmp_path / "other.gguf").write_bytes(content.replace(b"llama", b"mamba"))
    convert_adapter(folder, base, tmp_path / "lora.gguf")

    assert_refused(folder, check(tmp_path / "other.gguf"), tmp_path / "adapter.gguf", "'mamba' cannot be converted")
    assert_refused(folder, check(tmp_path / "lora.gguf"), tmp_path / "adapter.gguf", "Choose the base")


def test_missing_and_damaged_files_are_refused(base, tmp_path):
    out = tmp_path / "adapter.gguf"
    folder = tmp_path / "folder"
    folder.mkdir()
    assert_refused(folder, base, out, "no adapter_config.json")
    TinyAdapter(SHAPE).write(folder)
    weights = folder / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    assert_refused(folder, base, out, "damaged")
    weights.unlink()
    assert_refused(folder, base, out, "no adapter_model.safetensors")
    save_file({}, weights)
    assert_refused(folder, base, out, "empty")
    weights.write_bytes(whole)
    (folder / "adapter_config.json").write_text("[1, 2")
    assert_refused(folder, base, out, "not readable")


def test_an_update_too_large_for_f16_is_refused(base, tmp_path):
    folder = TinyAdapter(SHAPE).write(tmp_path / "a", {f"{STEM}.lora_B.weight": np.full((64, 4), 1e5, np.float32)})

    with pytest.raises(CannotConvert, match="too large for F16"):
        convert_adapter(folder, base, tmp_path / "adapter.gguf", "F16")
    assert not (tmp_path / "adapter.gguf").exists()
