"""Spread a frozen base over the processes that teach together: each holds a slice of every block (FSDP, ZeRO-3).

A block is put together from all slices just before it computes, forward and back, in one of two buffers that the
blocks take in turn, and the next one is on its way meanwhile. Frozen weights have no gradients and no optimiser, so
this is all there is to it. The adapter, the embedding and the output layer are whole in every process.

Putting a block together takes everybody. So it is agreed how often the model is gone through, and every process walks
this path to its end: who has less to compute walks the rest with empty hands, so does who failed, and then they meet.
docs/decisions/0014-several-cards.md says why this is not torch's `fully_shard`.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from trainer.failures import TrainerFailure
from trainer.gguf_check import check
from trainer.loading import Base, load_base, load_tokenizer
from trainer.progress import Journal
from trainer.ranks import Rank
from trainer.rundir import RunDir
from trainer.team import Lost, Team

T = TypeVar("T")

ALIGNED = 256  # bytes: where weights begin, so that products on any device are at full speed
BUFFERS = 2


@dataclass(frozen=True)
class Outline:
    """What the others must know of a base that one process has loaded: its shape, and each tensor's number type."""

    config: PreTrainedConfig
    kinds: dict[str, torch.dtype]


class Shards:
    """The blocks of a base as slices, and the walk through them; `fill` has to be called once before."""

    def __init__(self, model: PreTrainedModel, team: Team) -> None:
        self.team = team
        self.model = model
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._sizes = [_up(_laid_out(block)[1], ALIGNED * team.rank.of) for block in blocks_of(model)]
        self._slices = [self._bytes(size // team.rank.of) for size in self._sizes]
        self._buffers = [self._bytes(max(self._sizes)) for _ in range(BUFFERS)]
        self._others = self._outside()
        self._staged = torch.zeros(max(self._sizes), dtype=torch.uint8)
        self._held: list[int | None] = [None] * BUFFERS
        self._coming: dict[int, Any] = {}  # Any: torch's handle of a message has no public type
        self._path: deque[int] = deque()
        self._at: int | None = None

    @property
    def nbytes(self) -> int:
        """Answer how many bytes of the base's blocks this process holds for good."""
        return sum(mine.nbytes for mine in self._slices)

    def fill(self) -> None:
        """Deal the first process's weights out, block by block, and let the model use what was dealt."""
        owners = _owners(self.model)
        for number, block in enumerate(blocks_of(self.model)):
            self._deal(number, block)
            buffer = self._buffers[number % BUFFERS]
            for weight, start in _laid_out(block)[0]:
                view = buffer[start : start + weight.nbytes].view(weight.dtype).view(weight.shape)
                # `data` is not told of what is written here later; whenever a block computes, it is as it was
                _put(owners.pop(weight), _like(weight, view.data))
            block.register_forward_pre_hook(self._before(number))
            block.register_forward_hook(self._behind(number))
        for tensor, whole in self._others:
            self._copy(tensor, whole)
            _put(owners.pop(tensor), _like(tensor, whole))
        del self._staged, self._others

    def walked(self, work: Callable[[], T], times: int, *, back: bool) -> T:
        """Do work that goes through the model up to `times` times, forth and perhaps `back`, as all others do."""
        forth = [*range(len(self._slices))]
        once = [*forth, *reversed(forth)] if back else forth
        self._path = deque(number for number, _ in groupby(once * times))
        try:
            return work()
        except Lost:
            self._path.clear()
            raise
        except Exception as error:
            traceback.clear_frames(error.__traceback__)  # what failed lets go of its memory before the walk goes on
            raise
        finally:
            while self._path:
                self._step()
            self._at = None

    def _bytes(self, count: int) -> Tensor:
        return torch.zeros(count, dtype=torch.uint8, device=self.device)

    def _outside(self) -> list[tuple[Tensor, Tensor]]:
        """Answer every tensor that is in no slice, and the room for it on the card that teaches."""
        sliced = {weight for block in blocks_of(self.model) for weight in block.parameters()}
        whole = [tensor for tensor in _owners(self.model) if tensor not in sliced]
        return [(tensor, torch.empty(tensor.shape, dtype=tensor.dtype, device=self.device)) for tensor in whole]

    def _deal(self, number: int, block: nn.Module) -> None:
        mine, whole = torch.empty_like(self._slices[number], device="cpu"), self._staged[: self._sizes[number]]
        if self.team.rank.leads:
            for weight, start in _laid_out(block)[0]:
                whole[start : start + weight.nbytes] = _bytes(weight)
        with self.team.speaking():
            dist.scatter(mine, list(whole.chunk(self.team.rank.of)) if self.team.rank.leads else None)
        self._slices[number].copy_(mine)

    def _copy(self, tensor: Tensor, whole: Tensor) -> None:
        """Give every process what the first one's tensor holds."""
        heard = _bytes(tensor) if self.team.rank.leads else torch.empty(tensor.nbytes, dtype=torch.uint8)
        with self.team.speaking():
            dist.broadcast(heard, 0)
        whole.copy_(heard.view(whole.dtype).view(whole.shape))

    def _before(self, number: int) -> Callable[..., None]:
        def turn(*_call: object) -> None:
            self._turn_to(number)

        return turn

    def _behind(self, number: int) -> Callable[[nn.Module, object, Any], None]:  # Any: what a block answers
        def turn_when_it_comes_back(_module: nn.Module, _inputs: object, output: Any) -> None:  # Any: as above
            hidden: Tensor = output[0] if isinstance(output, tuple) else output
            if hidden.requires_grad:
                hidden.register_hook(self._before(number))

        return turn_when_it_comes_back

    def _turn_to(self, number: int) -> None:
        while self._at != number:
            if not self._path:
                raise RuntimeError(f"block {number} of a sharded base is needed beyond the walk that was agreed on")
            self._step()

    def _step(self) -> None:
        number = self._path.popleft()
        self._send_for(number)
        with self.team.speaking():
            if coming := self._coming.pop(number % BUFFERS, None):
                coming.wait()
        self._at = number
        if self._path and self._path[0] % BUFFERS != number % BUFFERS:
            self._send_for(self._path[0])

    def _send_for(self, number: int) -> None:
        """Begin to put a block together, unless it still lies in its buffer."""
        slot = number % BUFFERS
        if self._held[slot] != number:
            self._held[slot], whole = number, self._buffers[slot][: self._sizes[number]]
            with self.team.speaking():
                self._coming[slot] = dist.all_gather_single(whole, self._slices[number], async_op=True)


def wants_shards(run: RunDir, rank: Rank) -> bool:
    """Tell whether the base is to be spread: as recipe or `accelerate launch` asks, else as the plan found needed."""
    spec, plan = run.spec(), run.plan()
    wanted = rank.fsdp or spec.sharding == "on" or (spec.sharding == "auto" and bool(plan and plan.sharded))
    if wanted and spec.base_bits == 4:
        raise TrainerFailure(
            "input",
            "The base is to be spread over the cards and to be held in 4 bits, which does not go together. Set "
            "base_bits to 16, or sharding to off and leave --use_fsdp away.",
        )
    return wanted and rank.of > 1


def load_sharded(run: RunDir, team: Team) -> Base:
    """Load a base in one process and spread it over all; the others never hold the whole of it."""

    def loaded() -> PreTrainedModel:
        base = load_base(run.base_gguf(), run.precision(), run.base_folder())
        load_base.cache_clear()  # nobody else may get a base that others hold with us
        return base.model

    whole = team.together("base", lambda: loaded() if team.rank.leads else None)
    shards, path = spread(whole, team), run.base_gguf()
    Journal(run, "train", silent=not team.rank.leads).stage(
        f"The base is spread over {team.rank.of} processes; each keeps {shards.nbytes / 1e9:.2f} GB of its blocks."
    )
    return Base(check(path, whole=True), load_tokenizer(path), shards.model, shards)


def spread(whole: PreTrainedModel | None, team: Team) -> Shards:
    """Spread a model that the first process has over all of them; each has its own in `model` then."""

    def outlined() -> Outline | None:
        return Outline(whole.config, {name: tensor.dtype for name, tensor in _tensors(whole)}) if whole else None

    outline = team.lead("outline", outlined)
    model = team.together("empty", lambda: whole or _empty(cast(Outline, outline)))
    shards = team.together("room", lambda: Shards(model, team))
    team.together("slices", shards.fill)
    return shards


def blocks_of(model: PreTrainedModel) -> list[nn.Module]:
    """Answer a model's blocks, in the order they compute in."""
    decoder = cast(Any, model.base_model)  # Any: every decoder has them, and no class in common
    return list(decoder.h if hasattr(decoder, "h") else decoder.layers)  # GPT-2 calls them h


def bytes_held(model: PreTrainedModel, processes: int) -> int:
    """Answer the bytes of weights in each of so many processes; one alone holds the whole base."""
    whole = sum(weight.nbytes for weight in model.parameters())
    if processes == 1:
        return whole
    blocks = [sum(weight.nbytes for weight in block.parameters()) for block in blocks_of(model)]
    return whole - sum(blocks) + sum(blocks) // processes + BUFFERS * max(blocks)


def _empty(outline: Outline) -> PreTrainedModel:
    """Answer a model without any weights, of which slices can be received."""
    with torch.device("meta"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(outline.config)
    names = {tensor: name for name, tensor in _tensors(model)}
    for tensor, places in _owners(model).items():
        _put(places, _like(tensor, tensor.to(outline.kinds[names[tensor]])))
    return model


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _owners(model: nn.Module) -> dict[Tensor, list[tuple[nn.Module, str]]]:
    """Answer where each weight and buffer hangs, in the model's order; a tied one hangs in several places."""
    found: dict[Tensor, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            found.setdefault(tensor, []).append((module, name))
    return found


def _like(known: Tensor, tensor: Tensor) -> Tensor:
    """Answer a tensor as a frozen weight where a known one is a weight, else as it is."""
    return nn.Parameter(tensor, requires_grad=False) if isinstance(known, nn.Parameter) else tensor


def _laid_out(block: nn.Module) -> tuple[list[tuple[nn.Parameter, int]], int]:
    """Answer where each weight of a block begins when all lie one behind the other, and the bytes of all."""
    found: list[tuple[nn.Parameter, int]] = []
    size = 0
    for weight in block.parameters():
        found.append((weight, size))
        size += _up(weight.nbytes, ALIGNED)
    return found, size


def _put(places: list[tuple[nn.Module, str]], tensor: Tensor) -> None:
    for module, name in places:
        setattr(module, name, tensor)


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _up(size: int, step: int) -> int:
    return -(-size // step) * step
