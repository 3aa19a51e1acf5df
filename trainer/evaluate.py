"""The evaluate stage: base against new, on questions neither was taught, in the files that will be served."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from peft import PeftModel

from trainer.asking import MERGED, NEW, OLD, Answer, Asker, LocalAsker, ServedAsker, runtime_installed, served
from trainer.data import Encoded
from trainer.encoded import EncodedRun, encode
from trainer.failures import Cancelled, TrainerFailure
from trainer.hardware import detect
from trainer.loading import load_base
from trainer.loss import example_losses, mean_loss
from trainer.parity import compare
from trainer.progress import Journal
from trainer.result import result_of
from trainer.rundir import RunDir, write_model
from trainer.runtimes.base import ChatOptions, RuntimeFailure
from trainer.spec import Answered, Check, Evaluation, Example, Message, PinnedQuestion, PinResult, RunResult, Split

MARGIN = 0.05  # nats per answer token; closer than this counts as the same
ASKED = 40  # questions that are also answered in words
STOP_PROMPTS = 10
STOP_SHARE = 0.9
CONTEXT_SPARE = 64
HELD_OUT: dict[Split, str] = {
    "test": "",
    "val": "There is no test question, so the questions that chose the best moment are used; they flatter a little.",
}

Outcome = Literal["better", "same", "worse"]
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Asked:
    """Old and new answers by example id, pins, and how often the new model ended by itself."""

    answers: dict[str, tuple[Answer, Answer]]
    pins: list[PinResult]
    stops: int
    stops_asked: int


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
    data, spec = encode(run), run.spec()
    base = load_base(run.base_gguf(), folder=run.base_folder())
    torch.set_num_threads(detect(spec.threads).threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by an old name
        model = PeftModel.from_pretrained(base.model, str(run.adapter), local_files_only=True)
    try:
        encoded, questions, note = held_out(run, data)
        if note:
            journal.warn(note)
        old = example_losses(model, encoded, data.pad, base=True)
        new = example_losses(model, encoded, data.pad)
        asked, parity = _ask(run, model, data, questions, stop)
    finally:
        model.unload()
    return judged(questions, encoded, (old, new), asked, parity, note)


def held_out(run: RunDir, data: EncodedRun) -> tuple[list[Encoded], list[Example], str]:
    """Answer the questions the new model is judged on, and a sentence when they are not the test split."""
    for split, note in (
        ("test", ""),
        (
            "val",
            "There is no test question, so the questions that chose the best moment are used; they flatter a little.",
        ),
    ):
        encoded = data.splits["test" if split == "test" else "val"]
        if encoded:
            kept = {example.id for example in encoded}
            examples = run.examples("test" if split == "test" else "val")
            return encoded, [example for example in examples if example.id in kept], note
    return [], [], "There is no question that was kept from learning, so nothing can be said about new questions."


def _ask(run: RunDir, model: PeftModel, data: EncodedRun, questions: list[Example], stop: Stop) -> tuple[Asked, Check]:
    spec = run.spec()
    pins, spare = run.pins(), [*run.examples("val"), *run.examples("train")]
    prompts = [example.messages[:-1] for example in [*questions, *spare]]
    options = ChatOptions(max_tokens=spec.answer_tokens)
    local = LocalAsker(model, data.encoder, data.end, spec.answer_tokens)
    if not runtime_installed():
        # nothing is red because a part is not installed; the runtime that serves is tested when it publishes
        parity = Check(name="parity", passed=True, detail="Not checked: the embedded runtime is not installed here.")
        return _answers(local, questions, pins, prompts, stop), parity
    longest = [len(data.encoder.prompt(messages)) for messages in [*prompts, *(pin.messages for pin in pins)]]
    context = max(longest) + spec.answer_tokens + CONTEXT_SPARE
    try:
        with served(run, context) as runtime:
            asked = _answers(ServedAsker(runtime, options), questions, pins, prompts, stop)
            return asked, compare(
                model, data.encoder, runtime, NEW, prompts, MERGED, exact=not spec.base.folder
            ).check()
    except RuntimeFailure as error:
        parity = Check(name="parity", passed=False, detail=f"The embedded runtime could not be asked. {error}")
        return _answers(local, questions, pins, prompts, stop), parity


def _answers(
    asker: Asker, questions: list[Example], pins: list[PinnedQuestion], prompts: list[list[Message]], stop: Stop
) -> Asked:
    def both(messages: Sequence[Message]) -> tuple[Answer, Answer]:
        if stop():
            raise Cancelled
        return asker.ask(OLD, messages), asker.ask(NEW, messages)

    answers = {example.id: both(example.messages[:-1]) for example in questions[:ASKED]}
    results: list[PinResult] = []
    ended = [new.stopped for _, new in answers.values()]
    for pin in pins:
        old, new = both(pin.messages)
        ended.append(new.stopped)
        results.append(
            PinResult(
                id=pin.id,
                question=_question(pin.messages),
                approved=pin.answer,
                old=old.text,
                new=new.text,
                old_right=is_right(pin, old.text),
                new_right=is_right(pin, new.text),
            )
        )
    more = prompts[len(answers) :][: max(0, STOP_PROMPTS - len(ended))]
    for messages in more:
        if stop():
            raise Cancelled
        ended.append(asker.ask(NEW, messages).stopped)
    return Asked(answers, results, sum(ended), len(ended))


def judged(
    questions: list[Example],
    encoded: list[Encoded],
    losses: tuple[dict[str, float], dict[str, float]],
    asked: Asked,
    parity: Check,
    note: str,
) -> Evaluation:
    """Put measurements together into a verdict."""
    old, new = losses
    nothing = (Answer("", False), Answer("", False))
    answered = [
        Answered(
            id=example.id,
            question=_question(example.messages[:-1]),
            approved=example.messages[-1].content,
            old=asked.answers.get(example.id, nothing)[0].text,
            new=asked.answers.get(example.id, nothing)[1].text,
            old_loss=old[example.id],
            new_loss=new[example.id],
            outcome=outcome(old[example.id], new[example.id]),
        )
        for example in questions
    ]
    counts = {word: sum(a.outcome == word for a in answered) for word in ("better", "same", "worse")}
    old_loss, new_loss = mean_loss(old, encoded), mean_loss(new, encoded)
    old_pins, new_pins = sum(p.old_right for p in asked.pins), sum(p.new_right for p in asked.pins)
    comparison = (
        f"Better on {counts['better']}, same on {counts['same']}, worse on {counts['worse']} of {len(answered)} "
        f"questions ({old_loss:.3f} before, {new_loss:.3f} now, in nats per word piece; "
        f"within {MARGIN} counts as the same)."
    )
    checks = [
        Check(
            name="held_out",
            passed=bool(answered) and new_loss <= old_loss,
            detail=" ".join(filter(None, [comparison if answered else "", note])),
        ),
        Check(
            name="pins",
            passed=new_pins >= old_pins,
            detail=f"{new_pins} of {len(asked.pins)} past corrections are right now, {old_pins} were before."
            if asked.pins
            else "No past correction is pinned yet.",
        ),
        Check(
            name="stops",
            passed=asked.stops_asked > 0 and asked.stops >= STOP_SHARE * asked.stops_asked,
            detail=f"{asked.stops} of {asked.stops_asked} answers ended by themselves; at least 9 of 10 must.",
        ),
        parity,
    ]
    return Evaluation(
        old_loss=old_loss,
        new_loss=new_loss,
        questions=answered,
        pins=asked.pins,
        better=counts["better"],
        same=counts["same"],
        worse=counts["worse"],
        old_pins=old_pins,
        new_pins=new_pins,
        stops=asked.stops,
        stops_asked=asked.stops_asked,
        checks=checks,
    )


def outcome(old_loss: float, new_loss: float) -> Outcome:
    """Compare two losses of one question, in nats per answer token; within MARGIN they are the same."""
    if abs(new_loss - old_loss) <= MARGIN:
        return "same"
    return "better" if new_loss < old_loss else "worse"


def is_right(pin: PinnedQuestion, answer: str) -> bool:
    """Tell whether an answer has what the pin asks for and nothing it forbids."""
    text = normal(answer)
    has_all = all(any(normal(word) in text for word in words) for words in pin.must_include)
    return has_all and not any(normal(word) in text for word in pin.must_not_include)


def normal(text: str) -> str:
    """Answer a text without differences of width, case and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _question(messages: Sequence[Message]) -> str:
    return next((m.content for m in reversed(messages) if m.role == "user"), messages[-1].content)
