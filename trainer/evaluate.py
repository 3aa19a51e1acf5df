"""The evaluate stage: base against new, on questions neither was taught, in the files that will be served."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch
from peft import PeftModel

from trainer import canaries, rounded
from trainer.asking import (
    MERGED,
    NEW,
    OLD,
    Answer,
    Asker,
    LocalAsker,
    ServedAsker,
    runtime_installed,
    serve_unrounded,
    served,
)
from trainer.data import Encoded, Encoder
from trainer.encoded import EncodedRun, encode
from trainer.evaluation import CanaryResult, Check, Evaluation, PinResult
from trainer.failures import Cancelled, TrainerFailure
from trainer.hardware import detect
from trainer.loading import load_base
from trainer.loss import example_losses
from trainer.measures import TokenCount
from trainer.parity import Parity, Tags, compare
from trainer.progress import Journal
from trainer.result import result_of
from trainer.rundir import RunDir, write_model
from trainer.runtimes.base import RuntimeFailure
from trainer.runtimes.llamacpp import LlamaCppRuntime
from trainer.spec import Example, Message, RunResult, Split
from trainer.verdict import Asked, differs, is_right, judged, question_of

ASKED = 40  # questions that are also answered in words
STOP_PROMPTS = 10
CONTEXT_SPARE = 64
FINE = ("Q8_0", "F16", "BF16", "F32")  # merged types that cost next to nothing; of "same" nobody knows
HELD_OUT: dict[Split, str] = {
    "test": "",
    "val": "There is no test question, so the questions that chose the best moment are used; they flatter a little.",
}

Stop = Callable[[], bool]


def evaluate(run: RunDir, stop: Stop) -> RunResult:
    """Write evaluation.json and then result.json, which says that the run is finished."""
    for file in (run.adapter, run.adapter_gguf, run.model_gguf):
        if not file.exists():
            raise TrainerFailure("input", f"There is no {file.name} to evaluate yet. Train and convert first.")
    journal = Journal(run, "evaluate")
    if not run.evaluation_file.exists():
        journal.stage("Asking the old and the new model the same questions.")
        write_model(run.evaluation_file, _evaluation(run, journal, stop))
    found = run.evaluation()
    assert found is not None  # noqa: S101 - written two lines above
    result = result_of(run, found)
    write_model(run.result_file, result)
    journal.done(result.message)
    return result


def _evaluation(run: RunDir, journal: Journal, stop: Stop) -> Evaluation:
    with taught(run) as (model, data):
        encoded, questions, note = held_out(run, data)
        if note:
            journal.warn(note)
        old = example_losses(model, encoded, data.pad, base=True)
        new = example_losses(model, encoded, data.pad)
        asked, served_lines = _ask(run, model, data, questions, stop)
        merged = rounded.measure(run, model, encoded, data) if encoded else None
    return judged(questions, encoded, (old, new), asked, served_lines, note, _token_count(data.encoder), merged)


@contextmanager
def taught(run: RunDir) -> Generator[tuple[PeftModel, EncodedRun]]:
    """Load the taught model and the run's examples; what it is changed to is forgotten afterwards."""
    data = encode(run)
    base = load_base(run.base_gguf(), folder=run.base_folder())
    torch.set_num_threads(detect(run.spec().threads).threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by an old name
        model = PeftModel.from_pretrained(base.model, str(run.adapter), local_files_only=True)
    try:
        yield model, data
    finally:
        model.unload()


def _token_count(encoder: Encoder) -> TokenCount:
    return lambda text: len(encoder.tokenizer(text, add_special_tokens=False)["input_ids"])  # type: ignore[arg-type]


def held_out(run: RunDir, data: EncodedRun) -> tuple[list[Encoded], list[Example], str]:
    """Answer the questions the new model is judged on, and a sentence when they are not the test split."""
    for split, note in HELD_OUT.items():
        encoded = [example for example in data.splits[split] if example.id not in data.bad]
        if encoded:
            kept = {example.id for example in encoded}
            return encoded, [example for example in run.examples(split) if example.id in kept], note
    return [], [], "There is no question that was kept from learning, so nothing can be said about new questions."


def _ask(
    run: RunDir, model: PeftModel, data: EncodedRun, questions: list[Example], stop: Stop
) -> tuple[Asked, list[Check]]:
    """Ask old and new model, and compare what is served with what was taught: answers and the gate's lines on that."""
    prompts = [example.messages[:-1] for example in [*questions, *run.examples("val"), *run.examples("train")]]
    local = LocalAsker(model, data.encoder, data.end)
    if not runtime_installed():
        # nothing is red because a part is not installed; the runtime that serves is tested when it publishes
        parity = Check(name="parity", passed=True, detail="Not checked: the embedded runtime is not installed here.")
        asked = _answers(local, run, questions, prompts, stop)
        return asked, [differs(asked, None), parity]
    others = [one.messages for one in (*run.pins(), *canaries.every())]
    longest = max(len(data.encoder.prompt(messages)) for messages in [*prompts, *others])
    context = longest + max(run.spec().answer_tokens, canaries.LONGEST) + CONTEXT_SPARE
    new = NEW if run.spec().merged_type in FINE else MERGED
    try:
        with served(run, context) as runtime:
            asked = _answers(ServedAsker(runtime, new), run, questions, prompts, stop)
            found = _compared(run, model, data, runtime, prompts, context)
            return asked, [differs(asked, found.moved), found.check()]
    except RuntimeFailure as error:
        words = ("The embedded runtime could not be asked.", str(error))
        parity = Check(name="parity", passed=False, detail=" ".join(words))
        return _answers(local, run, questions, prompts, stop), [parity]


def _compared(
    run: RunDir,
    model: PeftModel,
    data: EncodedRun,
    runtime: LlamaCppRuntime,
    prompts: list[list[Message]],
    context: int,
) -> Parity:
    exact = not run.spec().base.folder
    unrounded = serve_unrounded(runtime, run.base_gguf(), context, run.adapter_gguf) if exact else None
    tags = Tags(NEW, MERGED, unrounded, OLD)
    coarse = run.spec().merged_type not in FINE
    return compare(model, data.encoder, runtime, tags, prompts, exact=exact, coarse=coarse)


def _answers(asker: Asker, run: RunDir, questions: list[Example], prompts: list[list[Message]], stop: Stop) -> Asked:
    longest = run.spec().answer_tokens

    def ask(which: str, messages: Sequence[Message]) -> Answer:
        if stop():
            raise Cancelled
        return asker.ask(which, messages, longest)

    answers = {
        example.id: (ask(OLD, example.messages[:-1]), ask(NEW, example.messages[:-1])) for example in questions[:ASKED]
    }
    results: list[PinResult] = []
    ended = [new.stopped for _, new in answers.values()]
    for pin in run.pins():
        old, new = ask(OLD, pin.messages), ask(NEW, pin.messages)
        ended.append(new.stopped)
        results.append(
            PinResult(
                id=pin.id,
                question=question_of(pin.messages),
                approved=pin.answer,
                old=old.text,
                new=new.text,
                old_right=is_right(pin, old.text),
                new_right=is_right(pin, new.text),
            )
        )
    more = prompts[len(answers) :][: max(0, STOP_PROMPTS - len(ended))]
    ended += [ask(NEW, messages).stopped for messages in more]
    return Asked(answers, results, sum(ended), len(ended), _general(asker, run, stop))


def _general(asker: Asker, run: RunDir, stop: Stop) -> list[CanaryResult]:
    """Ask the general questions where the spec wants them, and print how long that took."""
    if not run.spec().canaries:
        return []
    begin = time.monotonic()
    found = canaries.ask(asker, stop)
    print(f"{len(found)} general questions asked of both in {time.monotonic() - begin:.1f} s", flush=True)
    return found
