"""The admission test of a base: does the library that teaches read the file as the runtime that serves it does?

    python -m trainer admit FOLDER

in: base.json (BaseRef); out: admission.json (Admission). Three conversations become tokens and likelihoods in
transformers and in llama.cpp, on the very file that will be served. What differs here would be learnt for nothing.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from trainer.asking import quiet, runtime_installed, runtime_of_its_own, serve_unrounded
from trainer.bases import digest, refusals
from trainer.data import Encoder
from trainer.encoded import encoder_for
from trainer.failures import TrainerFailure
from trainer.gguf_check import check
from trainer.gguf_summary import BadGguf, GgufSummary
from trainer.loading import load_base
from trainer.parity import Parity, Tags, compare
from trainer.recipe import BaseRef
from trainer.rundir import write_model
from trainer.runtimes.base import Publication, RuntimeFailure, RuntimeUnavailable
from trainer.spec import Admission, Message

TAG = "base"
CONTEXT = 1024
ROPE_TENSOR = "rope_freqs.weight"  # Llama 3.1 and later; transformers 5.23 leaves it out when it reads a GGUF file
CONVERSATIONS: tuple[tuple[Message, ...], ...] = (
    (Message(role="user", content="Hello! What's the fare for 2 adults and a dog, and isn't there a discount?"),),
    (Message(role="user", content="你好！请问我在2024年3月买的往返票可以退吗？手续费是多少？"),),
    (
        Message(
            role="system", content="You answer for a ferry line.\nUse only these facts:\n- A car costs 1,299.50 €."
        ),
        Message(role="user", content="How much is a car?"),
        Message(role="assistant", content="1,299.50 €."),
        Message(role="user", content="And 10 cars on 2026-11-24?  Write it as <b>bold</b> — please…"),
    ),
)


def admit(folder: Path) -> Admission:
    """Test the base that a folder names and write down what was found."""
    base = BaseRef.model_validate_json((folder / "base.json").read_text(encoding="utf-8"))
    found = _tested(base, folder)
    write_model(folder / "admission.json", found)
    print(f"{found.state}. {found.sentence} {found.detail}".strip())
    return found


def _tested(base: BaseRef, folder: Path) -> Admission:
    if not runtime_installed():
        return Admission(state="not checked", sentence=refusals.NO_RUNTIME)
    gguf, full = Path(base.gguf), Path(base.folder) if base.folder else None
    try:
        summary = check(gguf, whole=True, finite=True)
        if digest(gguf) != base.sha256:
            return Admission(state="failed", sentence=refusals.CHANGED)
        encoder, model = encoder_for(gguf), load_base(gguf, folder=full).model
    except (BadGguf, TrainerFailure) as failure:
        traceback.print_exc()
        return Admission(
            state="failed", sentence=refusals.OTHER_FOLDER if full else refusals.UNREADABLE, detail=str(failure)
        )
    if not turns_alike(model, summary):
        return Admission(state="failed", sentence=refusals.OTHER_FOLDER if full else refusals.ROPE)
    try:
        with runtime_of_its_own(folder) as runtime:
            runtime.publish(Publication(TAG, gguf, context=CONTEXT), quiet)
            conversations = [_accepted(encoder, messages) for messages in CONVERSATIONS]
            tags = Tags(TAG, unrounded=None if full else serve_unrounded(runtime, gguf, CONTEXT))
            found = compare(model, encoder, runtime, tags, conversations, exact=full is None)
    except RuntimeUnavailable as failure:
        return Admission(state="not checked", sentence=refusals.NOT_ANSWERED, detail=str(failure))
    except RuntimeFailure as failure:
        return Admission(state="failed", sentence=refusals.NOT_SERVED, detail=str(failure))
    return judged(found)


def judged(found: Parity) -> Admission:
    """Say whether a base is admitted, and if not, what is different and what to do."""
    detail = found.check().detail
    if found.agrees:
        return Admission(state="passed", detail=detail)
    if found.same_tokens < found.prompts:
        return Admission(state="failed", sentence=refusals.OTHER_TOKENS, detail=detail)
    return Admission(
        state="failed", sentence=refusals.OTHER_WEIGHTS if found.exact else refusals.OTHER_FOLDER, detail=detail
    )


def turns_alike(model: PreTrainedModel, summary: GgufSummary) -> bool:
    """Tell whether the model turns its heads (rope) by the angles that a GGUF file with stretched ones asks for.

    Likelihoods cannot tell: within a thousand tokens the slow turns that are stretched hardly move.
    """
    if ROPE_TENSOR not in summary.tensors:
        return True
    turns = dict(model.named_buffers()).get("model.rotary_emb.inv_freq")
    base = summary.values.get(f"{summary.architecture}.rope.freq_base", 10_000.0)
    tensor = summary.tensors[ROPE_TENSOR]
    if turns is None or not isinstance(base, float) or tensor.type.name != "F32" or tensor.shape != tuple(turns.shape):
        return False
    with summary.path.open("rb") as file:
        file.seek(tensor.start)
        stretched = torch.frombuffer(bytearray(file.read(tensor.size)), dtype=torch.float32)
    plain = base ** -(torch.arange(len(turns), dtype=torch.float32) / len(turns))
    return torch.allclose(turns.cpu() * stretched, plain, rtol=1e-3, atol=0.0)


def _accepted(encoder: Encoder, messages: Sequence[Message]) -> Sequence[Message]:
    """Answer the conversation, without its system turn for a chat template that refuses one."""
    try:
        encoder.render(messages, opening=True)
    except TrainerFailure:
        return [message for message in messages if message.role != "system"]
    return messages
