"""Every architecture of the table, on a tiny model of it: against PEFT, and (slow) against llama.cpp."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from tests.trainer.llamacpp import largest_gap, next_token_logprobs
from tests.trainer.test_llamacpp_agreement import PROMPTS, peft_logprobs
from tests.trainer.tiny_archs import MODELS, arch_of
from tests.trainer.tiny_models import as_gguf, tiny, write_adapter, write_base
from trainer.archs import PARTS, PERMUTES, permute
from trainer.gguf_check import check
from trainer.lora_gguf import CannotConvert, convert_adapter
from trainer.merge_gguf import MergeReport, merge

pytest.importorskip("peft")

# peft 0.21 still asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

# q and k in tensors of their own, with one number of heads for all blocks
APART = [key for key in MODELS if key not in ("phi3", "gpt2", "lfm2")]
CLOSE = {"atol": 2e-6, "rtol": 1e-5}


@pytest.fixture(params=MODELS)
def taught(request, tmp_path):
    """A family, its base file and an adapter that PEFT saved."""
    key = request.param
    base = write_base(tmp_path / "base.gguf", tiny(key), key)
    return key, base, write_adapter(tmp_path / "adapter", tiny(key))


def merged_and_expected(
    key: str, base: Path, adapter: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], MergeReport]:
    """Give the tensors of our merged file, those of PEFT's own merged model, and the report."""
    from peft import PeftModel

    out = base.with_name("merged.gguf")
    report = merge(base, adapter, out, "F32")
    expected = as_gguf(PeftModel.from_pretrained(tiny(key), adapter).merge_and_unload(), key)
    return {t.name: t.data for t in gguf.GGUFReader(out).tensors}, expected, report


def test_merged_weights_are_those_that_peft_merges(taught):
    key, base, adapter = taught

    merged, expected, report = merged_and_expected(key, base, adapter)

    assert set(merged) == set(expected)
    for name, weight in merged.items():
        np.testing.assert_allclose(weight, expected[name], **CLOSE, err_msg=name)
    assert report.touched == MODELS[key].layers


@pytest.mark.parametrize("key", APART)
def test_the_other_answer_to_whether_rows_are_permuted_is_noticed(key, tmp_path, monkeypatch):
    base, adapter = write_base(tmp_path / "base.gguf", tiny(key), key), write_adapter(tmp_path / "a", tiny(key))
    monkeypatch.setitem(PERMUTES, arch_of(key), not PERMUTES[arch_of(key)])

    merged, expected, _ = merged_and_expected(key, base, adapter)

    wrong = {name.split(".", 2)[2] for name in merged if not np.allclose(merged[name], expected[name], atol=1e-3)}
    assert wrong == {"attn_q.weight", "attn_k.weight"}


def test_the_halves_of_a_layer_the_wrong_way_round_are_noticed(tmp_path, monkeypatch):
    key = "granite 4"
    base, adapter = write_base(tmp_path / "base.gguf", tiny(key), key), write_adapter(tmp_path / "a", tiny(key))
    monkeypatch.setitem(PARTS["granite"], "shared_mlp.input_linear", ("ffn_up", "ffn_gate"))

    merged, expected, _ = merged_and_expected(key, base, adapter)

    wrong = {name.split(".", 2)[2] for name in merged if not np.allclose(merged[name], expected[name], atol=1e-3)}
    assert wrong == {"ffn_gate.weight", "ffn_up.weight"}


def test_an_update_that_does_not_halve_is_refused(tmp_path):
    from safetensors.numpy import load_file, save_file

    key = "granite 4"
    base, adapter = write_base(tmp_path / "base.gguf", tiny(key), key), write_adapter(tmp_path / "a", tiny(key))
    file = adapter / "adapter_model.safetensors"
    halves = load_file(file)
    odd = next(name for name in halves if name.endswith("input_linear.lora_B.weight"))
    save_file({**halves, odd: halves[odd][:-1].copy()}, file)

    with pytest.raises(CannotConvert, match=r"does not fit the base's .* choose that one\."):
        convert_adapter(adapter, check(base), tmp_path / "adapter.gguf")
    assert not (tmp_path / "adapter.gguf").exists()


@pytest.mark.slow
def test_llama_cpp_agrees_with_peft(taught, tmp_path):
    pytest.importorskip("xllamacpp")
    key, base, adapter = taught
    lora = tmp_path / "adapter.gguf"
    convert_adapter(adapter, check(base), lora)

    expected = peft_logprobs(tiny(key), adapter, PROMPTS)

    assert largest_gap(expected, next_token_logprobs(base, PROMPTS, lora, top=384)) < 0.005
    assert largest_gap(expected, next_token_logprobs(base, PROMPTS, top=384)) > 0.1


def test_permuting_interleaves_the_halves_of_every_head():
    rows = np.arange(8, dtype=np.float32)[:, None]

    assert permute(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_every_architecture_of_the_table_is_tried_here():
    assert set(PERMUTES) == {arch_of(key) for key in MODELS}
