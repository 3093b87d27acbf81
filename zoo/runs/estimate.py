"""About how long runs take, and how much disk."""

import math
from collections.abc import Mapping, Sequence

from zoo.datasets.benchmarks.base import Benchmark
from zoo.learner import Learner
from zoo.runs.plan import SETTINGS
from zoo.runs.run import Run
from zoo.runs.settings import PRETRAIN, Job, Setting, load_rows, resolve
from zoo.runs.stages import read_stage


def run_seconds(run: Run) -> float:
    """About how long a run takes on 2 cores."""
    settings = run.settings | {"updates": Setting(0, "weights")} if run.weights_of else run.settings
    return estimated_seconds(run.benchmark, run.cls, run.job, settings)


def estimated_seconds(
    benchmark: Benchmark, cls: type[Learner], job: Job, settings: Mapping[str, Setting]
) -> float:
    """About how long such a run takes on 2 cores, in seconds; without a pre-training."""
    get = {name: setting.value for name, setting in settings.items()}
    quick, _ = resolve(
        job._replace(budget="quick"), cls, load_rows(SETTINGS), query=benchmark.query
    )
    training = get["updates"] / (quick["updates"].value or math.inf) * benchmark.quick_seconds
    pixels = math.prod(benchmark.image[1:])
    episode = (5e-5 if cls.gradient_based else 5e-6) * pixels
    validations = get["validations"] if get["updates"] else 0
    return training + episode * (get["test_episodes"] + validations * get["val_episodes"])


def stage_seconds(runs: Sequence[Run]) -> float:
    """About how long their pre-trainings take, as far as they are not there, each once."""
    left = {
        staging.folder: run
        for run in runs
        for staging in run.stages
        if staging.stage.name == PRETRAIN and read_stage(staging.folder) is None
    }
    total, rows = 0.0, load_rows(SETTINGS)
    for run in left.values():
        benchmark, job = run.benchmark, run.job._replace(budget="quick")
        quick, _ = resolve(job, run.cls, rows, query=benchmark.query)
        images = run["pretrain_updates"] * run["pretrain_batch"]
        quickly = quick["pretrain_updates"].value * quick["pretrain_batch"].value
        total += images / quickly * benchmark.quick_seconds
    return total


def run_megabytes(run: Run) -> float:
    """About how much disk a run takes: two checkpoints, one of them with Adam's state."""
    weights = 0 if run.weights_of else sum(p.numel() for p in run.learner.parameters())
    return weights * 16 / 1e6 + 0.3
