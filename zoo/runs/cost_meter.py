"""Measures what updates cost: seconds, CPU seconds and memory; and what other processes took."""

import ctypes
import gc
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

PROC = Path("/proc/self")
STAT = Path("/proc/stat")


class CostMeter:
    """Measures between `start` or `resume` and `stop`, which may be called repeatedly.

    `peak` is the largest memory in bytes, above what was held at `zero`: on CUDA that of PyTorch's
    tensors, under Linux the anonymous memory of this process, give or take twenty megabytes.
    `zero` first frees garbage and what malloc keeps; otherwise updates could reuse memory that an
    earlier run in this process left, and it would not be counted.

    `cpu` is the CPU seconds of this process, all threads together. `others` is the share of the
    machine's CPU time that other processes took meanwhile, from 0 to 1. `peak` and `others` are
    None if the system does not tell them.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu = 0.0
        self.peak: int | None = None
        self.on_gpu = False
        self._machine = [0.0, 0.0]  # CPU seconds of all processes, and of all cores, idle or not
        # What the clocks showed at the last start; None while it does not measure.
        self._start: float | None = None
        self._cpu_start = 0.0
        self._machine_start: tuple[float, float] | None = None
        self._memory_at_zero: int | None = None

    def zero(self, on_gpu: bool) -> None:
        """Count memory from what is held now."""
        self.on_gpu = on_gpu
        gc.collect()
        self._memory_at_zero = self._reset_peak()

    def start(self) -> None:
        """Start measuring; memory that was held between the last `stop` and now does not count."""
        self._reset_peak()
        self.resume()

    def resume(self) -> None:
        """Start measuring after a short pause; memory that was held during it counts."""
        self._start = time.monotonic()
        self._cpu_start = time.process_time()
        self._machine_start = machine_seconds()

    def stop(self) -> None:
        """Stop measuring, and add what was measured since the start; does nothing if stopped."""
        if self._start is None:
            return
        if self.on_gpu:
            torch.cuda.synchronize()
        self.seconds += time.monotonic() - self._start
        self.cpu += time.process_time() - self._cpu_start
        self._start = None
        if self._machine_start is not None and (now := machine_seconds()) is not None:
            for place, (before, after) in enumerate(zip(self._machine_start, now, strict=True)):
                self._machine[place] += after - before
        most = torch.cuda.max_memory_allocated() if self.on_gpu else anonymous_memory("VmHWM")
        if most is not None and self._memory_at_zero is not None:
            self.peak = max(self.peak or 0, most - self._memory_at_zero)

    def state(self) -> dict[str, Any]:
        """What a later process must know to go on measuring."""
        return {
            "seconds": self.seconds,
            "cpu": self.cpu,
            "machine": list(self._machine),
            "peak": self.peak,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from the state of an earlier process."""
        self.seconds = state["seconds"]
        self.peak = state["peak"]
        self.cpu = state.get("cpu", math.nan)  # older checkpoints do not have it
        self._machine = list(state.get("machine", (math.nan, math.nan)))

    @property
    def others(self) -> float | None:
        """The share of the machine's CPU time that other processes took, or None."""
        busy, all_cores = self._machine
        if math.isnan(busy) or math.isnan(self.cpu) or not all_cores:
            return None
        return round(min(1.0, max(0.0, (busy - self.cpu) / all_cores)), 3)

    def _reset_peak(self) -> int | None:
        """Count the peak anew from here; returns the bytes that are held now, or None."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        with suppress(AttributeError, OSError, TypeError):  # musl, macOS; Windows
            ctypes.CDLL(None).malloc_trim(0)
        try:
            (PROC / "clear_refs").write_text("5")  # proc(5): resets VmHWM to VmRSS
        except OSError:
            return None
        return anonymous_memory("VmRSS")


def anonymous_memory(size: str) -> int | None:
    """Bytes of this process's memory without pages of files; None if the system does not say.

    The pages of files at the peak are assumed to be those of now, since images mostly stay in
    memory once they are read.

    Args:
        size: VmRSS for now, VmHWM for the peak.
    """
    try:
        lines = [line.split() for line in (PROC / "status").read_text().splitlines()]
        kilobytes = {words[0][:-1]: int(words[1]) for words in lines if words[-1] == "kB"}
        return 1024 * (kilobytes[size] - kilobytes["RssFile"] - kilobytes["RssShmem"])
    except (OSError, KeyError):
        return None


def machine_seconds() -> tuple[float, float] | None:
    """CPU seconds since the machine started: of all processes, and of all cores, idle or not.

    None if the system does not say.
    """
    try:
        with open(STAT) as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        per_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None
    idle = ticks[3] + ticks[4]  # idle, and waiting for a disk
    return (sum(ticks) - idle) / per_second, sum(ticks) / per_second
