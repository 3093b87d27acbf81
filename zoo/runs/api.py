"""The zoo as a library: learners and their data for any Trainer, weights, records, statistics.

The names that `zoo` has of these are the public interface. If one must change, the old name stays
for one more minor version with a DeprecationWarning that says what to use instead, and CHANGELOG
says so.
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
from torch.utils.data import DataLoader

from zoo.checkpoint_files import read_checkpoint
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.datasets.benchmarks.in_memory import ImagesInMemory
from zoo.datasets.benchmarks.torchmeta_loaders import TorchmetaLoaders
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.datasets.episodes.torchmeta_batches import TorchmetaBatches
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
from zoo.runs.resolved import check_count
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

    After ``learner, data = zoo.experiment("maml", "omniglot", way=5, shot=1)`` any Lightning
    Trainer can take them: ``trainer.fit(learner, data)``, ``trainer.test(learner, data)``.

    Args:
        learner: a key or variant, such as ``maml[first_order=true]``.
        benchmark: a key or variant; or datasets of your own images by split, see `ImagesInMemory`;
            or torchmeta's loaders by split, see `TorchmetaLoaders`, which decide way, shot, queries
            and meta-batch.
        way: N of the test episodes; None for 5, or for as many classes as the smallest split of
            your own images has. It must be None in regression.
        shot: K of the test episodes.
        terms: ``paper``, the settings of the learner's paper, or ``equal``, the same for all.
        budget: ``none``, ``smoke``, ``quick``, ``hour`` or ``paper``: how long to train.
        seed: of the weights and of the training episodes.
        data: the folder of the image sets; None for $ZOO_DATA or, if that is not set, ``data``.
        runs: the folder where stages, such as a pre-training, are kept.
        **settings: any setting of ``zoo run``, such as ``inner_lr=0.1`` or ``updates=500``.

    Raises:
        UsageError: there is no such run; the message says what to change.
    """
    _, cls, _ = learner_of(learner)
    if elsewhere := [name for name in ("device", "devices", "threads") if name in settings]:
        raise UsageError(
            f"experiment: {elsewhere[0]} is no setting of the learner: the Trainer decides where "
            "and on what it computes, pl.Trainer(accelerator=..., devices=...)"
        )
    flags = parse_values(cls, settings, "experiment")
    way, shot, seed = (whole_from_numpy(number) for number in (way, shot, seed))
    images: Benchmark | None = None
    if isinstance(benchmark, str):
        key = benchmark
    else:
        images = own_benchmark(benchmark)
        key = images.variant
    request = RunRequest(learner, key, way, shot, terms, budget, seed, flags=flags)
    with isolate_rng():  # the weights follow from the seed; the caller's random state stays
        plan = Plan(request, Workspace(data_folder(data), runs=Path(runs)), benchmark=images)
    return Experiment(plan.learner, plan.data)


def whole_from_numpy(number: Any) -> Any:
    """A whole number of NumPy's as one of Python's; anything else as it is."""
    return int(number) if isinstance(number, np.integer) else number


def own_benchmark(parts: Mapping[str, Any]) -> Benchmark:
    """The benchmark of a user's datasets of images, or of torchmeta's loaders, by split.

    Raises:
        UsageError: they are neither.
    """
    if isinstance(parts, Mapping) and any(isinstance(p, DataLoader) for p in parts.values()):
        return TorchmetaLoaders(parts)
    return ImagesInMemory(parts)


def torchmeta_batches(
    benchmark: str | Mapping[str, Any],
    split: str = "train",
    *,
    way: int = 5,
    shot: int = 1,
    query: int | None = None,
    batch_size: int = 4,
    batches: int = 1000,
    seed: int = 0,
    data: str | Path | None = None,
    as_bytes: bool = False,
) -> TorchmetaBatches:
    """Our episodes as batches in torchmeta's form, for a script that is written for torchmeta.

    ``for batch in zoo.torchmeta_batches("miniimagenet", "train", way=5, shot=1)`` takes the place
    of a loop over a `BatchMetaDataLoader`; torchmeta itself is not needed.

    Args:
        benchmark: a key or variant of images; or datasets of your own images by split.
        split: ``train``, ``val`` or ``test``.
        way: N, torchmeta's ``ways``.
        shot: K, its ``shots``.
        query: Q for each class, its ``test_shots``; None for the benchmark's own number.
        batch_size: tasks of a batch.
        batches: of a pass; one over training batches goes on where the last one ended.
        seed: of the training episodes; those of validation and test are fixed.
        data: the folder of the image sets; None for $ZOO_DATA or, if that is not set, ``data``.
        as_bytes: leave inputs uint8 from 0 to 255, instead of float32 from 0 to 1.

    Raises:
        UsageError: the benchmark has no such images or split, or too few of them.
    """
    if isinstance(benchmark, str):
        source = find_benchmark(benchmark)
    else:
        source = ImagesInMemory(benchmark)
    if not source.stored:
        raise UsageError(f"{source.variant} has no images in a store; choose a benchmark that has")
    if split not in source.splits:
        raise UsageError(f"split {split!r}: {source.variant} has {', '.join(source.splits)}")
    for name, value in (("way", way), ("shot", shot), ("batch_size", batch_size)):
        check_count(name, value, 1)
    store = source.open(data_folder(data))[split]
    return TorchmetaBatches(
        store,
        split,
        way=way,
        shot=shot,
        query=source.query if query is None else check_count("query", query, 1),
        batch_size=batch_size,
        batches=check_count("batches", batches, 1),
        seed=check_count("seed", seed, 0),
        size=source.image[1:],
        as_bytes=as_bytes,
    )


def data_folder(data: str | Path | None) -> Path:
    """The folder of the image sets; None for $ZOO_DATA or, if that is not set, ``data``."""
    return Path(data or os.environ.get("ZOO_DATA", "data"))


def load(
    name: str | Path,
    backbone: torch.nn.Module | None = None,
    *,
    results: str | Path = "results",
    benchmark: str | None = None,
) -> Learner:
    """A trained learner, in evaluation mode.

    Args:
        name: the name of a run whose record lies in `results`, or the beginning of it; the path of
            the weights beside a record (``.safetensors``), or of a Trainer's checkpoint
            (``.ckpt``); or ``https://...#HASH``, weights that are fetched once.
        backbone: of the learner, if it was made with a network of your own.
        results: the folder of the records.
        benchmark: what it is to be used on. Weights that were trained on images of another size,
            number of channels or normalisation are refused.

    Raises:
        UsageError: there is no such file, it is damaged, does not name its learner, or does not fit
            the benchmark.
    """
    path = Path(name)
    if path.suffix in (".json", ".npz") and path.is_file():
        raise UsageError(
            f"{path}: expected the weights of a run, {path.with_suffix('.safetensors').name}, or a "
            "Trainer's checkpoint, .ckpt"
        )
    if path.suffix == ".ckpt":
        return _load_checkpoint(path, backbone, benchmark)
    weights = find_weights(name, results)
    if benchmark is not None:
        target = find_benchmark(benchmark)
        check_image(weights.path, weights.about, target)
        check_normalisation(weights.path, weights.about, target)
    return weights.learner(backbone)


def _load_checkpoint(
    path: Path, backbone: torch.nn.Module | None, benchmark: str | None
) -> Learner:
    """The learner of a Trainer's checkpoint, in evaluation mode; see `load`."""
    if not path.is_file():
        raise UsageError(f"{path}: there is no such file")
    content, _ = read_checkpoint(path)
    settings = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    if "way" not in settings:
        raise UsageError(
            f"{path}: not a checkpoint of a zoo learner: hyper_parameters has no `way`"
        )
    own_class = "load it by its own class: Mine.load_from_checkpoint(path)"
    if "learner" not in settings:
        raise UsageError(f"{path}: its learner is not registered; {own_class}")
    if settings["learner"] not in learners:
        raise UsageError(
            f"{path}: its learner {settings['learner']!r} is not registered here; import its file, "
            f"or {own_class}"
        )
    if benchmark is not None:
        target = find_benchmark(benchmark)
        if "image" in settings:  # its backbone was made from a variant
            check_image(path, settings, target)
        if "image_mean" in settings:
            trained_with = {"mean": settings["image_mean"], "std": settings["image_std"]}
            check_normalisation(path, trained_with, target)
    cls = learners[settings["learner"]].class_for(settings)
    overrides = {} if backbone is None else {"backbone": backbone}
    learner: Learner = cls.load_from_checkpoint(path, "cpu", **overrides)
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
    """Predict the class of each photo, from a trained learner and a few photos of each class.

    Args:
        weights: the name of a run whose record lies in `results`, or the path of its weights.
        support: a folder with a folder of photos for each class.
        query: a folder of photos; or, if their classes are known, with a folder for each class.
        jointly: whether a transductive learner sees all queries together.
        reject: predict "none of these" if the largest probability is below this number.
        results: the folder of the records.

    Returns:
        A row for each photo: ``file``, ``prediction``, ``probability``, ``runner_up``,
        ``runner_up_probability``; if the classes are known ``class`` and ``right`` too.

    Raises:
        UsageError: the photos or the weights cannot be read, or the learner cannot take these
            classes.
    """
    trained = trained_learner(weights, results)
    predictions = predict_photos(
        trained, Path(support), Path(query), jointly=jointly, reject=reject
    )
    return predictions.table


def make_episode(
    support: tuple[Any, Any], query: Any | tuple[Any, Any], way: int | None = None
) -> Episode:
    """Make an Episode of a single task from your own data.

    ``learner.probabilities(zoo.make_episode((x, y), queries))`` says how likely each class is. The
    images must be normalised like those of the training: ``x = learner.normalised(images)``.

    Args:
        support: normalised images (n, *image) and labels (n,) in [0, N), with the same number of
            each class; in regression, inputs (n, D) and outputs (n, outputs). Tensors, or NumPy
            arrays.
        query: inputs, or inputs and labels.
        way: N; None for the number of classes in the support or, in regression, of its outputs.

    Raises:
        UsageError: a shape or a label is one that an episode cannot have.
    """
    if not isinstance(support, tuple) or len(support) != 2:
        raise UsageError(f"support: a {type(support).__name__}; expected a pair, inputs and labels")
    labelled = isinstance(query, tuple) and len(query) == 2
    if not labelled and not isinstance(query, Tensor | np.ndarray):
        raise UsageError(
            f"query: a {type(query).__name__}; expected inputs, or a pair of inputs and labels"
        )
    x, y = _inputs(support[0], "support"), _labels(support[0], support[1], "support")
    x_query = _inputs(query[0] if labelled else query, "query")
    if x.shape[1:] != x_query.shape[1:]:
        raise UsageError(
            f"support inputs have shape {tuple(x.shape[1:])}, queries {tuple(x_query.shape[1:])}"
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
        labels = y.new_zeros((len(x_query), *y.shape[1:]))
    else:
        labels = _labels(query[0], query[1], "query")
        if labels.is_floating_point() != regression or labels.shape[1:] != y.shape[1:]:
            raise UsageError(
                f"query: outputs of shape {tuple(labels.shape)} and type {labels.dtype}, those of "
                f"the support {tuple(y.shape)} and {y.dtype}"
            )
        if not regression:
            _check_range(labels, ways, "query")
    return Episode(Examples(x[None], y[None]), Examples(x_query[None], labels[None]), ways)


def _inputs(x: Any, where: str) -> Tensor:
    """Check inputs and return them as a tensor; `where` names them in messages."""
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
    """Convert to a tensor; NumPy's floating-point numbers get PyTorch's default type."""
    if isinstance(x, np.ndarray) and np.issubdtype(x.dtype, np.floating):
        return torch.as_tensor(x, dtype=torch.get_default_dtype())
    return torch.as_tensor(x)


def _labels(x: Any, y: Any, where: str) -> Tensor:
    """Check the labels of inputs x; returns int64 (n,), or regression outputs (n, outputs)."""
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
    """Refuse labels that are not in [0, way)."""
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= way:
        raise UsageError(f"{where}: labels from {low} to {high}; expected labels 0 to {way - 1}")


def records(folder: str | Path = "results") -> pd.DataFrame:
    """Every finished run in a folder, one a row; docs/tables.md describes the columns.

    Raises:
        UsageError: there is no such folder, or a record in it cannot be read.
    """
    frame, problems = measured.load(folder)
    if problems:
        raise UsageError("; ".join(problems))
    return frame


def published() -> pd.DataFrame:
    """The numbers that papers print, one a row; reports/published.md describes the columns."""
    return published_numbers()


def difference(
    a: str | Path | Sequence[str | Path],
    b: str | Path | Sequence[str | Path],
    metric: str | None = None,
    *,
    results: str | Path = "results",
) -> Comparison:
    """How two learners differ on the test episodes that their runs share.

    With one run of each, the result is about these two trained models; with several runs of each,
    which must have the same seeds, it is about the two methods.

    Args:
        a: the name of a run whose record lies in `results`, or the beginning of its name; the path
            of its record; or a list of runs that differ only in their seeds.
        b: the run or runs of the other learner.
        metric: accuracy, nll or mse; None for accuracy or, in regression, mse.
        results: the folder of the records.

    Returns:
        The mean of a - b with its 95 % interval, and the p-value of no difference; for squared
        errors the ratio of their geometric means. See `zoo.reports.estimates.compare`.

    Raises:
        UsageError: a record cannot be read, the runs of a list differ in more than their seeds, or
            the two learners do not share episodes and seeds.
    """
    records_a, episodes_a = _measured(a, results)
    records_b, episodes_b = _measured(b, results)
    for name in ("episodes_fingerprint", "seed"):
        value_a, value_b = records_a[name].tolist(), records_b[name].tolist()
        if value_a != value_b:
            raise UsageError(f"{name} of {a} is {value_a}, of {b} {value_b}: expected the same")
    metric = metric or ("accuracy" if "accuracy" in episodes_a[0] else "mse")
    return compare(_of_metric(episodes_a, metric, a), _of_metric(episodes_b, metric, b), metric)


def _measured(
    runs: str | Path | Sequence[str | Path], results: str | Path
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """The records of runs that differ only in their seeds, and their test episodes.

    Both are sorted by seed: a row for each run, and a frame for each with a row for each episode.
    """
    names = [runs] if isinstance(runs, str | Path) else runs
    if not names:
        raise UsageError("difference: an empty list; expected the record of a run, or of several")
    pairs = sorted((_record(name, results) for name in names), key=lambda pair: pair[0]["seed"])
    rows = [row for row, _ in pairs]
    episodes = [frame for _, frame in pairs]
    seeds = [int(row["seed"]) for row in rows]
    if len({*seeds}) < len(seeds):
        raise UsageError(f"seeds {seeds} of {runs}: expected another seed for each run")
    for row in rows[1:]:
        _check_same(rows[0], row, runs)
    return pd.DataFrame(rows), episodes


def _record(name: str | Path, results: str | Path) -> tuple[pd.Series, pd.DataFrame]:
    """The record of a run, by its name or path, and the metrics of each of its test episodes."""
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
        if left.get(name) != right.get(name) and name not in measured.MACHINE_SETTINGS:
            raise UsageError(
                f"{runs} differ in {name}, {left.get(name)} and {right.get(name)}: expected the "
                "same except for the seed"
            )


def _of_metric(episodes: list[pd.DataFrame], metric: str, runs: Any) -> np.ndarray:
    """The values of a metric, (S, E), from a frame for each seed with a row for each episode."""
    for frame in episodes:
        if metric not in frame:
            metrics = ", ".join(map(str, frame))
            raise UsageError(f"{runs}: no metric {metric!r}; it has {metrics}")
    return np.stack([frame[metric].to_numpy() for frame in episodes])
