"""What this machine offers for training: device, precision, threads, memory. Imports torch only when asked."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trainer.failures import TrainerFailure
from trainer.recipe import Precision, TrainSpec

PROBE_ROWS, PROBE_WIDTH, PROBES = 512, 1024, 8  # about 5 ms a product
CLEARLY = 1.5  # what is not a product is no faster in bfloat16


@dataclass(frozen=True)
class Hardware:
    """The device a run would use and what it has. Memory in bytes."""

    device: Literal["cpu", "cuda", "mps"]
    precision: Precision
    threads: int
    memory: int
    free_memory: int
    name: str

    def sentence(self) -> str:
        """Describe the machine in one line for people."""
        gigabytes = self.memory / 1e9
        if self.device == "cpu":
            return f"this computer's processor, {self.threads} threads, {gigabytes:.0f} GB of memory"
        return f"{self.name}, {gigabytes:.0f} GB of memory"


def detect(threads: int | None = None) -> Hardware:
    """Look at this machine. `threads` overrides the number of CPU threads; a CPU counts as float32 until probed."""
    import torch

    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        bf16 = torch.cuda.is_bf16_supported()
        name = torch.cuda.get_device_name()
        return Hardware("cuda", "bfloat16" if bf16 else "float32", threads or physical_cores(), total, free, name)
    total, free = system_memory()
    return Hardware("cpu", "float32", threads or physical_cores(), total, free, "CPU")


def processes_for(spec: TrainSpec) -> int:
    """Answer how many processes shall teach: as the recipe asks, else one for each card."""
    import torch

    cards = torch.cuda.device_count()
    if cards and (spec.processes or 1) > cards:
        raise TrainerFailure(
            "input",
            f"The recipe asks for {spec.processes} processes, and this machine has {cards} graphics cards. Ask for at "
            "most as many, or leave it empty.",
        )
    return spec.processes or max(1, cards)


def faster_precision(threads: int | None = None) -> Precision:
    """Answer in which numbers this machine multiplies faster: bfloat16 on most GPUs and on CPUs with units for it.

    Asked once a run, because the answer of a busy machine may change.
    """
    import torch

    hardware = detect(threads)
    if hardware.device != "cpu":
        return hardware.precision
    torch.set_num_threads(hardware.threads)
    seconds: dict[Precision, float] = {}
    kinds: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    for name, dtype in kinds.items():
        rows, weight = (
            torch.ones(PROBE_ROWS, PROBE_WIDTH, dtype=dtype),
            torch.ones(PROBE_WIDTH, PROBE_WIDTH, dtype=dtype),
        )
        times: list[float] = []
        for _ in range(PROBES):
            start = time.perf_counter()
            torch.mm(rows, weight)
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    return "bfloat16" if seconds["bfloat16"] * CLEARLY < seconds["float32"] else "float32"


def physical_cores() -> int:
    """Answer how many physical cores this process may use; two threads on one core only get in each other's way."""
    allowed: set[int] = set(range(os.cpu_count() or 1))
    if hasattr(os, "sched_getaffinity"):
        allowed = os.sched_getaffinity(0)
    cores: set[str] = set()
    for cpu in allowed:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text().strip() if siblings.exists() else str(cpu))
    return max(1, len(cores))


def system_memory() -> tuple[int, int]:
    """Answer the machine's memory and what of it is free, in bytes; a container's limit counts as the machine's."""
    info = Path("/proc/meminfo")
    if not info.exists():
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 << 30
        return total, total // 2
    values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in info.read_text().splitlines() if ":" in line}
    total, free = values["MemTotal"], values.get("MemAvailable", values["MemFree"])
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total, free = min(total, int(text)), min(free, int(text))
    return total, free
