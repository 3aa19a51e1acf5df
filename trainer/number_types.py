"""The types stage: what a finished run would keep of its lesson as a file of each number type; none is written.

The bytes are worked out as `merge` does, tensor by tensor, and read back into the taught model. One pass over the
held-out questions for each type is what costs time: seconds for a small base, minutes for one of 3 B on a processor.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from trainer.convert import names_of
from trainer.evaluate import held_out, taught
from trainer.evaluation import OFFERED, NoOffer, Offer, Types
from trainer.failures import Cancelled, TrainerFailure
from trainer.gguf_check import check
from trainer.merge_gguf import SAME, Planned, plan
from trainer.peft_files import CannotConvert
from trainer.progress import Journal
from trainer.quantize import CannotEncode
from trainer.recipe import MergedType
from trainer.rounded import foretold
from trainer.rundir import RunDir, write_model


def measure_types(run: RunDir, stop: Callable[[], bool]) -> Types:
    """Write types.json; raises TrainerFailure with a sentence, Cancelled between two types."""
    for file in (run.adapter, run.adapter_gguf):
        if not file.exists():
            raise TrainerFailure("input", f"There is no {file.name} to measure yet. Train and convert first.")
    journal = Journal(run, "types")
    journal.stage("Measuring what other number types would keep.")
    offers: list[Offer] = []
    left_out: list[NoOffer] = []
    plans: dict[MergedType, Planned] = {}
    base, names = check(run.base_gguf(), whole=True), names_of(run.spec())
    for kind in OFFERED:
        try:
            planned = plan(base, run.adapter_gguf, kind, names)
        except (CannotConvert, CannotEncode) as error:
            left_out.append(NoOffer(merged_type=kind, why=str(error)))
            continue
        if why := _nothing_new(planned, kind):
            left_out.append(NoOffer(merged_type=kind, why=why))
        else:
            plans[kind] = planned
    with taught(run) as (model, data):
        questions, _, _ = held_out(run, data)
        if not questions:
            raise TrainerFailure(
                "input",
                "No question was kept from learning, so nobody can tell what a number type keeps of the lesson.",
            )
        for step, (kind, planned) in enumerate(plans.items(), 1):
            if stop():
                raise Cancelled
            try:
                found = foretold(planned, model, questions, data)
            except CannotConvert as error:
                left_out.append(NoOffer(merged_type=kind, why=str(error)))
                continue
            if not math.isfinite(found.loss):
                why = "Rounded to this type the model's numbers run over, and it answers nothing."
                left_out.append(NoOffer(merged_type=kind, why=why))
                continue
            offers.append(Offer(merged_type=kind, **found.model_dump()))
            journal.say(f"{kind}: held-out loss {found.loss:.4f}, {found.size / 1e6:.1f} MB, {found.seconds:.1f} s")
            journal.write("step", step=step, steps=len(plans), eta_seconds=found.seconds * (len(plans) - step))
    found = Types(offers=offers, left_out=left_out)
    write_model(run.types_file, found)
    journal.done("The number types are measured.")
    return found


def _nothing_new(planned: Planned, kind: MergedType) -> str:
    """Say why a type is not worth offering; empty when it is."""
    if planned.fell_back:
        narrow, every = len(planned.fell_back), len(planned.halves)
        return f"The rows of {narrow} of its {every} taught layers do not divide into blocks of this type."
    if kind == SAME and set(planned.types) < set(OFFERED) and len(planned.types) == 1:
        return f"All taught layers of the base are of type {planned.type}, which is listed."
    return ""
