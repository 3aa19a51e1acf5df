"""Direct preference optimisation: pairs of a better and a worse answer to the same question.

Loss per pair: −log σ(β·((log π(better) − log π₀(better)) − (log π(worse) − log π₀(worse)))), π₀ being the model as the
run found it (Rafailov et al., "Direct Preference Optimization", 2023), plus `sft_weight` times the loss of the better
answer per token, without which its probability falls as well (Pang et al., "Iterative Reasoning Preference
Optimization", 2024). trl's DPOTrainer scores every position of both answers; here the loss of trainer/loss.py is used,
so a pair costs what its answers cost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn.functional import logsigmoid

from trainer.batches import Micro, laid_out
from trainer.data import Encoded
from trainer.loss import filler, log_probs
from trainer.teacher import Teacher


@dataclass(frozen=True)
class Pairs:
    """Some pairs that go through the model at once: first the better answers, then the worse."""

    ids: tuple[str, ...]
    micro: Micro
    better_tokens: Tensor


class PreferenceTeacher(Teacher):
    """Learns from pairs; everything else is as for approved answers."""

    def begin(self) -> None:
        """Measure what the model makes of all pairs before it learns."""
        super().begin()
        self.before = self._before([*self.data.train, *self.data.splits["val"]])

    def _counted(self, example: Encoded) -> int:  # noqa: ARG002 - a pair counts once, however long
        return 1

    def _sum(self, model: Any, part: Pairs) -> Tensor:  # type: ignore[override]  # Any: a model, wrapped or not
        return self._losses(model, part).sum()

    @torch.no_grad()
    def held_out_loss(self) -> float:
        """Answer the loss per pair on the val split."""
        model, held_out = cast(PeftModel, self.model), self.data.splits["val"]
        model.eval()
        mine = list(self._parts(self._share(held_out)))
        totals = self._each("held out", len(mine), lambda: sum(self._sum(model, part).item() for part in mine))
        model.train()
        return sum(totals) / max(1, len(held_out))

    def _losses(self, model: Any, part: Pairs) -> Tensor:  # Any: as above
        better, worse = log_probs(model, part.micro).chunk(2)
        before = torch.tensor([self.before[key] for key in part.ids], device=better.device)
        margin = (better - before[:, 0]) - (worse - before[:, 1])
        learnt = -better / part.better_tokens.to(better.device)
        return self.spec.sft_weight * learnt - logsigmoid(self.spec.beta * margin)

    def _before(self, examples: list[Encoded]) -> dict[str, tuple[float, float]]:
        """Answer log π₀ of both answers of each pair; a resumed run begins with the same π₀ and measures the same."""
        model = cast(PeftModel, self.model)
        model.eval()
        mine = list(self._parts(self._share(examples)))
        found = self._each("before", len(mine), lambda: self._measured(model, mine))
        model.train()
        return {key: both for part in found for key, both in part.items()}

    @torch.no_grad()
    def _measured(self, model: PeftModel, parts: list[Pairs]) -> dict[str, tuple[float, float]]:
        found: dict[str, tuple[float, float]] = {}
        for part in parts:
            better, worse = log_probs(model, part.micro).chunk(2)
            found |= dict(zip(part.ids, zip(better.tolist(), worse.tolist(), strict=True), strict=True))
        return found

    def _share(self, examples: list[Encoded]) -> list[Encoded]:
        return self.team.share(sorted(examples, key=self._width, reverse=True))

    def _parts(self, examples: list[Encoded]) -> Iterator[Pairs]:
        """Split pairs so that no part has more tokens than the limit; one long pair may."""
        part: list[Encoded] = []
        width = 0
        for example in sorted(examples, key=self._width, reverse=True):
            width = width or self._width(example)
            if part and width * 2 * (len(part) + 1) > self.limits.micro_tokens:
                yield self._laid_out(part)
                part, width = [], self._width(example)
            part.append(example)
        if part:
            yield self._laid_out(part)

    def _width(self, example: Encoded) -> int:
        return max(len(example.ids), len(self.data.rejected[example.id].ids))

    def _laid_out(self, part: list[Encoded]) -> Pairs:
        rows = [*part, *(self.data.rejected[example.id] for example in part)]
        tokens = torch.tensor([float(example.answer_tokens) for example in part])
        return Pairs(
            tuple(example.id for example in part),
            laid_out(rows, filler(cast(PeftModel, self.model), self.data.pad)),
            tokens,
        )
