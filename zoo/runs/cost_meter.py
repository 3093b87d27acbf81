"""What updates cost: the seconds that pass in them, and the memory that they take at most."""

import ctypes
import gc
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

PROC = Path("/proc/self")


class CostMeter:
    """Measures between `start` or `resume` and `stop`, as often as they are called.

    Memory is in bytes, above what was held at `zero`: on CUDA that of PyTorch's tensors, under
    Linux that of this process that no file stands behind, give or take twenty megabytes. Garbage
    and what malloc keeps are given back before, so that an earlier run in this process leaves
    nothing that would not count.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.peak: int | None = None  # None where the system does not say
        self.on_gpu = False
        self._begun: float | None = None  # while it does not measure
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
        self._begun = time.monotonic()

    def stop(self) -> None:
        """Add the seconds, keep the larger peak; again, nothing."""
        if self._begun is None:
            return
        if self.on_gpu:
            torch.cuda.synchronize()
        self.seconds += time.monotonic() - self._begun
        self._begun = None
        most = torch.cuda.max_memory_allocated() if self.on_gpu else anonymous_memory("VmHWM")
        if most is not None and self._before is not None:
            self.peak = max(self.peak or 0, most - self._before)

    def state(self) -> dict[str, Any]:
        """What a later process must know to go on."""
        return {"seconds": self.seconds, "peak": self.peak}

    def load(self, state: dict[str, Any]) -> None:
        """Go on where an earlier process was."""
        self.seconds, self.peak = state["seconds"], state["peak"]

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
