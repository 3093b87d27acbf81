"""What updates cost: seconds, CPU seconds, memory; and how busy the machine was with others."""

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
    """Measures between `start` or `resume` and `stop`, as often as they are called.

    Memory is in bytes, above what was held at `zero`: on CUDA that of PyTorch's tensors, under
    Linux that of this process that no file stands behind, give or take twenty megabytes. Garbage
    and what malloc keeps are given back before, so that an earlier run in this process leaves
    nothing that would not count.

    `cpu` is the CPU seconds of this process, all threads together. `others` is the share of the
    machine's CPU time that other processes took meanwhile, 0 to 1; None where the system does not
    say.
    """

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0
        self._machine = [0.0, 0.0]  # CPU seconds of all processes, and of all cores, idle or not
        self.peak: int | None = None  # None where the system does not say
        self.on_gpu = False
        self._begun: float | None = None  # while it does not measure
        self._cpu_begun = 0.0
        self._machine_begun: tuple[float, float] | None = None
        self._before: int | None = None

    def zero(self, on_gpu: bool) -> None:
        """Take what is held now for nothing."""
        self.on_gpu = on_gpu
        gc.collect()
        self._before = self._now()

    def start(self) -> None:
        """Let the clock run; what was taken between `stop` and here does not count."""
        self._now()
        self.resume()

    def resume(self) -> None:
        """Let the clock run, after a pause so short that only its time is not to count."""
        self._begun, self._cpu_begun = time.monotonic(), time.process_time()
        self._machine_begun = machine_seconds()

    def stop(self) -> None:
        """Add the seconds, keep the larger peak; again, nothing."""
        if self._begun is None:
            return
        if self.on_gpu:
            torch.cuda.synchronize()
        self.seconds += time.monotonic() - self._begun
        self.cpu += time.process_time() - self._cpu_begun
        self._begun = None
        if self._machine_begun is not None and (now := machine_seconds()) is not None:
            for part, (before, after) in enumerate(zip(self._machine_begun, now, strict=True)):
                self._machine[part] += after - before
        most = torch.cuda.max_memory_allocated() if self.on_gpu else anonymous_memory("VmHWM")
        if most is not None and self._before is not None:
            self.peak = max(self.peak or 0, most - self._before)

    def state(self) -> dict[str, Any]:
        """What a later process must know to go on."""
        return {
            "seconds": self.seconds,
            "cpu": self.cpu,
            "machine": list(self._machine),
            "peak": self.peak,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on where an earlier process was."""
        self.seconds, self.peak = state["seconds"], state["peak"]
        self.cpu = state.get("cpu", math.nan)  # checkpoints from before it was measured
        self._machine = list(state.get("machine", (math.nan, math.nan)))

    @property
    def others(self) -> float | None:
        """The share of the machine's CPU time that other processes took meanwhile."""
        busy, all_cores = self._machine
        if math.isnan(busy) or math.isnan(self.cpu) or not all_cores:
            return None
        return round(min(1.0, max(0.0, (busy - self.cpu) / all_cores)), 3)

    def _now(self) -> int | None:
        """What is held now; the peak is counted anew from here."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            return torch.cuda.memory_allocated()
        with suppress(AttributeError, OSError, TypeError):  # musl, macOS; Windows
            ctypes.CDLL(None).malloc_trim(0)
        try:
            (PROC / "clear_refs").write_text("5")  # proc(5): the peak becomes what is held
        except OSError:
            return None
        return anonymous_memory("VmRSS")


def anonymous_memory(size: str) -> int | None:
    """Bytes of VmRSS or, at the peak, VmHWM, without pages of files; None where it is not said.

    Pages of files at the peak are taken for those of now: images come in and mostly stay.
    """
    try:
        words = [line.split() for line in (PROC / "status").read_text().splitlines()]
        kilobytes = {line[0][:-1]: int(line[1]) for line in words if line[-1] == "kB"}
        return 1024 * (kilobytes[size] - kilobytes["RssFile"] - kilobytes["RssShmem"])
    except (OSError, KeyError):
        return None


def machine_seconds() -> tuple[float, float] | None:
    """CPU seconds since the machine started: of all processes, and of all cores, idle or not.

    None where the system does not say.
    """
    try:
        with open(STAT) as file:
            ticks = [int(word) for word in file.readline().split()[1:9]]
        per_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, AttributeError):
        return None
    idle = ticks[3] + ticks[4]  # idle, and waiting for a disk
    return (sum(ticks) - idle) / per_second, sum(ticks) / per_second
