"""Training speed and memory: ours, and floors measured in the same run on the same batches.

    python -m bench.train [--json] [--base FILE.gguf] [--tokens 80] [--spread 1] [--shared 0] [--batch 8] [--rounds 3]

ours, ours_bf16: our step in float32, and in bfloat16, which the plan chooses where it is faster.
bare: a plain PyTorch loop over transformers and PEFT, as tutorials write it: full logits, padded batch, attention mask.
checkpointed: the same with gradient checkpointing, which LLaMA-Factory switches on by default.
gemm, gemm_bf16: only the matrix products that one LoRA step cannot do without, as torch makes them, of the same shapes:
x·Wᵀ and dy·W of every layer, the six of its adapter, the head on answers, and the six of attention, for all tokens:
what examples begin with alike (`--shared`, a system prompt) goes through ours once and through all others each time.
Rounds alternate, and the best of each counts, so that a busy machine disturbs all of them alike.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

KINDS = ("ours", "ours_bf16", "bare", "checkpointed", "gemm", "gemm_bf16")
PLAIN = ("bare", "checkpointed")  # with the C library's own ways of giving memory back
RANK = 16
LONG_TOKENS = 1024


@dataclass(frozen=True)
class Setup:
    base: Path | None
    tokens: int
    spread: float
    shared: int
    batch: int
    rounds: int
    threads: int
    layers: int


def build(setup: Setup, dtype: str) -> Any:  # Any: a transformers model
    """Load the base, or make an untaught model of SmolLM2-135M's shape: the numbers cost the same."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(17)
    if setup.base:
        from trainer.loading import load_base

        return load_base(setup.base, "bfloat16" if dtype == "bfloat16" else "float32").model
    config = LlamaConfig(
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=setup.layers,
        num_attention_heads=9,
        num_key_value_heads=3,
        vocab_size=49152,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))


def examples(setup: Setup, vocabulary: int) -> list[Any]:  # Any: trainer.data.Encoded, imported late
    """Make examples whose answer is the second half, of lengths spread around `tokens`, the first `shared` alike."""
    import random

    from trainer.data import Encoded

    draw = random.Random(17)  # noqa: S311 - test data
    places = [n / max(1, setup.batch - 1) - 0.5 for n in range(setup.batch)]
    lengths = [max(8, round(setup.tokens * (1 + setup.spread * place))) for place in places]
    begin = tuple(draw.randrange(3, vocabulary) for _ in range(setup.shared))
    return [
        Encoded(str(n), begin + tuple(draw.randrange(3, vocabulary) for _ in range(own)), setup.shared + own // 2)
        for n, own in enumerate(max(2, length - setup.shared) for length in lengths)
    ]


def stepper(kind: str, setup: Setup) -> Callable[[], float]:
    """Answer a function that does one forward and backward pass over the batch and answers its loss."""
    import torch
    from peft import LoraConfig, get_peft_model

    from trainer.batches import micro_batches
    from trainer.fast_layers import speed_up
    from trainer.loss import MICRO_TOKENS, answer_losses, filler
    from trainer.recipe import LINEAR_LAYERS

    torch.set_num_threads(setup.threads)
    base = build(setup, "bfloat16" if kind.endswith("bf16") else "float32")
    batch = examples(setup, base.config.vocab_size)
    if kind.startswith("gemm"):
        return gemms(base, batch)
    lora = LoraConfig(r=RANK, lora_alpha=32, lora_dropout=0.05, target_modules=list(LINEAR_LAYERS))
    model: Any = get_peft_model(base, lora)
    model.train()
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0, fused=True
    )
    answers = sum(e.answer_tokens for e in batch)
    if kind.startswith("ours"):
        speed_up(model)
    if kind == "checkpointed":
        model.enable_input_require_grads()
        base.gradient_checkpointing_enable({"use_reentrant": False})

    def ours() -> float:
        total = 0.0
        for micro in micro_batches(batch, MICRO_TOKENS, filler(model, 0)):
            losses, _ = answer_losses(model, micro)
            (losses.sum() / answers).backward()
            total += losses.detach().sum().item() / answers
        return total

    (whole,) = micro_batches(batch, 1 << 40, 0)
    lengths = torch.tensor(sorted((len(e.ids) for e in batch), reverse=True))
    mask = (torch.arange(whole.ids.shape[1]) < lengths[:, None]).long()

    def bare() -> float:
        loss = model(input_ids=whole.ids, attention_mask=mask, labels=whole.labels, use_cache=False).loss
        loss.backward()
        return loss.item()

    def step() -> float:
        loss = ours() if kind.startswith("ours") else bare()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return loss

    return step


def gemms(base: Any, batch: list[Any]) -> Callable[[], float]:  # Any: as above
    """Answer a function that multiplies what a step must, and nothing else."""
    import torch

    dtype, config = base.dtype, base.config
    rows, answers = sum(len(e.ids) for e in batch), sum(e.answer_tokens for e in batch)
    weights = [m.weight.detach() for n, m in base.named_modules() if isinstance(m, torch.nn.Linear) and "layers" in n]
    head = base.get_output_embeddings().weight.detach()
    sides = {size for weight in weights for size in weight.shape}
    inputs = {size: torch.randn(rows, size, dtype=dtype) for size in sides}
    narrow = {size: torch.randn(RANK, size, dtype=dtype) for size in sides}
    inner = torch.randn(rows, RANK, dtype=dtype)
    hidden = torch.randn(answers, head.shape[1], dtype=dtype)
    size = config.hidden_size // config.num_attention_heads
    heads = [torch.randn(config.num_attention_heads, len(example.ids), size, dtype=dtype) for example in batch]

    def step() -> float:
        for weight in weights:
            out, into = weight.shape
            torch.mm(torch.mm(inputs[into], weight.t()), weight)
            torch.mm(torch.mm(inputs[into], narrow[into].t()), narrow[out])
            torch.mm(torch.mm(inputs[out], narrow[out].t()), narrow[into])
            torch.mm(inputs[out].t(), inner)
            torch.mm(inputs[into].t(), inner)
        for at in range(0, answers, 512):
            torch.mm(torch.mm(hidden[at : at + 512], head.t()), head)
        for part in heads * config.num_hidden_layers:
            table = torch.bmm(part, part.transpose(1, 2))
            for _ in range(2):
                torch.bmm(table, part)
                torch.bmm(table.transpose(1, 2), part)
            torch.bmm(part, part.transpose(1, 2))
        return 0.0

    return step


def measure(setup: Setup) -> dict[str, float]:
    """Answer the best seconds per step of each kind, measured in turn, each in a process of its own."""
    losses: dict[str, float] = {}
    best: dict[str, float] = dict.fromkeys(KINDS, float("inf"))
    with ExitStack() as stack:
        workers = {kind: stack.enter_context(worker(kind, setup)) for kind in KINDS}
        for round_ in range(setup.rounds + 1):
            for kind, pipe in workers.items():
                pipe.send(round_)
                loss, seconds, _ = pipe.recv()
                losses.setdefault(kind, loss)
                if round_:
                    best[kind] = min(best[kind], seconds)
    # dropout differs, the first step's update is zero: an untaught adapter changes nothing, so losses must agree
    assert abs(losses["ours"] - losses["bare"]) < 1e-3, losses
    assert abs(losses["ours_bf16"] / losses["bare"] - 1) < 0.01, losses
    return best


def peak_of(kind: str, setup: Setup) -> float:
    """Answer the peak memory of two steps in gigabytes; not a number where they need more than there is."""
    peak = float("nan")
    with suppress(EOFError, BrokenPipeError), worker(kind, setup) as pipe:
        for round_ in range(2):
            pipe.send(round_)
            _, _, peak = pipe.recv()
    return peak / 1e9


@contextmanager
def worker(kind: str, setup: Setup) -> Iterator[Any]:  # Any: one end of a pipe
    """Start a process that does a step whenever it is sent a seed, and tells its loss, seconds and peak memory.

    What is told to the C library about memory holds for a whole process, and the bare loop is told nothing.
    """
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    process = spawn.Process(target=step_when_asked, args=(kind, setup, theirs))
    process.start()
    theirs.close()
    yield pipe
    pipe.send(None)
    process.join()


def step_when_asked(kind: str, setup: Setup, pipe: Any) -> None:  # Any: as above
    import torch

    from trainer.allocator import keep_freed_memory

    warnings.simplefilter("ignore")
    step = stepper(kind, setup)
    if kind not in PLAIN:
        keep_freed_memory()
    while (seed := pipe.recv()) is not None:
        torch.manual_seed(seed)
        start = time.perf_counter()
        loss = step()
        pipe.send((loss, time.perf_counter() - start, most_memory()))


def most_memory() -> int:
    """Answer this process's own peak in bytes; getrusage would answer its parent's where that was larger."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    (peak,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(peak.split()[1]) * 1024


def main() -> None:
    """Measure and print."""
    from trainer.hardware import physical_cores

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--base", type=Path, help="a base GGUF; without it an untaught model of the same shape")
    parser.add_argument("--tokens", type=int, default=80, help="tokens per example, prompt and answer")
    parser.add_argument("--spread", type=float, default=1.0, help="longest less shortest, as a share of --tokens")
    parser.add_argument("--shared", type=int, default=0, help="tokens that all examples begin with alike")
    parser.add_argument("--batch", type=int, default=8, help="examples per step")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each kind; the best counts")
    parser.add_argument("--threads", type=int, default=physical_cores(), help="CPU threads")
    parser.add_argument("--layers", type=int, default=30, help="blocks of the untaught model")
    parser.add_argument("--no-memory", action="store_true", help="leave the memory measurement out")
    asked = parser.parse_args()
    setup = Setup(**{field.name: getattr(asked, field.name) for field in fields(Setup)})
    best = measure(setup)
    tokens = sum(len(e.ids) for e in examples(setup, 1000))
    speed = {kind: tokens / seconds for kind, seconds in best.items()}
    out = Printer(asked.json)
    out.line("tokens_per_second", speed["ours"], "tokens/s", "higher", budget=0.95 * speed["bare"], floor=speed["bare"])
    out.line("against_bare_loop", speed["ours"] / speed["bare"], "x", "higher", budget=1.6)
    out.line("against_checkpointing", speed["ours"] / speed["checkpointed"], "x", "higher", budget=1.8)
    out.line("gemm_share", best["gemm"] / best["ours"], "of time", "higher", budget=0.9)
    out.line("bfloat16", speed["ours_bf16"], "tokens/s", "higher", budget=speed["ours"], floor=speed["bare"])
    out.line("gemm_share_bfloat16", best["gemm_bf16"] / best["ours_bf16"], "of time", "higher", budget=0.5)
    if not asked.no_memory:
        long = replace(setup, tokens=LONG_TOKENS, spread=0.0, shared=0, rounds=1)
        ours, bare = peak_of("ours", long), peak_of("bare", long)
        out.line("peak_memory_1024", ours, "GB", "lower", budget=4.0, floor=bare)
        out.line("peak_memory_1024_bfloat16", peak_of("ours_bf16", long), "GB", "lower", budget=4.0, floor=bare)


@dataclass(frozen=True)
class Printer:
    """Prints a figure beside its budget, for people or as JSON."""

    as_json: bool

    def line(
        self, metric: str, value: float, unit: str, better: str, *, budget: float, floor: float | None = None
    ) -> None:
        if self.as_json:
            ratio = value / floor if floor else None
            found = {"bench": "train", "metric": metric, "value": round(value, 4), "unit": unit, "better": better}
            print(json.dumps({**found, "budget": round(budget, 4), "floor": floor, "ratio": ratio}), flush=True)
            return
        kept = value <= budget if better == "lower" else value >= budget
        beside = f", floor {floor:.2f}" if floor is not None else ""
        print(
            f"{metric:24s} {value:10.2f} {unit:9s} budget {budget:.2f}{beside}  {'ok' if kept else 'MISSED'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
