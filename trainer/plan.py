"""The plan stage: look before training. Counts, lengths, time needed, and one example as the model will see it."""

from __future__ import annotations

import sys
import time
import warnings

import torch
from peft import get_peft_model

from trainer.allocator import hand_memory_back, keep_freed_memory
from trainer.batches import epoch_order, laid_out, parts
from trainer.data import Encoded, histogram
from trainer.encoded import EncodedRun, encode
from trainer.fast_layers import release, speed_up
from trainer.fitting import fit
from trainer.hardware import detect, faster_precision, processes_for
from trainer.loading import Base, load_base
from trainer.loss import answer_losses, filler
from trainer.progress import Journal
from trainer.ranks import Rank
from trainer.recipe import TrainSpec
from trainer.rundir import MICRO_TOKENS, RunDir, write_model
from trainer.shards import wants_shards
from trainer.spec import Plan, TokenSpan
from trainer.teacher import lora_config

FORWARD_SHARE = 0.4  # of a training step, measured; a held-out measurement is forward only
KTO_FORWARDS = 3  # besides learning: each answer before, and each mismatched one before and now
PROBES = 5
GREEN, DIM, PLAIN = "\x1b[32m", "\x1b[2m", "\x1b[0m"


def plan(run: RunDir) -> EncodedRun:
    """Write plan.json and print it; raises TrainerFailure when the run cannot work."""
    journal = Journal(run, "plan")
    journal.stage("Looking at the examples.")
    spec, data = run.spec(), encode(run)
    processes = processes_for(spec)
    wants_shards(run, Rank())  # refuses what does not go together
    precision = faster_precision(spec.threads) if spec.precision == "auto" else spec.precision
    base = load_base(run.base_gguf(), precision, run.base_folder(), spec.base_bits)
    speed = measured_speed(base, data, spec)
    lengths = [len(example.ids) for split in data.splits.values() for example in split]
    longest_train = max(data.train, key=lambda example: len(example.ids))
    bad = [example for example in data.train if example.id in data.bad]
    limit = spec.micro_tokens or MICRO_TOKENS
    hardware = detect(spec.threads)
    way = fit(base.model, spec, max(limit, len(longest_train.ids)), processes, hardware)
    found = Plan(
        examples={split: len(examples) for split, examples in data.splits.items()},
        too_long=data.too_long,
        shortened=data.shortened,
        tokens_per_second=round(speed, 1),
        memory=way.memory,
        free_memory=hardware.free_memory,
        checkpointing=way.checkpointing,
        sharded=way.sharded,
        answer_tokens=sum(example.answer_tokens for example in data.train),
        total_tokens=sum(data.length(example) for example in data.train),
        longest=max(lengths),
        histogram=histogram([len(example.ids) for example in data.train]),
        steps=spec.steps(len(data.train)),
        estimated_seconds=round(_seconds(data, spec, speed) / (1 if hardware.device == "cpu" else processes), 3),
        precision=precision,
        end_of_turn=str(data.encoder.tokenizer.convert_ids_to_tokens(data.end)),
        example=data.encoder.spans(_middling([each for each in data.train if each.id not in data.bad])),
        bad=len(bad) if spec.method == "kto" else None,
        bad_example=data.encoder.spans(_middling(bad)) if bad else [],
    )
    if way.checkpointing and spec.checkpointing == "auto":
        journal.warn("Memory is short, so activations are computed twice: learning takes about a third longer.")
    if way.sharded and spec.sharding == "auto":
        journal.warn("Memory is short, so each card holds a share of the base; they wait for each other more often.")
    if way.memory > hardware.free_memory:
        journal.warn(
            f"Training may need {way.memory / 1e9:.1f} GB of memory and {hardware.free_memory / 1e9:.1f} GB are free. "
            "Close other programs or choose a smaller base."
        )
    if data.shortened:
        journal.warn(f"{len(data.shortened)} examples lost passages to fit into {spec.max_length} tokens.")
    if data.too_long:
        journal.warn(f"{len(data.too_long)} examples are longer than {spec.max_length} tokens and are left out.")
    eos = data.encoder.tokenizer.eos_token_id
    if eos != data.end:
        journal.warn(f"Answers end with {found.end_of_turn}, which the base's file does not name as its end token.")
    write_model(run.plan_file, found)
    machine = hardware.sentence() if processes == 1 else f"{processes} processes on {hardware.sentence()}"
    print(as_text(found, machine, colour=sys.stdout.isatty()))
    journal.done(f"{found.steps} steps, about {found.estimated_seconds:.0f} seconds.")
    return data


def _middling(examples: list[Encoded]) -> Encoded:
    """Answer an example of usual length, to be shown."""
    return sorted(examples, key=lambda example: len(example.ids))[len(examples) // 2]


def measured_speed(base: Base, data: EncodedRun, spec: TrainSpec) -> float:
    """Answer training tokens per second on this machine, from five steps on part of a batch; padding is lost time."""
    torch.set_num_threads(detect(spec.threads).threads)
    by_length = sorted(data.train, key=lambda example: len(example.ids))
    middle = max(0, len(by_length) // 2 - spec.batch_size // 2)
    limit = spec.micro_tokens or MICRO_TOKENS
    base.model.name_or_path = spec.base.name
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT asks transformers by an old name
        model = get_peft_model(base.model, lora_config(spec, base.model))
        speed_up(model)
        model.train()
        pad = filler(model, data.pad)
        (part, *_) = parts(by_length[middle : middle + spec.batch_size], limit, padded=pad is not None)
        micro = laid_out(part, pad)
        keep_freed_memory()
        times: list[float] = []
        for _ in range(PROBES):
            start = time.perf_counter()
            losses, _ = answer_losses(model, micro)
            losses.mean().backward()
            times.append(time.perf_counter() - start)
            model.zero_grad()
    release(model)
    hand_memory_back()
    base.model.eval()
    real = sum(len(example.ids) for example in part)
    tokens = real if pad is None else _filled(data, spec, limit) * micro.ids.numel()
    return tokens / min(times[1:])  # the first one warms up


def _filled(data: EncodedRun, spec: TrainSpec, limit: int) -> float:
    """Answer the share of the first epoch's tokens that is no padding."""
    order = epoch_order(len(data.train), spec.seed, 0)
    batches = ([data.train[at] for at in order[n : n + spec.batch_size]] for n in range(0, len(order), spec.batch_size))
    padded = [part for batch in batches for part in parts(batch, limit)]
    whole = sum(len(part[0].ids) * len(part) for part in padded)
    return sum(len(example.ids) for part in padded for example in part) / whole


def _seconds(data: EncodedRun, spec: TrainSpec, speed: float) -> float:
    per_epoch = spec.steps_per_epoch(len(data.train))
    epochs = spec.steps(len(data.train)) / per_epoch
    learning = epochs * sum(data.length(example) for example in data.train) / speed
    measurements = max(1.0, epochs * min(spec.evals_per_epoch, per_epoch))
    held_out = measurements * FORWARD_SHARE * sum(len(example.ids) for example in data.splits["val"]) / speed
    if spec.method == "kto":
        return learning * (1 + KTO_FORWARDS * FORWARD_SHARE) + held_out * KTO_FORWARDS
    return learning + held_out


def as_text(found: Plan, machine: str, *, colour: bool = False) -> str:
    """Write a plan for people: what is learnt from, how long it takes, and what exactly is taught."""
    most = max(count for _, count in found.histogram)
    bars = [
        f"  up to {edge:5d} tokens  {'█' * round(30 * count / most):30s} {count}" for edge, count in found.histogram
    ]
    lines = [
        f"{found.examples['train']} examples to learn from, {found.examples['val']} to choose the best moment, "
        f"{found.examples['test']} kept for the test.",
        f"{found.total_tokens} tokens, of which {found.answer_tokens} are answers and are taught. "
        f"The longest example has {found.longest}.",
        *bars,
        f"{found.steps} steps, about {max(1, round(found.estimated_seconds / 60))} min on {machine}.",
        f"It needs about {found.memory / 1e9:.1f} GB of memory; {found.free_memory / 1e9:.1f} GB are free. "
        f"It learns in {found.precision}{', and computes activations twice to save memory' * found.checkpointing}"
        f"{', and the base is spread over all processes' * found.sharded}.",
        f"An answer ends with {found.end_of_turn}, and the model is taught to write it.",
    ]
    if found.bad is not None:
        good = found.examples["train"] - found.bad
        lines.insert(1, f"Of those to learn from, {good} are good answers and {found.bad} bad ones.")
    if found.shortened:
        lines.append(f"Without some of their passages, to be short enough: {', '.join(found.shortened)}.")
    if found.too_long:
        lines.append(f"Left out because they are too long: {', '.join(found.too_long)}.")
    taught = "in green" if colour else "between ⟦ and ⟧"
    lines += [f"One example; what is taught is {taught}:", _painted(found.painted, colour=colour)]
    if found.bad_example:
        lines += ["A bad one; what becomes less likely is marked:", _painted(found.painted_bad, colour=colour)]
    return "\n".join(lines)


def _painted(spans: list[TokenSpan], *, colour: bool) -> str:
    def painted(span: TokenSpan) -> str:
        if colour:
            return f"{GREEN if span.trained else DIM}{span.text}{PLAIN}"
        return f"⟦{span.text}⟧" if span.trained else span.text

    return "".join(painted(span) for span in spans)
