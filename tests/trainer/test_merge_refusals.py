"""What merging refuses, and that no half file stays, whatever goes wrong."""

from __future__ import annotations

import os

import gguf
import numpy as np
import pytest

from tests.trainer.tiny import Shape, TinyAdapter, write_tiny_llama_gguf
from trainer import merge_gguf, quantize
from trainer.gguf_check import BadGguf, check
from trainer.lora_gguf import CannotConvert, convert_adapter
from trainer.merge_gguf import merge
from trainer.quantize import CannotEncode


@pytest.fixture
def base(tmp_path):
    return write_tiny_llama_gguf(tmp_path / "base.gguf", alignment=64)


@pytest.fixture
def adapter(tmp_path, base):
    folder = TinyAdapter(Shape(), modules=("self_attn.q_proj", "mlp.down_proj")).write(tmp_path / "adapter")
    convert_adapter(folder, check(base), tmp_path / "adapter.gguf", metadata={"curator.base_sha256": "ab" * 32})
    return tmp_path / "adapter.gguf"


def test_another_base_is_refused(base, adapter, tmp_path):
    narrow = write_tiny_llama_gguf(tmp_path / "narrow.gguf", hidden=32)
    qwen = write_tiny_llama_gguf(tmp_path / "qwen.gguf", kind="qwen2")
    out = tmp_path / "merged.gguf"

    with pytest.raises(CannotConvert, match="another base"):
        merge(narrow, adapter, out)
    with pytest.raises(CannotConvert, match="architecture 'llama' and the base is 'qwen2'"):
        merge(qwen, adapter, out)
    with pytest.raises(CannotConvert, match="another base"):
        merge(base, adapter, out, metadata={"curator.base_sha256": "cd" * 32})
    merge(base, adapter, out, metadata={"curator.base_sha256": "ab" * 32})


def test_a_model_as_adapter_and_an_unknown_type_are_refused(base, adapter, tmp_path):
    with pytest.raises(CannotConvert, match="not a LoRA adapter"):
        merge(base, base, tmp_path / "merged.gguf")
    with pytest.raises(CannotEncode, match="no tensor type 'Q9'"):
        merge(base, adapter, tmp_path / "merged.gguf", "Q9")
    with pytest.raises(BadGguf, match="no file"):
        merge(tmp_path / "missing.gguf", adapter, tmp_path / "merged.gguf")


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"blk.0.attn_q.weight.lora_a": (4, 64)}, "unexpected tensor"),
        ({"blk.0.attn_q.weight": (64, 64)}, "unexpected tensor"),
        ({"output_norm.weight.lora_a": (4, 64), "output_norm.weight.lora_b": (64, 4)}, "cannot be changed"),
        ({"token_embd.weight.lora_a": (4, 64), "token_embd.weight.lora_b": (384, 4)}, "cannot be changed"),
        ({"blk.0.attn_q.weight.lora_a": (4, 64), "blk.0.attn_q.weight.lora_b": (64, 3)}, "does not fit"),
        ({"blk.9.attn_q.weight.lora_a": (4, 64), "blk.9.attn_q.weight.lora_b": (64, 4)}, "does not have"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adapters_that_would_end_llama_cpp_are_refused(tensors, words, dtype, base, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "lora.gguf", "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for name, shape in tensors.items():
        writer.add_tensor(name, np.ones(shape, dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with pytest.raises(CannotConvert, match=words if dtype is np.float32 else f"{words}|of type F64"):
        merge(base, tmp_path / "lora.gguf", tmp_path / "merged.gguf")


def test_a_split_base_is_refused(base, adapter, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "part.gguf", "llama")
    writer.add_uint16("split.count", 2)
    writer.add_tensor("blk.0.attn_q.weight", np.ones((64, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with pytest.raises(BadGguf, match="split into 2 files"):
        merge(tmp_path / "part.gguf", adapter, tmp_path / "merged.gguf")


def test_the_base_is_never_overwritten(base, adapter, tmp_path):
    content = base.read_bytes()
    (tmp_path / "link.gguf").symlink_to(base)

    for out in (base, tmp_path / "link.gguf"):
        with pytest.raises(CannotConvert, match="overwrite its base"):
            merge(base, adapter, out)
    assert base.read_bytes() == content


def test_a_full_disk_passes_through_and_leaves_no_half_file(base, adapter, tmp_path, monkeypatch):
    out = tmp_path / "out" / "merged.gguf"
    out.parent.mkdir()
    whole = merge_gguf.write_tensor

    def full_after_three(file, tensor, pieces, alignment):
        if tensor.name == "blk.0.attn_q.weight":
            raise OSError(28, os.strerror(28))
        whole(file, tensor, pieces, alignment)

    monkeypatch.setattr(merge_gguf, "write_tensor", full_after_three)

    with pytest.raises(OSError, match="No space left"):
        merge(base, adapter, out)
    assert list(out.parent.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")  # noqa: PTH110 - a device, not a file of ours
def test_a_disk_that_is_really_full_leaves_no_half_file(base, adapter, tmp_path):
    out = tmp_path / "out" / "merged.gguf"
    out.parent.mkdir()
    (out.parent / ".merged.gguf.part").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left"):
        merge(base, adapter, out)
    assert list(out.parent.iterdir()) == []


def test_a_k_quant_without_ggml_is_refused_before_anything_is_written(base, adapter, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "ggml", lambda: None)

    with pytest.raises(CannotEncode, match="libggml-python"):
        merge(base, adapter, tmp_path / "merged.gguf", "Q4_K")
    assert not list(tmp_path.glob("*merged*"))
