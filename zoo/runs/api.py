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
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor

from zoo.checkpoint_files import read_checkpoint
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
from zoo.runs.named_weights import file_by_name, find_weights
from zoo.runs.plan import Plan
from zoo.runs.prediction import predict_photos
from zoo.runs.request import RunRequest
from zoo.runs.settings import parse_values
from zoo.runs.trained import trained_learner
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
    with isolate_rng():  # the weights follow from the seed; the caller's random numbers stay
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
    if path.suffix in (".json", ".npz") and path.is_file():
        raise UsageError(
            f"{path}: expected the weights of a run, {path.with_suffix('.safetensors').name}, or a "
            "Trainer's checkpoint, .ckpt"
        )
    if path.suffix == ".ckpt":
        return _of_checkpoint(path, backbone, benchmark)
    weights = find_weights(name, results)
    if benchmark is not None:
        known = find_benchmark(benchmark)
        check_image(weights.path, weights.about, known)
        check_normalisation(weights.path, weights.about, known)
    return weights.learner(backbone)


def _of_checkpoint(path: Path, backbone: torch.nn.Module | None, benchmark: str | None) -> Learner:
    """The learner of a Trainer's checkpoint, in evaluation mode; see `load`."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    content, _ = read_checkpoint(path)
    kept = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    if "way" not in kept:
        raise UsageError(f"{path}: not a checkpoint of a learner of ours: it keeps no settings")
    own_class = "load it by its own class: Mine.load_from_checkpoint(path)"
    if "learner" not in kept:
        raise UsageError(f"{path}: its learner is not registered; {own_class}")
    if kept["learner"] not in learners:
        raise UsageError(
            f"{path}: its learner {kept['learner']!r} is not registered here; import its file, or "
            f"{own_class}"
        )
    if benchmark is not None:
        known = find_benchmark(benchmark)
        if "image" in kept:  # of a backbone that was made from its variant
            check_image(path, kept, known)
        if "image_mean" in kept:
            check_normalisation(path, {"mean": kept["image_mean"], "std": kept["image_std"]}, known)
    cls = learners[kept["learner"]].as_asked(kept)
    given = {} if backbone is None else {"backbone": backbone}
    learner: Learner = cls.load_from_checkpoint(path, "cpu", **given)
    return learner.eval()


def predict(
    weights: str | Path,
    support: str | Path,
    query: str | Path,
    *,
    jointly: bool = False,
    reject: float | None = None,
    results: str | Path = "results",
) -> pd.DataFrame:
    """The class of each photo, by a trained learner and a few photos of each class.

    Args:
        weights: the name of a run whose record lies in `results`, or the path of its weights.
        support: folder with a folder of photos for each class.
        query: folder of photos; or with a folder for each class, where the classes are known.
        jointly: let a transductive learner see all queries together.
        reject: predict "none of these" where the largest probability is below this.
        results: folder of the records.

    Returns:
        A row a photo: ``file``, ``prediction``, ``probability``, ``runner_up``,
        ``runner_up_probability``; where the classes are known ``class`` and ``right`` too.

    Raises:
        UsageError: something cannot be read, or the learner cannot take these classes.
    """
    trained = trained_learner(weights, results)
    found = predict_photos(trained, Path(support), Path(query), jointly=jointly, reject=reject)
    return found.table


def make_episode(
    support: tuple[Any, Any], query: Any | tuple[Any, Any], way: int | None = None
) -> Episode:
    """One task of your own as an Episode of a single task.

    ``learner.probabilities(zoo.make_episode((x, y), queries))`` says how likely each class is. The
    images must be normalised as those that it was trained on: ``x = learner.normalised(images)``.

    Args:
        support: normalised images (n, *image), and labels (n,) in [0, N), as many of each class; in
            regression inputs and outputs (n, D), (n, outputs). Tensors, or arrays of NumPy.
        query: inputs, or inputs and labels.
        way: N; None for the number of classes of the support, in regression of its outputs.

    Raises:
        UsageError: a shape or a label that an episode cannot have.
    """
    if not isinstance(support, tuple) or len(support) != 2:
        raise UsageError(f"support: a {type(support).__name__}; expected a pair, inputs and labels")
    labelled = isinstance(query, tuple) and len(query) == 2
    if not labelled and not isinstance(query, Tensor | np.ndarray):
        raise UsageError(
            f"query: a {type(query).__name__}; expected inputs, or a pair of inputs and labels"
        )
    x, y = _inputs(support[0], "support"), _labels(support[0], support[1], "support")
    asked = _inputs(query[0] if labelled else query, "query")
    if x.shape[1:] != asked.shape[1:]:
        raise UsageError(
            f"support inputs have shape {tuple(x.shape[1:])}, queries {tuple(asked.shape[1:])}"
        )
    regression = y.is_floating_point()
    if regression:
        ways = y.shape[-1]
    else:
        ways = int(y.max()) + 1 if way is None else way
        _check_range(y, ways, "support")
        counts = torch.bincount(y, minlength=ways).tolist()
        if len({*counts}) != 1:
            raise UsageError(
                f"support labels {counts} of each class: expected labels 0 to {ways - 1}, as many "
                "of each"
            )
    if not labelled:
        labels = y.new_zeros((len(asked), *y.shape[1:]))
    else:
        labels = _labels(query[0], query[1], "query")
        if labels.is_floating_point() != regression or labels.shape[1:] != y.shape[1:]:
            raise UsageError(
                f"query: outputs of shape {tuple(labels.shape)} and type {labels.dtype}, of the "
                f"support {tuple(y.shape)} and {y.dtype}"
            )
        if not regression:
            _check_range(labels, ways, "query")
    return Episode(Examples(x[None], y[None]), Examples(asked[None], labels[None]), ways)


def _inputs(x: Any, where: str) -> Tensor:
    """Inputs of an episode as a tensor."""
    if not isinstance(x, Tensor | np.ndarray):
        raise UsageError(f"{where}: inputs are a {type(x).__name__}; expected a tensor or an array")
    if not len(x):
        raise UsageError(f"{where}: no examples")
    inputs = _tensor(x)
    if not inputs.is_floating_point():
        raise UsageError(
            f"{where}: inputs are {inputs.dtype}; expected floating-point numbers, of images "
            "learner.normalised(images)"
        )
    return inputs


def _tensor(x: Any) -> Tensor:
    """As a tensor; NumPy's floating-point numbers in PyTorch's default type."""
    if isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating):
        return torch.as_tensor(x, dtype=torch.get_default_dtype())
    return torch.as_tensor(x)


def _labels(x: Any, y: Any, where: str) -> Tensor:
    """Labels of these inputs as int64 (n,), or outputs of a regression, (n, outputs)."""
    if len(x) != len(y):
        raise UsageError(f"{where}: {len(x)} inputs and {len(y)} labels")
    labels = _tensor(y).to(_inputs(x, where).device)
    if labels.is_floating_point():
        if labels.dim() != 2:
            raise UsageError(
                f"{where}: class labels must be integers; outputs of a regression have shape "
                "(n, outputs)"
            )
        return labels
    if labels.dim() != 1:
        raise UsageError(f"{where}: labels of shape {tuple(labels.shape)}; expected (n,)")
    return labels.long()


def _check_range(labels: Tensor, way: int, where: str) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= way:
        raise UsageError(f"{where}: labels from {low} to {high}; expected labels 0 to {way - 1}")


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
    metric: str | None = None,
    *,
    results: str | Path = "results",
) -> Comparison:
    """How two learners differ on the test episodes that their runs share.

    With one run of each it is a claim about these two trained models; with several, of the same
    seeds, about the two methods.

    Args:
        a: the name of a run whose record lies in `results`, or the beginning of its name; the path
            of its record; or a list of runs that differ in their seeds alone.
        b: likewise, of the other one.
        metric: accuracy, nll or mse; None for accuracy, in regression mse.
        results: folder of the records.

    Returns:
        The mean of a - b with its 95 % interval, and the p of no difference; of squared errors the
        ratio of their geometric means. See `zoo.reports.estimates.compare`.

    Raises:
        UsageError: one cannot be read, the runs of a list differ in more than their seeds, or the
            two do not share episodes and seeds.
    """
    (first, one), (second, other) = (_measured(runs, results) for runs in (a, b))
    for what in ("episodes_fingerprint", "seed"):
        left, right = first[what].tolist(), second[what].tolist()
        if left != right:
            raise UsageError(f"{what} of {a} is {left}, of {b} {right}: expected the same")
    metric = metric or ("accuracy" if "accuracy" in one[0] else "mse")
    return compare(_of_metric(one, metric, a), _of_metric(other, metric, b), metric)


def _measured(
    runs: str | Path | Sequence[str | Path], results: str | Path
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The records of runs that differ in their seeds alone, by seed, and their test episodes."""
    names = [runs] if isinstance(runs, str | Path) else runs
    if not names:
        raise UsageError("difference: an empty list; expected the record of a run, or of several")
    found = sorted((_record(name, results) for name in names), key=lambda each: each[0]["seed"])
    rows, episodes = [row for row, _ in found], [each for _, each in found]
    seeds = [int(row["seed"]) for row in rows]
    if len({*seeds}) < len(seeds):
        raise UsageError(f"seeds {seeds} of {runs}: expected a seed of each")
    for row in rows[1:]:
        _check_same(rows[0], row, runs)
    return pd.DataFrame(rows), episodes


def _record(name: str | Path, results: str | Path) -> tuple[pd.Series, pd.DataFrame]:
    """The record of a run, by its name or path, and what each of its test episodes gave."""
    path = Path(name)
    if path.suffix != ".json":
        path = Path(results) / f"{name}.json"
        path = file_by_name(str(name), sorted(path.parent.glob("*.json"))) or path
    frame, _ = measured.load(path.parent)
    frame = frame[frame["run"] == path.stem]
    if frame.empty:
        raise UsageError(f"{path}: no record that can be read")
    values, problems = measured.values(path.parent, frame)
    if problems:
        raise UsageError("; ".join(problems))
    if path.stem not in values:
        raise UsageError(f"{path}: this run failed, it has no test episodes")
    return frame.iloc[0], values[path.stem]


def _check_same(a: pd.Series, b: pd.Series, runs: Any) -> None:
    """Refuse two runs that differ in more than their seed."""
    names = ("learner", "benchmark", "way", "shot", "version")
    left, right = (
        {name: None if pd.isna(row[name]) else row[name] for name in names} | row["settings"]
        for row in (a, b)
    )
    for name in {**left, **right}:
        one, other = left.get(name), right.get(name)
        if one != other and name not in measured.MACHINE_SETTINGS:
            raise UsageError(
                f"{runs} differ in {name}, {one} and {other}: expected the same but for the seed"
            )


def _of_metric(episodes: list[pd.DataFrame], metric: str, runs: Any) -> np.ndarray:
    """A metric of every seed and test episode, (seeds, episodes)."""
    for frame in episodes:
        if metric not in frame:
            known = ", ".join(map(str, frame))
            raise UsageError(f"{runs}: no metric {metric!r}; it has {known}")
    return np.stack([frame[metric].to_numpy() for frame in episodes])
