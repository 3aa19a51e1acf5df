"""Matrix products on a CPU, by the faster of the two libraries that torch brings along.

For float32, torch calls MKL and leaves oneDNN to the other types; on AMD's processors oneDNN takes a tenth less time
for 640 rows and a quarter less for 180 (docs/decisions/0007). Its product has no gradient, so it is for our own
autograd functions.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

_onednn: Any = (  # Any: torch's operators have no types
    torch.ops.mkldnn._linear_pointwise  # pyright: ignore[reportPrivateUsage] - what torch.compile emits; without it torch's own product serves
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    else None
)


def times(rows: Tensor, matrix: Tensor, plus: Tensor | None = None) -> Tensor:
    """Answer rows·matrix (+ plus); shapes (n, k), (k, m) and (n, m)."""
    if _onednn and rows.dtype == torch.float32 and rows.device.type == "cpu":
        weight = matrix.t()  # it multiplies by the transpose
        # it writes code for each new shape, and where memory is nearly all taken, finds no room for that
        with suppress(RuntimeError):
            if plus is None:
                return _onednn(rows, weight, None, "none", [], "")
            return _onednn(rows, plus, weight, None, "add")
    return rows @ matrix if plus is None else torch.addmm(plus, rows, matrix)
