"""Fast layers compute what the plain ones do, and leave the base as they found it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import scaled_dot_product_attention
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from tests.trainer.tiny import write_tiny_llama_gguf
from trainer.batches import Micro, micro_batches
from trainer.data import Encoded
from trainer.fast_attention import LONGEST, attend, rotate
from trainer.fast_layers import release, speed_up
from trainer.loading import load_base
from trainer.loss import answer_losses, filler
from trainer.recipe import LINEAR_LAYERS

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]


def taught(path: Path, config: LoraConfig, precision: str = "float32") -> PeftModel:
    """A model whose adapter already changes something."""
    base = load_base(write_tiny_llama_gguf(path), "bfloat16" if precision == "bfloat16" else "float32")
    torch.manual_seed(3)
    model = get_peft_model(base.model, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    return model  # type: ignore[return-value]  # PEFT's type is wider


def some_answers() -> Micro:
    examples = [Encoded(str(n), tuple(torch.randint(3, 300, (n,)).tolist()), n // 2) for n in (9, 14, 5)]
    (micro,) = micro_batches(examples, 1000, 0)
    return micro


@pytest.mark.parametrize("tied", [True, False])
def test_fast_layers_and_answer_loss_equal_the_plain_ones(tmp_path: Path, tied: bool) -> None:
    base = load_base(write_tiny_llama_gguf(tmp_path / "base.gguf", tied=tied))
    model = get_peft_model(base.model, LoraConfig(r=4, lora_alpha=8, target_modules=list(LINEAR_LAYERS)))
    torch.manual_seed(3)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    examples = [Encoded(str(n), tuple(torch.randint(3, 300, (n,)).tolist()), n // 2) for n in (9, 14, 5)]
    (micro,) = micro_batches(examples, 1000, 0)

    mask = (torch.arange(14) < torch.tensor([[14], [9], [5]])).long()
    plain = model(input_ids=micro.ids, attention_mask=mask, labels=micro.labels).loss
    plain.backward()
    expected = gradients(model)
    assert speed_up(model) == 14 + 2 + 2 + 5  # linear layers, blocks' attention and MLPs, norms
    found, _ = answer_losses(model, micro)
    found.mean().backward()

    assert abs(found.mean().item() - plain.item()) < 1e-5
    assert all(torch.allclose(g, expected[n], atol=1e-6, rtol=1e-4) for n, g in gradients(model).items())
    release(model)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("shared", [0, 7])
def test_examples_in_one_row_are_learnt_from_as_in_rows_of_their_own(tmp_path: Path, tied: bool, shared: int) -> None:
    torch.manual_seed(5)
    begin = tuple(range(3, 3 + shared))
    examples = [
        Encoded(str(n), begin + tuple(torch.randint(30, 300, (n,)).tolist()), shared + n // 2) for n in (9, 14, 2, 5)
    ]
    base = load_base(write_tiny_llama_gguf(tmp_path / "base.gguf", tied=tied))
    model = get_peft_model(base.model, LoraConfig(r=4, lora_alpha=8, target_modules=list(LINEAR_LAYERS)))
    speed_up(model)
    assert filler(model, 0) is None

    found: list[tuple[dict[str, float], dict[str, torch.Tensor]]] = []
    for pad in (0, None):
        (micro,) = micro_batches(examples, 1000, pad)
        assert micro.ids.numel() == (4 * (14 + shared) if pad == 0 else shared + 30)
        losses, owners = answer_losses(model, micro)
        losses.mean().backward()
        by_length = sorted(examples, key=lambda example: -len(example.ids))
        sums = torch.zeros(len(examples)).index_add_(0, owners, losses.detach())
        found.append((dict(zip((e.id for e in by_length), sums.tolist(), strict=True)), gradients(model)))
    (padded, expected), (row, gradient) = found

    assert row == pytest.approx(padded, abs=1e-4)
    assert all(torch.allclose(gradient[name], expected[name], atol=1e-6, rtol=1e-4) for name in expected)
    release(model)


def test_padding_stays_where_attention_is_not_ours(tmp_path: Path) -> None:
    model = load_base(write_tiny_llama_gguf(tmp_path / "base.gguf")).model

    assert filler(model, 7) == 7


def test_dropout_in_fast_layers_keeps_the_expected_update(tmp_path: Path) -> None:
    base = load_base(write_tiny_llama_gguf(tmp_path / "base.gguf"))
    config = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.5, target_modules=["q_proj"])
    model = get_peft_model(base.model, config)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    speed_up(model)
    x = torch.randn(1, 3, 64)
    model.eval()
    expected = layer(x) - layer.base_layer(x)
    model.train()
    mean = torch.stack([layer(x) - layer.base_layer(x) for _ in range(4000)]).mean(0)

    assert (mean - expected).abs().max() < 0.15 * expected.abs().max()
    model.unload()


@pytest.mark.parametrize("targets", [LINEAR_LAYERS, LINEAR_LAYERS[:4], ("down_proj",)])
def test_bfloat16_comes_near_float32(tmp_path: Path, targets: tuple[str, ...]) -> None:
    config, micro = LoraConfig(r=4, lora_alpha=8, target_modules=list(targets)), some_answers()
    found: list[float] = []
    for precision in ("float32", "bfloat16"):
        model = taught(tmp_path / f"{precision}.gguf", config, precision)
        speed_up(model)
        losses, _ = answer_losses(model, micro)
        losses.mean().backward()
        assert all(grad.dtype == torch.float32 and grad.isfinite().all() for grad in gradients(model).values())
        found.append(losses.mean().item())
        release(model)

    assert found[1] == pytest.approx(found[0], rel=0.01)


def test_the_base_is_as_it_was_once_the_adapter_is_taken_away(tmp_path: Path) -> None:
    micro = some_answers()
    base = load_base(write_tiny_llama_gguf(tmp_path / "base.gguf")).model
    before, _ = answer_losses(base, micro)
    model = taught(tmp_path / "base.gguf", LoraConfig(r=4, lora_alpha=8, target_modules=list(LINEAR_LAYERS)))
    speed_up(model)
    assert not torch.equal(answer_losses(model, micro)[0], before)

    release(model)

    assert torch.equal(answer_losses(base, micro)[0], before)
    assert base.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "lengths",
    [(0, 1), (0, 2, 7), (0, LONGEST, 3), (0, LONGEST + 1, 5), (4, 2, 7), (LONGEST + 1, 3, 9), (6, LONGEST + 1, 5)],
    ids=str,
)
@pytest.mark.parametrize("shared", [1, 3])
def test_attention_equals_torchs_own_in_each_text(lengths: tuple[int, ...], shared: int) -> None:
    torch.manual_seed(len(lengths))
    sides = [torch.randn(sum(lengths), heads, 8, requires_grad=True) for heads in (6, 6 // shared, 6 // shared)]
    weight = torch.randn(sum(lengths), 6, 8)

    (begin, *texts) = zip(*(side.split(lengths) for side in sides), strict=True)
    whole = [[torch.cat(both).transpose(0, 1)[None] for both in zip(begin, text, strict=True)] for text in texts]
    attended = [
        scaled_dot_product_attention(*text, is_causal=True, enable_gqa=True)[0].transpose(0, 1) for text in whole
    ]
    expected = torch.cat([attended[0][: lengths[0]], *(text[lengths[0] :] for text in attended)])
    wanted = torch.autograd.grad((expected * weight).sum(), sides)
    found = attend(*sides, lengths, 8**-0.5)

    assert torch.allclose(found, expected, atol=1e-5)
    for gradient, known in zip(torch.autograd.grad((found * weight).sum(), sides), wanted, strict=True):
        assert torch.allclose(gradient, known, atol=1e-4)


def test_rotation_equals_transformers_own() -> None:
    x, angles = torch.randn(5, 3, 8, requires_grad=True), torch.randn(5, 4)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    weight = torch.randn(5, 3, 8)

    expected, _ = apply_rotary_pos_emb(x, x, cos, sin, unsqueeze_dim=1)
    found = rotate(x, cos, sin)

    assert torch.allclose(found, expected, atol=1e-6)
    (gradient,), (known,) = (torch.autograd.grad((one * weight).sum(), x) for one in (found, expected))
    assert torch.allclose(gradient, known, atol=1e-6)


def gradients(model: PeftModel) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found
