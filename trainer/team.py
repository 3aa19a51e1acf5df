"""The processes that teach one run together, each on its own card: how they share the work and stay of one mind.

Every process holds the whole state of the run and takes each optimiser step itself. What travels is the sum of the
adapter's gradients, once a step, and a word at each meeting: whether somebody was asked to stop, whether somebody
failed, and what each found. So all of them stop, fail and go on at the same place, and nobody waits for one that left.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from trainer.failures import TrainerFailure, explain
from trainer.guide import Stop
from trainer.ranks import Rank
from trainer.spec import FailureClass

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)  # the longest that one may take for a step, a measurement or a checkpoint
LOST = (
    "One of the {size} processes that teach together ended without a word or answered no more; mostly memory ran out. "
    "Close other programs, or choose a smaller base or shorter examples, and start the run again: it goes on from its "
    "last checkpoint."
)


class Lost(TrainerFailure):
    """One of the team is gone, so nothing can be asked of the others any more."""

    def __init__(self, size: int) -> None:
        super().__init__("internal", LOST.format(size=size))


Said = tuple[str, bool, tuple[FailureClass, str] | None, Any]
"""At which meeting, whether one was asked to stop, how one failed, and what one found."""


def never() -> bool:
    """Answer False: nobody asks to stop."""
    return False


class Team:
    """All processes of a run; alone, this one, and then nothing here costs anything."""

    def __init__(self, stop: Stop = never, rank: Rank | None = None) -> None:
        self.rank = rank or Rank()
        self._stop = stop
        self._asked = False

    @property
    def alone(self) -> bool:
        return self.rank.of == 1

    def stop(self) -> bool:
        """Tell whether the run was asked to stop; of several, as was known when they met last."""
        return self._stop() if self.alone else self._asked

    def share(self, items: Sequence[T]) -> list[T]:
        """Answer this process's part of something; sorted by size it is dealt out evenly."""
        return list(items[self.rank.number :: self.rank.of])

    def each(self, meeting: str, work: Callable[[], T]) -> list[T]:
        """Do some work in every process, and answer what each found. When one fails, all fail with its sentence."""
        if self.alone:
            return [work()]
        found, error = None, None
        try:
            found = work()
        except Lost:
            raise
        except Exception as caught:  # told to all, then raised again
            error = caught
        all_said = self._tell((meeting, self._stop(), explain(error) if error else None, found))
        self._asked = self._asked or any(asked for _, asked, _, _ in all_said)
        if error:
            raise error
        for _, _, failure, _ in all_said:
            if failure:
                raise TrainerFailure(*failure)
        if any(where != meeting for where, _, _, _ in all_said):
            raise Lost(self.rank.of)
        return [one for _, _, _, one in all_said]

    def together(self, meeting: str, work: Callable[[], T]) -> T:
        """Do some work in every process, and answer what this one found; when one fails, all fail."""
        mine: list[T] = []

        def kept() -> None:
            mine.append(work())

        self.each(meeting, kept)
        return mine[0]

    def lead(self, meeting: str, work: Callable[[], T]) -> T | None:
        """Let one process do what only one may, such as writing, and answer in all what it found."""

        def led() -> T | None:
            return work() if self.rank.leads else None

        return self.each(meeting, led)[0]

    @contextmanager
    def speaking(self) -> Generator[None]:
        """Say in a sentence that somebody is gone when a message does not get through."""
        try:
            yield
        except RuntimeError as error:
            raise Lost(self.rank.of) from error

    def begin_alike(self, model: nn.Module) -> None:
        """Give everybody the first one's adapter, whatever their random numbers were."""
        if not self.alone:
            weights = [weight.data for weight in _taught(model)]
            self._travel(weights, partial(dist.broadcast, src=0))

    def add_up_gradients(self, model: nn.Module) -> None:
        """Put the sum over all processes in the place of each gradient of the adapter, in one message."""
        if self.alone:
            return
        for weight in _taught(model):
            weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
        self._travel([weight.grad for weight in _taught(model) if weight.grad is not None], dist.all_reduce)

    def _travel(self, tensors: list[Tensor], how: Callable[[Tensor], object]) -> None:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        with self.speaking():
            how(flat)
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def _tell(self, said: Said) -> list[Said]:
        heard: list[Any] = [None] * self.rank.of  # Any: filled in by torch
        with self.speaking():
            dist.all_gather_object(heard, said)
        return heard


def _taught(model: nn.Module) -> Iterable[nn.Parameter]:
    return [weight for weight in model.parameters() if weight.requires_grad]


@contextmanager
def joined(rank: Rank, stop: Stop) -> Generator[Team]:
    """Meet the others, and leave in peace when all is done; raises TrainerFailure when not all are of one kind."""
    team = Team(stop, rank)
    if team.alone:
        yield team
        return
    card = torch.cuda.is_available()
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if card else "gloo",
        init_method=f"tcp://{rank.meeting}",
        rank=rank.number,
        world_size=rank.of,
        timeout=PATIENCE,
    )
    if len(set(team.each("card", lambda: card))) > 1:
        raise TrainerFailure(
            "input",
            f"{rank.of} processes are asked to teach together, and there is not a graphics card for each. Ask for as "
            "many processes as there are cards.",
        )
    yield team
    dist.destroy_process_group()  # only here: after a failure it could wait for one that is gone
