"""About how long runs take, and how much disk."""

import math
from collections.abc import Sequence
from dataclasses import replace

from zoo.runs.plan import Plan
from zoo.runs.resolved import ResolvedRequest
from zoo.runs.run import Run
from zoo.runs.settings import PRETRAIN, Setting, resolve, settings_rows
from zoo.runs.stages import read_stage


def run_seconds(run: Run) -> float:
    """About how long a run takes on 2 cores; one that tests another's weights trains nothing."""
    return estimated_seconds(run, trains=run.weights_of is None)


def estimated_seconds(run: ResolvedRequest | Plan, trains: bool = True) -> float:
    """About how long such a run takes on 2 cores, in seconds; without a pre-training.

    Training is scaled by updates from budget `quick`, which takes a known time by definition.
    """
    get = {name: setting.value for name, setting in run.settings.items()}
    benchmark = run.benchmark
    updates = get["updates"] if trains else 0
    quick_updates = quick_settings(run)["updates"].value or math.inf
    training = updates / quick_updates * benchmark.quick_seconds
    pixels = math.prod(benchmark.image[1:])
    episode = (5e-5 if run.cls.gradient_based else 5e-6) * pixels
    validations = get["validations"] if updates else 0
    return training + episode * (get["test_episodes"] + validations * get["val_episodes"])


def quick_settings(run: ResolvedRequest | Plan) -> dict[str, Setting]:
    """The settings of budget `quick` for the same learner and benchmark, as the files have them."""
    request = replace(run.request, way=run.way, budget="quick", config={}, flags={})
    settings, _ = resolve(request, run.cls, settings_rows(), query=run.benchmark.query)
    return settings


def stage_seconds(runs: Sequence[Run]) -> float:
    """About how long their pre-trainings take, as far as they are not there, each once."""
    left = {
        staging.folder: run
        for run in runs
        for staging in run.stages
        if staging.stage.name == PRETRAIN and read_stage(staging.folder) is None
    }
    total = 0.0
    for run in left.values():
        quick = quick_settings(run)
        images = run["pretrain_updates"] * run["pretrain_batch"]
        quick_images = quick["pretrain_updates"].value * quick["pretrain_batch"].value
        total += images / quick_images * run.benchmark.quick_seconds
    return total


def run_megabytes(run: Run) -> float:
    """About how much disk a run takes: two checkpoints, one of them with Adam's state."""
    weights = 0 if run.weights_of else sum(p.numel() for p in run.learner.parameters())
    return weights * 16 / 1e6 + 0.3
