"""Which of the processes that teach together this one is.

`accelerate launch` and torchrun say it in the environment. It is read once and then hidden, because transformers and
accelerate would each divide the work again (docs/decisions/0014-several-cards.md). Imports no torch: the card must be
chosen before it looks.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass

TOLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
CARDS = "CUDA_VISIBLE_DEVICES"
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Rank:
    """A process by its number among those that teach together; alone it is the first of one."""

    number: int = 0
    of: int = 1
    here: int = 1
    """How many of them are on this machine."""
    meeting: str = ""
    """Where they find each other, as host:port."""
    fsdp: bool = False
    """Whether `accelerate launch` was asked to spread the base over the processes."""

    @property
    def leads(self) -> bool:
        """Tell whether this is the one that writes."""
        return self.number == 0


def rank_of_this_process() -> Rank:
    """Answer which process this is, give it its own card, and tie its life to that of whoever started it."""
    told = {name: os.environ.pop(name, "") for name in TOLD}
    if int(told["WORLD_SIZE"] or 1) < 2:
        return Rank()
    fsdp = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    for name in [name for name in os.environ if name.startswith("ACCELERATE_")]:
        del os.environ[name]  # a precision or a plug-in chosen there would change the run behind its recipe
    local = int(told["LOCAL_RANK"])
    cards = os.environ[CARDS].split(",") if os.environ.get(CARDS) else []
    os.environ[CARDS] = cards[local] if local < len(cards) else "" if CARDS in os.environ else str(local)
    if sys.platform == "linux":  # torch gives each a session of its own, which a signal to the group does not reach
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    meeting = f"{told['MASTER_ADDR']}:{told['MASTER_PORT']}"
    return Rank(int(told["RANK"]), int(told["WORLD_SIZE"]), int(told["LOCAL_WORLD_SIZE"] or 1), meeting, fsdp)
