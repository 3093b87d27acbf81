"""Where a run reads, writes and computes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch

from zoo.datasets.benchmarks.base import Benchmark
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.fetching.fetch import fetch
from zoo.errors import UsageError
from zoo.runs.loggers_and_callbacks import callback_of, check_logger

UNDER_WAY = "under_way"  # folder below the results; holds what a campaign has begun
SMALL_IMAGE = 32  # pixels a side; up to this size several tasks at once are faster on a CPU


@dataclass(frozen=True)
class Workspace:
    """The folders and the device of a run, and what watches its training."""

    data: Path | None = None
    results: Path = Path("results")
    runs: Path = Path("runs")
    device: str = "auto"
    threads: int = field(default_factory=torch.get_num_threads)  # of each process
    devices: int = 1  # how many processes share a run, each on its own device
    logger: str = "csv"  # of the training, one of zoo.runs.loggers_and_callbacks.LOGGERS
    callbacks: tuple[str, ...] = ()  # of the training, import paths with options
    fetch: bool = False  # whether missing image sets are fetched
    yes: bool = False  # whether large ones are fetched without asking

    @cached_property
    def device_kind(self) -> str:
        """The kind of device: cpu or cuda.

        Raises:
            UsageError: a device was asked for that is not there.
        """
        if self.device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"--device {self.device}: choose from auto, cpu, cuda")
        has_cuda = torch.cuda.is_available()
        if self.device == "cuda" and not has_cuda:
            raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
        return "cuda" if has_cuda and self.device != "cpu" else "cpu"

    def check(self) -> None:
        """Refuse a device, logger or callback that does not exist, before anything is opened.

        Raises:
            UsageError: the message says what to change.
        """
        most = torch.cuda.device_count() if self.device_kind == "cuda" else os.cpu_count() or 1
        if not 1 <= self.devices <= most:
            raise UsageError(f"--devices {self.devices}: expected a number from 1 to {most}")
        check_logger(self.logger)
        for text in self.callbacks:
            callback_of(text)

    def open(self, benchmark: Benchmark) -> dict[str, Store]:
        """Open the stores of a benchmark; missing images are fetched first if `fetch` is set."""
        if self.fetch and self.data:
            fetch(benchmark, self.data, self.yes)
        return benchmark.open(self.data)


def tasks_together(image: Sequence[int], on_gpu: bool = False) -> int:
    """How many tasks are computed at once: eight on a GPU and of small images, else one."""
    return 8 if on_gpu or max(image[1:], default=0) <= SMALL_IMAGE else 1
