"""The zoo as a library: learners and their data for any Trainer, weights, records, statistics.

These names, as `zoo` has them, are the public interface. One that must change is kept for a minor
version more, with a DeprecationWarning that says what to use instead; CHANGELOG says so.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.benchmarks.in_memory import ImagesInMemory
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.episode import Episode, Examples
from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.registry import learner_of, learners
from zoo.reports import records as measured
from zoo.reports.estimates import Comparison, compare
from zoo.reports.published import published as published_numbers
from zoo.runs.named_weights import SUFFIX, find_weights
from zoo.runs.plan import Plan
from zoo.runs.request import RunRequest
from zoo.runs.settings import parse_values
from zoo.runs.weights import check_image, check_normalisation
from zoo.runs.workspace import Workspace


class Experiment(NamedTuple):
    """A learner and the data to train and test it on: what ``trainer.fit`` takes."""

    learner: Learner
    data: EpisodicDataModule


def experiment(
    learner: str,
    benchmark: str | Mapping[str, Any],
    *,
    way: int | None = None,
    shot: int = 1,
    terms: str = "paper",
    budget: str = "quick",
    seed: int = 0,
    data: str | Path | None = None,
    runs: str | Path = "runs",
    **settings: Any,
) -> Experiment:
    """A learner with fresh weights and its episodes, as ``zoo run`` would train and test them.

    ``learner, data = zoo.experiment("maml", "omniglot", way=5, shot=1)``, and then any Lightning
    Trainer: ``trainer.fit(learner, data)``, ``trainer.test(learner, data)``.

    Args:
        learner: a key or variant, such as ``maml[first_order=true]``.
        benchmark: likewise; or datasets of own images by split, see `ImagesInMemory`.
        way: N of the test episodes; None for 5, and in regression, which has none.
        shot: K of the test episodes.
        terms: ``paper``, the settings of the learner's paper, or ``equal``, the same for all.
        budget: ``none``, ``smoke``, ``quick``, ``hour`` or ``paper``: how long to train.
        seed: of the weights and of the training episodes.
        data: folder of the image sets; None for $ZOO_DATA, else ``data``.
        runs: folder where stages, such as a pre-training, are kept.
        **settings: any setting of ``zoo run``, such as ``inner_lr=0.1`` or ``updates=500``.

    Raises:
        UsageError: something that cannot be; says what to change.
    """
    _, cls, _ = learner_of(learner)
    flags = parse_values(cls, settings, "experiment")
    own = None if isinstance(benchmark, str) else ImagesInMemory(benchmark)
    key = benchmark if isinstance(benchmark, str) else ImagesInMemory.key
    folder = Path(data or os.environ.get("ZOO_DATA", "data"))
    request = RunRequest(learner, key, way, shot, terms, budget, seed, flags=flags)
    plan = Plan(request, Workspace(folder, runs=Path(runs)), benchmark=own)
    return Experiment(plan.learner, plan.data)


def load(
    name: str | Path,
    backbone: torch.nn.Module | None = None,
    *,
    results: str | Path = "results",
    benchmark: str | None = None,
) -> Learner:
    """A trained learner, in evaluation mode.

    Args:
        name: of a run whose record lies in `results`, or the beginning of its name; the path of
            the weights beside a record (``.safetensors``), or of a checkpoint of a Trainer
            (``.ckpt``); or ``https://...#HASH``, weights that are fetched once.
        backbone: of the learner, where it was made with a network of your own.
        results: folder of the records.
        benchmark: that it is to be used on: weights are refused that were trained on images of
            another size, number of channels or normalisation.

    Raises:
        UsageError: there is no such file, it is damaged, does not say which learner it is of, or
            does not fit the benchmark.
    """
    path = Path(name)
    if path.is_file() and path.suffix != SUFFIX:
        return _from_checkpoint(path, backbone)
    weights = find_weights(name, results)
    if benchmark is not None:
        known = find_benchmark(benchmark)
        check_image(weights.path, weights.about, known)
        check_normalisation(weights.path, weights.about, known)
    return weights.learner(backbone)


def _from_checkpoint(path: Path, backbone: torch.nn.Module | None) -> Learner:
    """The learner of a checkpoint of a Trainer."""
    kept = torch.load(path, "cpu", weights_only=False).get("hyper_parameters", {})
    if "learner" not in kept:
        raise UsageError(f"{path}: does not say which learner it is of")
    given = {} if backbone is None else {"backbone": backbone}
    cls = learners.get(kept["learner"]).as_asked(kept)
    learner: Learner = cls.load_from_checkpoint(path, "cpu", **given)
    return learner.eval()


def make_episode(
    support: tuple[Tensor, Tensor], query: Tensor | tuple[Tensor, Tensor], way: int | None = None
) -> Episode:
    """One task of your own as an Episode of a single task.

    ``learner.probabilities(zoo.make_episode((x, y), queries))`` says how likely each class is.

    Args:
        support: images (n, *image) as the network sees them, and labels (n,) in [0, N), as many of
            each class; in regression inputs and outputs (n, D), (n, outputs).
        query: inputs, or inputs and labels.
        way: N; None for the number of classes of the support, in regression of its outputs.

    Raises:
        UsageError: a shape or a label that an episode cannot have.
    """
    x, y = support
    asked, labels = query if isinstance(query, tuple) else (query, None)
    if len(x) != len(y):
        raise UsageError(f"support: {len(x)} inputs and {len(y)} labels")
    if x.shape[1:] != asked.shape[1:]:
        raise UsageError(
            f"support inputs have shape {tuple(x.shape[1:])}, queries {tuple(asked.shape[1:])}"
        )
    if y.is_floating_point():
        ways = y.shape[-1]
        unknown = torch.zeros(len(asked), ways, dtype=y.dtype)
    else:
        ways = int(y.max()) + 1 if way is None else way
        counts = torch.bincount(y, minlength=ways)
        if len(counts) != ways or len({*counts.tolist()}) != 1:
            raise UsageError(
                f"support labels {counts.tolist()} of each class: expected labels 0 to "
                f"{ways - 1}, as many of each"
            )
        unknown = torch.zeros(len(asked), dtype=torch.int64)
    labels = unknown if labels is None else labels
    return Episode(Examples(x[None], y[None]), Examples(asked[None], labels[None]), ways)


def records(folder: str | Path = "results") -> pd.DataFrame:
    """Every finished run of a folder, a row each; the columns are described in docs/tables.md.

    Raises:
        UsageError: the folder is not there, or a record in it cannot be read.
    """
    frame, problems = measured.load(folder)
    if problems:
        raise UsageError("; ".join(problems))
    return frame


def published() -> pd.DataFrame:
    """The numbers that papers print, a row each; reports/published.md describes the columns."""
    return published_numbers()


def difference(
    a: str | Path | Sequence[str | Path],
    b: str | Path | Sequence[str | Path],
    metric: str = "accuracy",
) -> Comparison:
    """How two learners differ on the test episodes that their runs share.

    With one run of each it is a claim about these two trained models; with several, of the same
    seeds, about the two methods.

    Args:
        a: path of the record of a run, or of its runs with several seeds.
        b: likewise, of the other one.
        metric: accuracy, nll or mse.

    Returns:
        The mean of a - b with its 95 % interval, and the p of no difference; of squared errors the
        ratio of their geometric means. See `zoo.reports.estimates.compare`.

    Raises:
        UsageError: one cannot be read, or they do not share episodes and seeds.
    """
    (first, one), (second, other) = (_measured(paths, metric) for paths in (a, b))
    for what in ("episodes_fingerprint", "seed"):
        left, right = first[what].tolist(), second[what].tolist()
        if left != right:
            raise UsageError(f"{what} of {a} is {left}, of {b} {right}: expected the same")
    return compare(one, other, metric)


def _measured(
    paths: str | Path | Sequence[str | Path], metric: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """The records of runs by seed, and what each test episode gave: (seeds, episodes)."""
    listed = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    frames = []
    for path in listed:
        frame, _ = measured.load(path.parent)
        here = frame[frame["run"] == path.stem]
        if here.empty:
            raise UsageError(f"{path}: no record that can be read")
        frames.append(here)
    runs = pd.concat(frames).sort_values("seed")
    rows = []
    for path in listed:
        values, problems = measured.values(path.parent, runs[runs["run"] == path.stem])
        if problems:
            raise UsageError("; ".join(problems))
        if metric not in values[path.stem]:
            known = ", ".join(map(str, values[path.stem]))
            raise UsageError(f"{path}: no metric {metric!r}; it has {known}")
        rows.append(np.asarray(values[path.stem][metric]))
    order = np.argsort([int(frame["seed"].iloc[0]) for frame in frames])
    return runs, np.stack([rows[place] for place in order])
