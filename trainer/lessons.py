"""What each method makes of the examples of a run folder. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

from trainer.failures import TrainerFailure
from trainer.recipe import Method
from trainer.rundir import RunDir
from trainer.spec import Example, Message, Split


def lessons(run: RunDir, method: Method, split: Split) -> Iterator[Example]:
    """Yield a split's examples as a method learns them: to kto a pair is a good answer and a bad one.

    The exam asks for answers, so what is bad has no part in it.
    """
    for example in run.examples(split):
        if split == "test":
            if example.good:
                yield example
        elif method == "kto":
            yield example.model_copy(update={"rejected": ""})
            if example.rejected:
                bad = {"id": f"{example.id}.rejected", "rejected": "", "good": False}
                yield with_rejected(example).model_copy(update=bad)
        elif example.good:
            yield example
        else:
            raise TrainerFailure(
                "input",
                f"Example {example.id} is an answer that people found bad, and {method} would teach it. Use kto, which "
                "learns from bad answers, or freeze the dataset again.",
            )


def with_rejected(example: Example) -> Example:
    """Answer a pair's question with its worse answer; raises TrainerFailure where there is none."""
    if not example.rejected.strip() or example.rejected == example.messages[-1].content:
        raise TrainerFailure(
            "input", f"Example {example.id} has no second answer to prefer its own to. Freeze the preferences again."
        )
    last = Message(role="assistant", content=example.rejected)
    return example.model_copy(update={"messages": [*example.messages[:-1], last]})
