"""A runtime that reads another prompt, or computes something else, is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from peft import PeftModel, get_peft_model

from tests.trainer.folders import example, make_run
from trainer.data import Encoder
from trainer.encoded import encoder_of
from trainer.loading import load_base
from trainer.parity import Parity, Tags, compare, next_logprobs
from trainer.spec import Message
from trainer.teacher import lora_config

pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:builtin type .* has no __module__ attribute:DeprecationWarning"  # SWIG types of sentencepiece
    ),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"  # PEFT asks transformers by an old name
    ),
]


@dataclass
class Mirror:
    """A runtime that answers what the trainer would, with the given errors."""

    model: PeftModel
    encoder: Encoder
    shift: float = 0.0
    mistake: float = 0.0  # of the file in which nothing is rounded
    untaught: float = 0.5
    extra: tuple[int, ...] = ()
    knows: bool = True

    def apply_template(self, tag: str, messages: Sequence[Message]) -> str:
        assert tag == "new"
        return self.encoder.render(messages, opening=True)

    def tokenize(self, tag: str, text: str) -> list[int]:
        assert tag == "new"
        return [*self.extra, *self.encoder.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def next_token_logprobs(self, tag: str, prompt: str | Sequence[int], top: int = 10) -> dict[int, float]:
        assert top >= 1
        assert not isinstance(prompt, str)
        likeliest = next_logprobs(self.model, prompt).topk(top)
        shift = {"new": self.shift, "merged": 4 * self.shift, "exact": self.mistake, "old": self.untaught}[tag]
        found = dict(zip(likeliest.indices.tolist(), likeliest.values.tolist(), strict=True))
        return {token if self.knows else token + 10_000: value + shift for token, value in found.items()}


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    run = make_run(tmp_path)
    base = load_base(run.base_gguf())
    base.model.name_or_path = "Tiny"
    return Mirror(get_peft_model(base.model, lora_config(run.spec(), base.model)), encoder_of(run))


def compared(mirror: Mirror) -> Parity:
    conversations = [example(n).messages[:1] for n in range(5)]
    return compare(mirror.model, mirror.encoder, mirror, Tags("new", "merged", "exact", "old"), conversations)


def test_a_faithful_runtime_passes(mirror: Mirror) -> None:
    found = compared(mirror)

    same = Parity(prompts=5, same_tokens=5, gap=0.0, top_gap=0.0, merged_gap=0.0, unrounded_gap=0.0, moved=0.5)
    assert found == same
    assert found.check().passed
    assert found.check().difference is None


def test_a_second_bos_is_noticed(mirror: Mirror) -> None:
    mirror.extra = (0,)

    found = compared(mirror)

    assert found.same_tokens == 0
    assert not found.check().passed
    assert found.difference is not None
    assert (found.difference.place, found.difference.before) == (0, "")
    assert found.difference.taught.startswith("<|im_start|>user")
    assert found.difference.served.startswith("<|endoftext|><|im_start|>user")
    assert found.difference.question == example(0).messages[0].content


def test_the_first_token_that_differs_is_shown_with_what_stands_before_it(mirror: Mirror) -> None:
    class Shorter(Mirror):
        def tokenize(self, tag: str, text: str) -> list[int]:
            return super().tokenize(tag, text)[:-3]

    found = compared(Shorter(mirror.model, mirror.encoder)).difference

    assert found is not None
    prompt = mirror.encoder.prompt(example(0).messages[:1])
    assert found.place == len(prompt) - 3
    assert mirror.encoder.tokenizer.decode(prompt).endswith(found.before + found.taught)
    assert found.served == ""


def test_without_rounding_a_hundredth_is_a_mistake(mirror: Mirror) -> None:
    mirror.mistake = 0.009
    assert compared(mirror).check().passed

    mirror.mistake = 0.011
    assert compared(mirror).gap == 0.0
    assert not compared(mirror).check().passed


def test_a_merged_type_of_few_bits_is_judged_by_held_out_questions_and_not_here() -> None:
    far = {"prompts": 3, "same_tokens": 3, "gap": 0.0, "merged_gap": 0.4}

    assert not Parity(**far).check().passed
    assert Parity(**far, coarse=True).check().passed


def test_other_logits_are_noticed(mirror: Mirror) -> None:
    mirror.shift = 0.06

    found = compared(mirror)

    assert found.gap == pytest.approx(0.06, abs=1e-5)
    assert found.top_gap == pytest.approx(0.06, abs=1e-5)
    assert found.merged_gap == pytest.approx(0.24, abs=1e-5)
    assert not found.check().passed


def test_a_runtime_with_another_favourite_is_infinitely_far_away(mirror: Mirror) -> None:
    mirror.knows = False

    assert compared(mirror).gap == float("inf")
    assert not compared(mirror).check().passed


def test_the_line_says_which_comparison_was_made(mirror: Mirror) -> None:
    assert "With no weight rounded, what comes next differs by 0.0000 nats" in compared(mirror).check().detail
    assert "not compared with no weight rounded" in Parity(prompts=3, same_tokens=3, gap=0.0).check().detail


def test_no_prompt_is_no_proof() -> None:
    assert not Parity(prompts=0, same_tokens=0, gap=0.0).check().passed


@pytest.mark.parametrize(("worst", "passed"), [(0.09, True), (0.11, False)])
def test_one_prompt_may_be_farther_off_than_the_mean_but_not_much(worst: float, passed: bool) -> None:
    assert Parity(prompts=3, same_tokens=3, gap=0.04, worst_gap=worst).check().passed == passed
