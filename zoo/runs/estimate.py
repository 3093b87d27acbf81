"""Estimates how long runs take, and how much disk space.

CPU seconds are scaled from records of the same learner by the number of operations: the images of
an update, times the operations of the backbone on one image, times the inner steps if they adapt
the backbone. A learner without a record of a backbone of similar size is timed over a few updates.
Estimates hold for a machine like the one that made the records.
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
TIMED_AHEAD = 100  # updates; in shorter runs it is not worth timing some of them
OVERHEAD = 2e7  # operations that take about as long as all else in an update of a tiny network
SAME_BENCHMARK = "records of the same learner and benchmark"
SAME_LEARNER = "records of the same learner"
TIMED = f"{TIMED_UPDATES} timed updates"
GUESS = "a guess"
QUICK_PRETRAINING = 1500 * 128  # images that a pre-training sees under budget `quick`
ALIKE = 10  # backbones of similar size differ in operations per image by at most this factor


@cache
def operations_per_image(backbone: str, image: tuple[int, ...]) -> float:
    """Floating-point operations of a backbone on one image; at least one per number in the image.

    Only shapes are computed, on torch's meta device.
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
        pretraining: of its whole pre-training; 0 if it has none.
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
        settings: resolved values by name.
        benchmark: where its images are from.
        way: N of the test episodes; None in regression.
        shot: K of the test episodes.
        cls: the learner's class.
    """
    per_image = operations_per_image(settings["backbone"], tuple(benchmark.image))
    train_way, test_way = settings["train_way"] or 1, way or 1
    if benchmark.regression:
        train_way = test_way = 1
    steps = 1 + (settings.get("inner_steps") or 0)
    test_steps = 1 + (settings.get("test_steps") or 0)
    if not getattr(cls, "adapts_encoder", True):  # ANIL, for example
        steps = test_steps = 1
    training_images = train_way * (settings["train_shot"] + settings["train_query"])
    test_images = test_way * (shot + settings["query"])
    pretraining_images = 0
    if settings.get("pretrained_from") == PRETRAIN:
        pretraining_images = settings["pretrain_updates"] * settings["pretrain_batch"]
    return Size(
        (settings["meta_batch"] * training_images * per_image + OVERHEAD) * steps,
        test_images * per_image * max(steps, test_steps),
        pretraining_images * per_image,
    )


@dataclass(frozen=True)
class Measured:
    """What a record says of the cost of a learner."""

    learner: str
    benchmark: str
    backbone: str
    image: tuple[int, ...]
    rates: Mapping[str, float]  # CPU seconds per operation: update, episode and pretraining


def measurements(folders: Iterable[Path]) -> list[Measured]:
    """The cost of every finished run in some folders of records."""
    costs = []
    for folder in folders:
        frame, _ = records.load(folder)
        for row in frame[frame["status"] == "done"].to_dict("records"):
            try:
                costs.append(_measured(row))
            except Exception:  # a plug-in that is not loaded, old settings, or an edited record
                continue
    return costs


def _measured(row: Mapping[Any, Any]) -> Measured:
    """The cost of a finished run, from its record."""
    settings, benchmark = row["settings"], find_benchmark(row["benchmark"])
    _, cls, _ = learner_of(format_variant(row["learner"], row["variant"]))
    way = None if benchmark.regression else int(row["way"])
    size = size_of(settings, benchmark, way, int(row["shot"]), cls)
    threads = 1 if pd.isna(row["threads"]) else int(row["threads"])
    # Older records lack the first or the first two of these; the first that is there counts.
    measured_times = [
        row["update_cpu_seconds"],
        row["update_seconds"] * threads if pd.notna(row["update_seconds"]) else None,
        row["train_seconds"] * threads if pd.notna(row["train_seconds"]) else None,
    ]
    cpu = next((time for time in measured_times if pd.notna(time) and time > 0), None)
    rates = {}
    if row["updates"] and cpu:
        rates["update"] = cpu / (row["updates"] * size.update)
    if pd.notna(row["test_seconds"]) and row["test_seconds"]:
        rates["episode"] = threads * row["test_seconds"] / (row["episodes"] * size.episode)
    for stage in row["stages"] or ():
        if stage["name"] == PRETRAIN and size.pretraining:
            cpu = stage.get("cpu_seconds") or threads * stage["seconds"]
            rates["pretraining"] = cpu / size.pretraining
    learner = learner_key(row["learner"], settings)
    image = tuple(benchmark.image)
    return Measured(learner, row["benchmark"], settings["backbone"], image, rates)


def learner_key(key: str, settings: Mapping[str, Any]) -> str:
    """A learner's key with its host if it is put on one, since its cost depends on the host."""
    return f"{key}[host={settings['host']}]" if "host" in settings else key


@dataclass(frozen=True)
class Estimate:
    """About how many CPU seconds something takes, and what the estimate is based on."""

    seconds: float
    basis: str


class Estimator:
    """Estimates from the records in some folders, which are read when they are first needed."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Name the folders of records."""
        self._folders = list(folders)
        self._measured: list[Measured] | None = None
        self._timed: dict[tuple[str, str], float] = {}

    @classmethod
    def from_records_in(cls, results: Path) -> "Estimator":
        """An estimator from the records in a folder of results and those of the checkout."""
        folders = [results]
        if (root := checkout_root()) is not None:
            folders.append(root / "results")
        return cls(dict.fromkeys(folder.resolve() for folder in folders if folder.is_dir()))

    @property
    def measured(self) -> list[Measured]:
        """The costs that the records say."""
        if self._measured is None:
            self._measured = measurements(self._folders)
        return self._measured

    def run(self, run: Run) -> Estimate:
        """Training, validation and test of a run, without its pre-training."""
        return self.request(run, trains=run.weights_of is None)

    def request(self, asked: ResolvedRequest | Plan, trains: bool = True) -> Estimate:
        """Training, validation and test of a run that may be only resolved.

        Args:
            asked: the run.
            trains: False if it tests the weights of another run.
        """
        values = {name: setting.value for name, setting in asked.settings.items()}
        benchmark, request = asked.benchmark, asked.request
        size = size_of(values, benchmark, request.way, request.shot, asked.cls)
        key, backbone = learner_key(request.learner, values), values["backbone"]
        updates = values["updates"] if trains else 0
        rate, basis = self.rate("update", key, request.benchmark, backbone, benchmark.image)
        if rate is None and updates >= TIMED_AHEAD and isinstance(asked, Run):
            rate, basis = self.timed(asked) / size.update, TIMED
        update_seconds = self.default_update(benchmark) if rate is None else rate * size.update
        test_rate, _ = self.rate("episode", key, request.benchmark, backbone, benchmark.image)
        if test_rate is None:
            episode_seconds = update_seconds / max(values["meta_batch"], 1)
        else:
            episode_seconds = test_rate * size.episode
        episodes = values["test_episodes"]
        if updates:
            episodes += values["validations"] * values["val_episodes"]
        return Estimate(updates * update_seconds + episodes * episode_seconds, basis)

    def rate(
        self, part: str, key: str, benchmark: str, backbone: str, image: Sequence[int]
    ) -> tuple[float | None, str]:
        """CPU seconds per operation, by the most similar records, and which records those are.

        Args:
            part: update, episode or pretraining.
            key: of the learner; empty for any learner.
            benchmark: of the run.
            backbone: of the run.
            image: the shape of its images.

        Returns:
            The rate, or None if there is no similar record; and the basis of the estimate.
        """
        similar = [
            record
            for record in self.measured
            if part in record.rates
            and key in ("", record.learner)
            and len(record.image) == len(image)
            and like_size(record, backbone, tuple(image))
        ]
        if not similar:
            return None, GUESS
        same_benchmark = [
            record
            for record in similar
            if (record.benchmark, record.backbone) == (benchmark, backbone)
        ]
        same_image = [record for record in similar if record.image == tuple(image)]
        # Other work makes a record slower, never faster: the lower of two medians is nearer.
        groups = [group for group in (same_benchmark, same_image) if group] or [similar]
        rate = min(statistics.median(record.rates[part] for record in group) for group in groups)
        return rate, SAME_BENCHMARK if same_benchmark else SAME_LEARNER

    def default_update(self, benchmark: Benchmark) -> float:
        """CPU seconds of an update if nothing is known: `quick` makes 1,200 on two cores."""
        return 2 * benchmark.quick_seconds / 1200

    def timed(self, run: Run) -> float:
        """CPU seconds of an update, from a few that are made and thrown away.

        If a learner breaks in its first update, as a plug-in may, it is the default.
        """
        key = (run.name, run.request.benchmark)
        if key not in self._timed:
            try:
                self._timed[key] = timed_update(run)
            except Exception:  # the run will report it; other runs must not be kept from starting
                self._timed[key] = self.default_update(run.benchmark)
        return self._timed[key]

    def pretraining(self, run: Run) -> Estimate:
        """The pre-training that a run asks for."""
        values = {name: setting.value for name, setting in run.settings.items()}
        size = size_of(values, run.benchmark, run.request.way, run.request.shot).pretraining
        rate, basis = self.rate(
            "pretraining", "", run.request.benchmark, values["backbone"], run.benchmark.image
        )
        images = values["pretrain_updates"] * values["pretrain_batch"]
        default = 2.0 * run.benchmark.quick_seconds * images / QUICK_PRETRAINING
        return Estimate(default if rate is None else rate * size, basis)

    def pretrainings(self, runs: Sequence[Run]) -> float:
        """CPU seconds of all pre-trainings that are not finished yet, each counted once."""
        missing = {
            staging.folder: run
            for run in runs
            for staging in run.stages
            if staging.stage.name == PRETRAIN and read_stage(staging.folder) is None
        }
        return sum(self.pretraining(run).seconds for run in missing.values())

    def in_words(self, runs: Sequence[Run]) -> str:
        """How long all runs and their pre-trainings take together, and what that is based on.

        It assumes that threads share the work evenly; in truth some are idle during the last runs.
        """
        threads = runs[0].workspace.threads
        estimates = [self.run(run) for run in runs]
        total = sum(estimate.seconds for estimate in estimates) + self.pretrainings(runs)
        seconds = total / threads
        counts = Counter(estimate.basis for estimate in estimates)
        basis = ", ".join(f"{count} by {basis}" for basis, count in counts.most_common())
        text = f"about {duration(seconds)} on {counted(threads, 'thread', 'threads')}"
        return f"{text} ({basis})" if basis else text


def duration(seconds: float) -> str:
    """``40 min``, ``30 h``, ``12 days`` or ``2,000 years``."""
    for unit, size, most in (("min", 60, 10 * 3600), ("h", 3600, 72 * 3600)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    days = seconds / 86400
    return f"{days:.0f} days" if days < 1000 else f"{days / 365:,.0f} years"


def like_size(record: Measured, backbone: str, image: tuple[int, ...]) -> bool:
    """Whether the backbone of a record is of similar size to another on its images."""
    ratio = operations_per_image(record.backbone, record.image) / operations_per_image(
        backbone, image
    )
    return 1 / ALIKE <= ratio <= ALIKE


def timed_update(run: Run) -> float:
    """CPU seconds of one update of a run: the least of a few, after one that warms up.

    The run's learner and random numbers stay as they are.
    """
    torch.set_num_threads(run.workspace.threads)
    learner = copy.deepcopy(run.learner).train()
    parts = run["meta_batch"] // run.micro_batch
    batches = iter(run.data.train_dataloader())
    seconds = []
    with torch.random.fork_rng([]):
        for _ in range(1 + TIMED_UPDATES):
            started = time.process_time()
            batch = run.data.on_after_batch_transfer(next(batches), 0)
            learner.meta_loss(next(micro_batches(batch, run.micro_batch))).backward()
            learner.zero_grad()
            seconds.append((time.process_time() - started) * parts)
    return min(seconds[1:])


def run_megabytes(run: Run) -> float:
    """About how much disk space a run takes: two checkpoints, one of them with Adam's state."""
    weights = 0 if run.weights_of else sum(p.numel() for p in run.learner.parameters())
    return weights * 16 / 1e6 + 0.3
