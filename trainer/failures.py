"""Failures a person can act on, and how everything else that goes wrong is put into a sentence."""

from __future__ import annotations

import errno

from trainer.gguf_summary import BadGguf
from trainer.spec import FailureClass

DONE, FAILED, MISUSED, KILLED, CANCELLED = 0, 1, 2, 137, 143  # exit codes of the trainer

OUT_OF_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "out of memory",
    "defaultcpuallocator",
    "could not create a primitive",  # oneDNN's word for it
)
NO_SPACE = (
    "no space left on device",
    "disk quota exceeded",
    "file too large",
    "pytorchstreamwriter failed",
    "iostream error",
    "unexpected pos",
)
CARD = ("cuda error", "cudnn", "cublas", "nvidia driver", "hip error")
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)


class TrainerFailure(Exception):  # noqa: N818 - named as people say it, like curator.errors
    """A run cannot go on; the text is a full sentence for people and `failure` its class."""

    def __init__(self, failure: FailureClass, sentence: str) -> None:
        super().__init__(sentence)
        self.failure: FailureClass = failure


class Cancelled(Exception):  # noqa: N818 - not an error: somebody asked for it
    """The run was asked to stop and did so after saving a checkpoint."""


class Told(Exception):  # noqa: N818 - a turn of events, not a mistake
    """Several processes did not come to the end, and the journal says why already; `code` is how this one shall end."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def explain(error: BaseException) -> tuple[FailureClass, str]:
    """Answer the class of a failure and a sentence that says what happened and what to do next."""
    if isinstance(error, TrainerFailure):
        return error.failure, str(error)
    if isinstance(error, BadGguf):
        return "base", str(error)
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(words in text for words in OUT_OF_MEMORY):
        return (
            "memory",
            "The machine ran out of memory. Close other programs, or choose a smaller base or shorter examples, "
            "and start the run again: it goes on from its last checkpoint.",
        )
    # torch and safetensors report a full disk with exceptions of their own, so the text is looked at as well
    if (isinstance(error, OSError) and error.errno in DISK_ERRORS) or any(words in text for words in NO_SPACE):
        return (
            "disk",
            "The disk is full or cannot be written. Free some space and start the run again: "
            "it goes on from its last checkpoint.",
        )
    if any(words in text for words in CARD):
        return (
            "internal",
            f"The graphics card or its driver failed ({str(error).splitlines()[0].rstrip('.')}). Update the driver, or "
            "start Curator with CUDA_VISIBLE_DEVICES= (nothing behind it) to teach on the processor, and start the run "
            "again: it goes on from its last checkpoint.",
        )
    return (
        "internal",
        f"The trainer stopped at an error of its own ({type(error).__name__}). Its log holds the details; "
        "starting the run again goes on from the last checkpoint.",
    )
