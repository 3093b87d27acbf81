"""About how long runs take, and how much disk.

CPU seconds are scaled from records of the same learner by operations: images of an update, times
the multiplications of the backbone for one image, times inner steps where they adapt the backbone.
A learner without a record of a backbone of like size is timed over a few updates. Estimates are for
a machine as that of the records.
"""

import copy
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.learner import Learner
from zoo.micro_batches import micro_batches
from zoo.networks.backbone import build_backbone
from zoo.origin import checkout_root
from zoo.registry import learner_of
from zoo.reports import records
from zoo.reports.published import counted
from zoo.runs.plan import Plan
from zoo.runs.resolved import ResolvedRequest
from zoo.runs.run import Run
from zoo.runs.settings import PRETRAIN
from zoo.runs.stages import read_stage
from zoo.variants import format_variant

TIMED_UPDATES = 3
TIMED_AHEAD = 100  # updates from which on it is worth timing some of them
OVERHEAD = 2e7  # operations: about what surrounds the step of a network of three linear layers
SAME_BENCHMARK = "records of the same learner and benchmark"
SAME_LEARNER = "records of the same learner"
TIMED = f"{TIMED_UPDATES} timed updates"
GUESS = "a guess"
QUICK_PRETRAINING = 1500 * 128  # images that a pre-training sees under budget `quick`
# Backbones whose operations an image differ by no more than this factor are of like size.
ALIKE = 10


@cache
def operations_per_image(backbone: str, image: tuple[int, ...]) -> float:
    """Floating-point operations of a backbone on one image; at least one a number of the image.

    Nothing is computed: shapes alone go through it.
    """
    with torch.device("meta"), torch.random.fork_rng([]):
        net = build_backbone(backbone, image).eval()
        count = FlopCounterMode(display=False)
        with count, torch.no_grad():
            net(torch.empty(1, *image))
    return float(max(count.get_total_flops(), math.prod(image)))


@dataclass(frozen=True)
class Size:
    """How much a run computes, in operations of its backbone's forward pass.

    Args:
        update: of one update.
        episode: of one test episode.
        pretraining: of its whole pre-training; 0 where it has none.
    """

    update: float
    episode: float
    pretraining: float


def size_of(
    settings: Mapping[str, Any],
    benchmark: Benchmark,
    way: int | None,
    shot: int,
    cls: type[Learner] = Learner,
) -> Size:
    """How much a run of these settings computes.

    Args:
        settings: resolved, name to value.
        benchmark: whose images it takes.
        way: N of the test episodes; None in regression.
        shot: K of the test episodes.
        cls: of the learner.
    """
    image = operations_per_image(settings["backbone"], tuple(benchmark.image))
    ways = (settings["train_way"] or 1, way or 1)
    if benchmark.regression:
        ways = (1, 1)
    steps, test_steps = (1 + (settings.get(name) or 0) for name in ("inner_steps", "test_steps"))
    if not getattr(cls, "adapts_encoder", True):  # as of ANIL
        steps = test_steps = 1
    trained = ways[0] * (settings["train_shot"] + settings["train_query"])
    tested = ways[1] * (shot + settings["query"])
    images = 0
    if settings.get("pretrained_from") == PRETRAIN:
        images = settings["pretrain_updates"] * settings["pretrain_batch"]
    return Size(
        (settings["meta_batch"] * trained * image + OVERHEAD) * steps,
        tested * image * max(steps, test_steps),
        images * image,
    )


@dataclass(frozen=True)
class Measured:
    """What a record says of the cost of a learner."""

    learner: str
    benchmark: str
    backbone: str
    image: tuple[int, ...]
    rates: Mapping[str, float]  # CPU seconds an operation: of updates, test, pre-training


def measurements(folders: Iterable[Path]) -> list[Measured]:
    """The cost of every finished run of some folders of records."""
    found = []
    for folder in folders:
        frame, _ = records.load(folder)
        for row in frame[frame["status"] == "done"].to_dict("records"):
            try:
                found.append(_measured(row))
            except Exception:  # of a plug-in, of old settings, or edited
                continue
    return found


def _measured(row: Mapping[Any, Any]) -> Measured:
    settings, benchmark = row["settings"], find_benchmark(row["benchmark"])
    _, cls, _ = learner_of(format_variant(row["learner"], row["variant"]))
    way = None if benchmark.regression else int(row["way"])
    size = size_of(settings, benchmark, way, int(row["shot"]), cls)
    threads = 1 if pd.isna(row["threads"]) else int(row["threads"])
    rates = {}
    known = [row["update_cpu_seconds"], *(
        seconds * threads for seconds in (row["update_seconds"], row["train_seconds"])
        if pd.notna(seconds)
    )]  # fmt: skip
    cpu = next((seconds for seconds in known if pd.notna(seconds) and seconds > 0), None)
    if row["updates"] and cpu:
        rates["update"] = cpu / (row["updates"] * size.update)
    if pd.notna(row["test_seconds"]) and row["test_seconds"]:
        rates["episode"] = threads * row["test_seconds"] / (row["episodes"] * size.episode)
    for stage in row["stages"] or ():
        if stage["name"] == PRETRAIN and size.pretraining:
            cpu = stage.get("cpu_seconds") or threads * stage["seconds"]
            rates["pretraining"] = cpu / size.pretraining
    kind = learner_key(row["learner"], settings)
    image = tuple(benchmark.image)
    return Measured(kind, row["benchmark"], settings["backbone"], image, rates)


def learner_key(key: str, settings: Mapping[str, Any]) -> str:
    """A learner, and of a plug-in the learner it is put on: their costs are not alike."""
    return f"{key}[host={settings['host']}]" if "host" in settings else key


@dataclass(frozen=True)
class Estimate:
    """About how many CPU seconds something takes, and how that is known."""

    seconds: float
    basis: str


class Estimator:
    """Estimates from the records of some folders, read when first asked."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Say where records are."""
        self._folders = list(folders)
        self._measured: list[Measured] | None = None
        self._timed: dict[tuple[str, str], float] = {}

    @classmethod
    def beside(cls, results: Path) -> "Estimator":
        """From the records of a folder of results, and those of the checkout."""
        root = checkout_root()
        folders = [results, *([root / "results"] if root else [])]
        return cls(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))

    @property
    def measured(self) -> list[Measured]:
        """What the records say."""
        if self._measured is None:
            self._measured = measurements(self._folders)
        return self._measured

    def run(self, run: Run) -> Estimate:
        """Training, validation and test of a run, without its pre-training."""
        return self.request(run, trains=run.weights_of is None)

    def request(self, asked: ResolvedRequest | Plan, trains: bool = True) -> Estimate:
        """The same of a run that may be only resolved; `trains` is False for another's weights."""
        get = {name: setting.value for name, setting in asked.settings.items()}
        benchmark, request = asked.benchmark, asked.request
        size = size_of(get, benchmark, request.way, request.shot, asked.cls)
        key = learner_key(request.learner, get)
        updates = get["updates"] if trains else 0
        rate, basis = self.rate("update", key, request.benchmark, get["backbone"], benchmark.image)
        if rate is None and updates >= TIMED_AHEAD and isinstance(asked, Run):
            rate, basis = self.timed(asked) / size.update, TIMED
        test_rate, _ = self.rate(
            "episode", key, request.benchmark, get["backbone"], benchmark.image
        )
        update_seconds = self.default_update(benchmark) if rate is None else rate * size.update
        episode = (
            update_seconds / max(get["meta_batch"], 1)
            if test_rate is None
            else test_rate * size.episode
        )
        validations = get["validations"] if updates else 0
        episodes = get["test_episodes"] + validations * get["val_episodes"]
        return Estimate(updates * update_seconds + episodes * episode, basis)

    def rate(
        self, part: str, key: str, benchmark: str, backbone: str, image: Sequence[int]
    ) -> tuple[float | None, str]:
        """CPU seconds an operation, by the records that are most alike, and which they are.

        Args:
            part: update, episode or pretraining.
            key: of the learner; empty for any.
            benchmark: of the run.
            backbone: of the run.
            image: its shape.
        """
        mine = [
            m
            for m in self.measured
            if part in m.rates
            and key in ("", m.learner)
            and len(m.image) == len(image)
            and like_size(m, backbone, tuple(image))
        ]
        same = [m for m in mine if (m.benchmark, m.backbone) == (benchmark, backbone)]
        near = [m for m in mine if m.image == tuple(image)]
        if not mine:
            return None, GUESS
        # Other work makes a record slower, never faster: the lower of two medians is nearer.
        groups = [group for group in (same, near) if group] or [mine]
        rate = min(statistics.median(m.rates[part] for m in group) for group in groups)
        return rate, SAME_BENCHMARK if same else SAME_LEARNER

    def default_update(self, benchmark: Benchmark) -> float:
        """CPU seconds of an update of which nothing is known: `quick` has 1,200 on two cores."""
        return 2 * benchmark.quick_seconds / 1200

    def timed(self, run: Run) -> float:
        """Seconds of an update, from a few that are made and thrown away.

        Of a learner that breaks in its first update, as a plug-in may, what is usual.
        """
        known = (run.name, run.request.benchmark)
        if known not in self._timed:
            try:
                self._timed[known] = timed_update(run)
            except Exception:  # the run will say it; others must not wait for it
                self._timed[known] = self.default_update(run.benchmark)
        return self._timed[known]

    def pretraining(self, run: Run) -> Estimate:
        """Of the pre-training that a run asks for."""
        get = {name: setting.value for name, setting in run.settings.items()}
        size = size_of(get, run.benchmark, run.request.way, run.request.shot).pretraining
        rate, basis = self.rate(
            "pretraining", "", run.request.benchmark, get["backbone"], run.benchmark.image
        )
        images = get["pretrain_updates"] * get["pretrain_batch"]
        unknown = 2.0 * run.benchmark.quick_seconds * images / QUICK_PRETRAINING
        return Estimate(unknown if rate is None else rate * size, basis)

    def pretrainings(self, runs: Sequence[Run]) -> float:
        """Seconds of all pre-trainings that are not there yet, each once."""
        left = {
            staging.folder: run
            for run in runs
            for staging in run.stages
            if staging.stage.name == PRETRAIN and read_stage(staging.folder) is None
        }
        return sum(self.pretraining(run).seconds for run in left.values())

    def in_words(self, runs: Sequence[Run]) -> str:
        """Minutes of all of them and their pre-trainings, and how that is known.

        Threads are taken to share the work evenly, which the last of many never do.
        """
        threads = runs[0].workspace.threads
        estimates = [self.run(run) for run in runs]
        total = sum(estimate.seconds for estimate in estimates) + self.pretrainings(runs)
        seconds = total / threads
        ways = Counter(estimate.basis for estimate in estimates)
        known = ", ".join(f"{count} by {basis}" for basis, count in ways.most_common())
        on = counted(threads, "thread", "threads")
        return f"about {duration(seconds)} on {on}" + (f" ({known})" if known else "")


def duration(seconds: float) -> str:
    """``40 min``, ``30 h``, ``12 days`` or ``2,000 years``."""
    for unit, size, most in (("min", 60, 10 * 3600), ("h", 3600, 72 * 3600)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    days = seconds / 86400
    return f"{days:.0f} days" if days < 1000 else f"{days / 365:,.0f} years"


def like_size(one: Measured, backbone: str, image: tuple[int, ...]) -> bool:
    """Whether the backbone of a record is of like size as another."""
    there, here = (
        operations_per_image(one.backbone, one.image),
        operations_per_image(backbone, image),
    )
    return 1 / ALIKE <= there / here <= ALIKE


def timed_update(run: Run) -> float:
    """CPU seconds of one update of a run, the least of a few after one that warms up.

    The run's learner and random numbers stay as they are.
    """
    torch.set_num_threads(run.workspace.threads)
    learner = copy.deepcopy(run.learner).train()
    parts = run["meta_batch"] // run.micro_batch
    batches = iter(run.data.train_dataloader())
    found = []
    with torch.random.fork_rng([]):
        for _ in range(1 + TIMED_UPDATES):
            started = time.process_time()
            batch = run.data.on_after_batch_transfer(next(batches), 0)
            learner.meta_loss(next(micro_batches(batch, run.micro_batch))).backward()
            learner.zero_grad()
            found.append((time.process_time() - started) * parts)
    return min(found[1:])


def run_megabytes(run: Run) -> float:
    """About how much disk a run takes: two checkpoints, one of them with Adam's state."""
    weights = 0 if run.weights_of else sum(p.numel() for p in run.learner.parameters())
    return weights * 16 / 1e6 + 0.3
