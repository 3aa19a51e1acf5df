"""Kahneman-Tversky optimisation: single answers that people found good or bad, without a second one beside them.

Loss per answer: w·(1 − σ(β·(r − z))) where it is good and w·(1 − σ(β·(z − r))) where it is bad, with
r = log π(answer) − log π₀(answer), π₀ being the model as the run found it. The reference point z says how far π is
from π₀ at all: the mean of r over the prompts of the step, each with the answer to another of them; it is at least 0
and nothing is learnt from it (Ethayarajh et al., "KTO: Model Alignment as Prospect Theoretic Optimization", 2024,
equations 7 and 8). tests/trainer/test_kto_trl.py compares every step with trl's KTOTrainer.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor

from trainer.batches import Micro, laid_out
from trainer.batches import parts as cut
from trainer.data import Encoded
from trainer.loss import filler, log_probs
from trainer.teacher import Teacher


@dataclass(frozen=True)
class Judged:
    """Some answers that go through the model at once."""

    ids: tuple[str, ...]
    micro: Micro


def mismatched(examples: Sequence[Encoded], longest: int) -> list[Encoded]:
    """Answer each prompt with the answer to the one before it, as trl does; one prompt alone has no other answer.

    What would be longer than any example may be loses the end of its answer, so that it takes no more memory.
    """
    if len(examples) < 2:
        return []
    others = (examples[-1], *examples[:-1])
    return [
        Encoded(f"{one.id} {other.id}", (*one.ids[: one.start], *other.ids[other.start :])[:longest], one.start)
        for one, other in zip(examples, others, strict=True)
    ]


class JudgementTeacher(Teacher):
    """Learns from good and bad answers; everything else is as for approved ones."""

    def begin(self) -> None:
        """Keep the adapter that the run begins with, and measure with it all that is known to be asked of it."""
        super().begin()
        self.found = self._copied()
        bad = sum(example.id in self.data.bad for example in self.data.train)
        self.weights = self.spec.kto_weights(len(self.data.train) - bad, bad)
        self.reference = 0.0
        self.known: dict[str, float] = {}
        held_out = self.data.splits["val"]
        mine = list(self._parts(self._share([*self.data.train, *held_out, *self._mismatched(held_out)])))
        told = self._each("before", len(mine), lambda: self._measured(mine))
        self.known = {key: value for part in told for key, value in part.items()}

    def _collate(self, rows: list[dict[str, int]]) -> dict[str, Any]:  # Any: numbers and parts
        batch = [self.data.train[row["at"]] for row in rows]
        return super()._collate(rows) | {"mismatched": self._share(self._mismatched(batch))}

    def training_step(
        self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:  # Any: trl's own signature
        """Find the step's reference point, then learn."""
        self.reference = self._reference_point(inputs["mismatched"])
        return super().training_step(model, inputs, num_items_in_batch)

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Answer the loss per answer on the val split, whose prompts give it a reference point of its own."""
        model, held_out = cast(PeftModel, self.model), self.data.splits["val"]
        self.reference = self._reference_point(self._share(self._mismatched(held_out)))
        mine = list(self._parts(self._share(held_out)))
        model.eval()
        totals = self._each("held out", len(mine), lambda: sum(self._sum(model, part).item() for part in mine))
        model.train()
        return sum(totals) / max(1, len(held_out))

    def _counted(self, example: Encoded) -> int:  # noqa: ARG002 - an answer counts once, however long
        return 1

    def _sum(self, model: Any, part: Judged) -> Tensor:  # type: ignore[override]  # Any: a model, wrapped or not
        gained = self._gained(model, part)
        good = torch.tensor([key not in self.data.bad for key in part.ids], device=gained.device)
        margin = torch.where(good, gained - self.reference, self.reference - gained)
        weight = torch.where(good, *(gained.new_tensor(each) for each in self.weights))
        return (weight * torch.sigmoid(-self.spec.beta * margin)).sum()

    def _gained(self, model: Any, part: Judged) -> Tensor:  # Any: as above
        """Answer log π − log π₀ of each answer."""
        if self._is_known(part):
            before = torch.tensor([self.known[key] for key in part.ids], device=self.args.device)
        else:
            with torch.no_grad(), self._as_found():
                before = log_probs(model, part.micro)
        return log_probs(model, part.micro) - before

    def _is_known(self, part: Judged) -> bool:
        return all(key in self.known for key in part.ids)

    def _reference_point(self, examples: list[Encoded]) -> float:
        """Answer the mean of what the mismatched answers of all processes have gained, at least 0."""
        mine = list(self._parts(examples))
        walks = sum(1 if self._is_known(part) else 2 for part in mine)
        told = self._each("reference", walks, lambda: self._all_gained(mine))
        gained = [value for one in told for value in one]
        return max(0.0, sum(gained) / max(1, len(gained)))

    @torch.no_grad()
    def _all_gained(self, parts: list[Judged]) -> list[float]:
        model = cast(PeftModel, self.model)
        model.eval()
        with self.compute_loss_context_manager():
            found = [value for part in parts for value in self._gained(model, part).tolist()]
        model.train()
        return found

    @torch.no_grad()
    def _measured(self, parts: list[Judged]) -> dict[str, float]:
        model = cast(PeftModel, self.model)
        model.eval()
        found: dict[str, float] = {}
        with self.compute_loss_context_manager():
            for part in parts:
                found |= dict(zip(part.ids, log_probs(model, part.micro).tolist(), strict=True))
        model.train()
        return found

    @contextmanager
    def _as_found(self) -> Generator[None]:
        """Give the model the adapter that the run began with, for as long as the block takes."""
        model = cast(PeftModel, self.model)
        now, learning = self._copied(), model.training
        model.eval()
        self._put(self.found)
        try:
            yield
        finally:
            self._put(now)
            model.train(learning)

    def _copied(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self._learning()]

    def _put(self, values: list[Tensor]) -> None:
        """Write values into the adapter where it lies: whoever else holds its tensors sees the same."""
        for weight, value in zip(self._learning(), values, strict=True):
            weight.data.copy_(value)

    def _learning(self) -> list[torch.nn.Parameter]:
        return [weight for weight in cast(PeftModel, self.model).parameters() if weight.requires_grad]

    def _mismatched(self, examples: list[Encoded]) -> list[Encoded]:
        return mismatched(examples, self.spec.max_length)

    def _share(self, examples: list[Encoded]) -> list[Encoded]:
        return self.team.share(sorted(examples, key=self.data.length, reverse=True))

    def _parts(self, examples: list[Encoded]) -> Iterator[Judged]:
        pad = filler(cast(PeftModel, self.model), self.data.pad)
        for part in cut(examples, self.limits.micro_tokens, padded=pad is not None):
            yield Judged(tuple(example.id for example in part), laid_out(part, pad))
