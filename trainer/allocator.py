"""What the C library does with memory that is freed. Only glibc can be told; elsewhere nothing happens.

Each part of a step frees hundreds of megabytes that the next one asks for again. By itself glibc gives large pieces
back to the system at once, and fetching them anew, page by page, is one fourteenth of a step.
"""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Keep what is freed for the next part, from now on; the most that is held at a time stays as it is."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(MMAP_MAX, 0)
        ctypes.CDLL(None).mallopt(TRIM_THRESHOLD, 2**31 - 1)


def hand_memory_back() -> None:
    """Let go of what is held for nothing: 290 of 300 MB when measured after a step that ran out of memory."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
