"""Predicts the class of each photo, from a trained learner and a few photos of each class."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoo.datasets.benchmarks.own_photos import Photos, query_photos, support_photos
from zoo.datasets.episodes.embedded_images import images_at_once
from zoo.episode import Episode, Examples
from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.methods.host import logits_of_one_support, query_with_support
from zoo.runs.calibration import TEMPERATURES
from zoo.runs.trained import Trained

AT_ONCE = 100  # queries that an inductive learner is given at once
NO_HELP = 0.9  # share of the largest temperature; a note says that one above it is no help
NONE_OF_THESE = "none of these"


class Predictions(NamedTuple):
    """The predictions for some photos, and what they were made from."""

    table: pd.DataFrame  # see `predict_photos`
    classes: list[str]
    support: Photos  # the photos that were used
    query: Photos
    notes: list[str]  # what a reader must know
    calibration: Mapping[str, Any] | None  # of the probabilities, see `zoo.runs.calibration`


def predict_photos(
    trained: Trained,
    support: Path,
    query: Path,
    *,
    jointly: bool = False,
    reject: float | None = None,
    device: str = "cpu",
) -> Predictions:
    """Predict the class of each photo.

    Args:
        trained: the learner.
        support: a folder with a folder of photos for each class.
        query: a folder of photos; or, if their classes are known, with a folder for each class.
        jointly: whether a transductive learner sees all queries together. Otherwise it classifies
            one at a time, so that no prediction depends on the other photos.
        reject: predict `NONE_OF_THESE` if the largest probability is below this number.
        device: to compute on.

    Returns:
        `table` has a row for each photo: ``file``, ``prediction``, ``probability``, ``runner_up``,
        ``runner_up_probability``, and if the classes are known ``class`` and ``right``.

    Raises:
        UsageError: the photos cannot be read, or the learner cannot take these classes.
    """
    if reject is not None and not 0 <= reject <= 1:
        raise UsageError(f"--reject {reject:g}: expected a probability, from 0 to 1")
    learner = trained.learner
    support_set = support_photos(support, trained.image)
    notes: list[str] = []
    if not learner.uneven_support:
        support_set, notes = same_number_of_each(support_set)
    queries = query_photos(query, trained.image)
    notes += [
        f"{flag}: {photos.left_out}"
        for flag, photos in (("support", support_set), ("query", queries))
        if photos.left_out
    ]
    classes = sorted({*(support_set.labels or [])})
    if learner.fixed_way and learner.way != len(classes):
        raise UsageError(
            f"{learner.title} was trained for {learner.way} classes and has one output for each; "
            f"--support {support} has {len(classes)}: take {learner.way}, or the weights of a "
            "learner that takes any number of classes, such as protonet"
        )
    learner.check_episodes(len(classes), min(Counter(support_set.labels).values()), 1)
    y = torch.tensor([classes.index(name) for name in support_set.labels or []])
    learner.to(device).eval()
    examples = Examples(learner.normalised(support_set.pixels)[None], y[None].to(device))
    alone = learner.transductive and not jointly
    with torch.no_grad():
        logits = query_logits(learner, examples, queries.pixels, alone)
    if alone:
        notes.append(
            "transductive: each photo was classified by itself, in a batch with the support photos"
        )
    elif learner.transductive:
        notes.append(
            "transductive: all photos were classified together, a prediction depends on them"
        )
    calibration = trained.calibration(alone)
    notes += accuracies_in_words(trained.about.get("calibration") or {})
    temperature = 1.0 if calibration is None else float(calibration["temperature"])
    if calibration is None:
        notes.append("probabilities are not calibrated: these weights have no temperature")
    elif alone and not trained.about["calibration"].get("alone"):
        notes.append(
            "probabilities are calibrated on whole episodes: these weights have no temperature for "
            "photos that are classified one at a time"
        )
    if reject is not None and calibration is not None and not calibration.get("rejection"):
        notes.append(
            "what rejecting costs was not measured: validation had no photos of other classes"
        )
    if calibration is not None and temperature > NO_HELP * TEMPERATURES[1]:
        notes.append(
            f"the probabilities say little: in validation the temperature ended at "
            f"{temperature:.0f}, the largest that is tried, because predictions were right no "
            "more often where they were sure"
        )
    probabilities = (logits / temperature).softmax(-1).cpu().numpy()
    table = table_of(probabilities, classes, queries, query, reject)
    return Predictions(table, classes, support_set, queries, notes, calibration)


def accuracies_in_words(calibration: Mapping[str, Any]) -> list[str]:
    """How often a transductive learner was right in validation, one at a time and together."""
    alone = calibration.get("alone")
    if not alone:
        return []
    return [
        f"in validation {100 * alone['accuracy']:.0f} % are right one at a time (of "
        f"{alone['queries']} queries), {100 * calibration['accuracy']:.0f} % in whole episodes "
        "together, which have as many queries of each class; --transductive classifies all photos "
        "together"
    ]


def same_number_of_each(photos: Photos) -> tuple[Photos, list[str]]:
    """Keep as many photos of each class as the smallest class has, the first ones by name.

    Returns:
        The photos, and a note that says so, or none if nothing is left out.
    """
    labels = photos.labels or []
    counts = Counter(labels)
    least = min(counts.values())
    if max(counts.values()) == least:
        return photos, []
    seen: Counter[str] = Counter()
    rows = []
    for row, name in enumerate(labels):
        seen[name] += 1
        if seen[name] <= least:
            rows.append(row)
    smallest = min(counts, key=lambda name: counts[name])
    note = (
        f"support: the first {least} photos of each class are used, as many as {smallest!r} has; "
        f"{len(labels) - len(rows)} others are not, since this learner takes as many of each class"
    )
    kept = photos._replace(
        files=[photos.files[row] for row in rows],
        pixels=photos.pixels[rows],
        labels=[labels[row] for row in rows],
    )
    return kept, [note]


def query_logits(learner: Learner, support: Examples, pixels: np.ndarray, alone: bool) -> Tensor:
    """The logits of every query, (n, N).

    Args:
        learner: in evaluation mode.
        support: of one task, (1, N*K, *image) and (1, N*K).
        pixels: of the queries, (n, C, H, W) uint8.
        alone: whether each query is classified by itself, see `query_with_support`.
    """
    if alone:
        size = 1
    else:
        size = len(pixels) if learner.transductive else AT_ONCE
    if not learner.embeds_alone:
        images = (learner.normalised(part) for part in in_parts(pixels, size))
        return logits_of_queries(learner, support, images, alone)
    step = images_at_once(pixels.shape[1:])
    with learner.embedded() as network:
        z_support = torch.cat([network(x) for x in support.x[0].split(step)])
        z = torch.cat([network(learner.normalised(part)) for part in in_parts(pixels, step)])
        support = Examples(z_support[None], support.y)
        return logits_of_queries(learner, support, z.split(size), alone)


def in_parts(pixels: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Images (n, C, H, W), at most `size` at a time."""
    for start in range(0, len(pixels), size):
        yield pixels[start : start + size]


def logits_of_queries(
    learner: Learner, support: Examples, parts: Iterable[Tensor], alone: bool
) -> Tensor:
    """The logits of every query, (n, N).

    Args:
        learner: in evaluation mode.
        support: of one task, (1, N*K, ...) and (1, N*K).
        parts: the queries that are classified at once, each (m, ...): images, or features if the
            support has features.
        alone: whether each query is classified by itself, see `query_with_support`; then m is 1.
    """
    way = int(support.y.max()) + 1

    def episodes() -> Iterator[Episode]:
        for part in parts:
            if alone:
                yield query_with_support(support, part[None], way)
                continue
            labels = torch.zeros((1, len(part)), dtype=torch.int64, device=part.device)
            yield Episode(support, Examples(part[None], labels), way)

    logits = logits_of_one_support(learner, episodes())
    return torch.cat([part[:1] if alone else part for part in logits])


def table_of(
    probabilities: np.ndarray,
    classes: list[str],
    queries: Photos,
    folder: Path,
    reject: float | None,
) -> pd.DataFrame:
    """The table of `predict_photos`, with a row for each photo.

    Args:
        probabilities: (n, N), of the queries.
        classes: the N names.
        queries: the photos.
        folder: file names in the table are relative to it.
        reject: predict `NONE_OF_THESE` if the largest probability is below this number.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    largest = np.take_along_axis(probabilities, order[:, :2], 1)
    first, second = largest[:, 0], largest[:, 1]
    names = np.array(classes, dtype=object)
    prediction = names[order[:, 0]]
    if reject is not None:
        prediction = np.where(first < reject, NONE_OF_THESE, prediction)
    table = pd.DataFrame(
        {
            "file": queries.names_below(folder),
            "prediction": prediction,
            "probability": first,
            "runner_up": names[order[:, 1]],
            "runner_up_probability": second,
        }
    )
    if queries.labels is not None:
        expected = [name if name in classes else NONE_OF_THESE for name in queries.labels]
        table.insert(1, "class", queries.labels)
        table["right"] = table["prediction"].to_numpy() == np.array(expected, dtype=object)
    return table
