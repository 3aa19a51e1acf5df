"""Measure chat through the embedded runtime against bare llama.cpp, and what an A/B costs in memory.

python bench/chat.py [--base FILE] [--tokens 96] [--rounds 5] [--threads 2] [--spin] [--json]

Both run in the same rounds, taking turns, and the best round of each counts. Bare llama.cpp is xllamacpp in a
process of its own with its own defaults, the answer's pieces handed over in memory. Its threads wait for each
other as ours do (docs/decisions/0009-spin-briefly.md); with --spin as llama.cpp does by default, which needs a
machine with nothing else to do. A first token is warm: the model is loaded, the question is new. Memory is a
process's resident set with its mapped files.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from convert import embedded_base, write_adapter

from trainer.gguf_check import check
from trainer.lora_gguf import convert_adapter
from trainer.runtimes.base import ChatOptions, Publication
from trainer.runtimes.embedded import WAIT_BRIEFLY, EmbeddedHost
from trainer.runtimes.home import read_actual
from trainer.runtimes.llamacpp import LlamaCppRuntime
from trainer.spec import Message

CONTEXT = 2048
PLACES = ("Oslo", "Bergen", "Kiel", "Hull", "Cork", "Brest", "Porto", "Genoa", "Piraeus", "Split", "Riga", "Turku")
BARE = """
import json, sys, time
import xllamacpp as x
p = x.CommonParams()
p.model.path = sys.argv[1]
p.n_ctx, p.verbosity, p.cpuparams.n_threads = int(sys.argv[2]), 1, int(sys.argv[3])
server = x.Server(p)
print("ready", flush=True)
for line in sys.stdin:
    times, start = [], time.perf_counter()
    def heard(part):
        part = json.loads(part) if isinstance(part, (str, bytes)) else part
        if any((c.get("delta") or {}).get("content") for c in part.get("choices", [])):
            times.append(time.perf_counter())
        return False
    server.handle_chat_completions(json.loads(line), heard)
    print(json.dumps([times[0] - start, times[-1] - times[0], len(times)]), flush=True)
"""


@dataclass
class Side:
    """What was measured of one of the two."""

    first: list[float] = field(default_factory=list[float])
    speed: list[float] = field(default_factory=list[float])

    def add(self, first: float, rest: float, pieces: int) -> None:
        assert pieces > 1, "the model said too little to measure it"
        self.first.append(first)
        self.speed.append((pieces - 1) / rest)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", type=Path, help="a llama or qwen2 GGUF; the embedded base when left out")
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--spin", action="store_true", help="let the bare one's threads wait busily")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    base = options.base or embedded_base()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        adapter = folder / "adapter.gguf"
        summary = check(base, whole=True)
        convert_adapter(write_adapter(folder / "adapter", summary, 16), summary, adapter)
        with EmbeddedHost(folder / "home", threads=options.threads):
            runtime = LlamaCppRuntime(folder / "home")
            runtime.publish(Publication("base", base, context=CONTEXT), lambda _status, _share: None)
            ours, bare = taking_turns(runtime, base, options)
            alone = resident(runtime)
            runtime.publish(Publication("v1", base, adapter, context=CONTEXT), lambda _status, _share: None)
            for side, tag in enumerate(("base", "v1")):
                ask(runtime, tag, 0, side, options.tokens)
            both = resident(runtime)
    show("decode", max(ours.speed), "tokens/s", "higher", 0.95 * max(bare.speed), max(bare.speed), options)
    show("first token, warm", 1000 * min(ours.first), "ms", "lower", 300.0, 1000 * min(bare.first), options)
    show("A/B memory", both / 2**20, "MB", "lower", 1.15 * alone / 2**20, alone / 2**20, options)


def taking_turns(runtime: LlamaCppRuntime, base: Path, options: argparse.Namespace) -> tuple[Side, Side]:
    """Ask ours, then the bare one, over and over."""
    ours, bare = Side(), Side()
    with subprocess.Popen(  # noqa: S603 - our own code
        [sys.executable, "-c", BARE, str(base), str(CONTEXT), str(options.threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ({} if options.spin else WAIT_BRIEFLY),
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        for number in range(options.rounds + 1):
            told = ask(runtime, "base", number, 0, options.tokens)
            body = {
                "messages": [message.model_dump() for message in question(number)],
                "max_tokens": options.tokens,
                "temperature": 0,
                "stream": True,
            }
            print(json.dumps(body), file=process.stdin, flush=True)
            heard = json.loads(process.stdout.readline())
            if number:  # the round before the first warms up
                ours.add(*told)
                bare.add(*heard)
        process.stdin.close()
    return ours, bare


def ask(runtime: LlamaCppRuntime, tag: str, number: int, side: int, tokens: int) -> tuple[float, float, int]:
    """Answer the seconds to the first piece and from it to the last, and how many there were."""
    start = time.perf_counter()
    times = list(clocked(chunk.text for chunk in runtime.chat(tag, question(number), options(tokens), side)))
    return times[0] - start, times[-1] - times[0], len(times)


def clocked(pieces: Iterable[str]) -> Iterable[float]:
    return (time.perf_counter() for piece in pieces if piece)


def options(tokens: int) -> ChatOptions:
    return ChatOptions(max_tokens=tokens, context=CONTEXT)


def question(number: int) -> list[Message]:
    """Ask something new each time that a small model has much to say about."""
    place = PLACES[number % len(PLACES)]
    return [Message(role="user", content=f"In {place}, what should a visitor see? Write a long travel story about it.")]


def resident(runtime: LlamaCppRuntime) -> int:
    """Answer the resident bytes of the one child."""
    (loaded,) = read_actual(runtime.home).bases.values()
    return int(Path(f"/proc/{loaded.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def show(
    metric: str, value: float, unit: str, better: str, budget: float, floor: float, options: argparse.Namespace
) -> None:
    if options.json:
        row = {"bench": "chat", "metric": metric, "value": round(value, 3), "unit": unit, "better": better}
        more = {"budget": round(budget, 3), "floor": round(floor, 3), "ratio": round(value / floor, 3)}
        print(json.dumps({**row, **more}))
        return
    print(f"{metric:20} {value:9,.1f} {unit:8}   budget {budget:,.1f}   floor {floor:,.1f}   ×{value / floor:.3f}")


if __name__ == "__main__":
    main()
