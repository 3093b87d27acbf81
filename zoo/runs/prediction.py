"""Which class each photo is of, by a trained learner and a few photos of each class."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from zoo.datasets.benchmarks.own_photos import Photos, query_photos, support_photos
from zoo.episode import Episode, Examples
from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.methods.host import logits_of_one_support, query_with_support
from zoo.runs.calibration import TEMPERATURES
from zoo.runs.trained import Trained

AT_ONCE = 100  # queries of an inductive learner
NO_HELP = 0.9  # of the largest temperature that is tried: from there on it is said
NONE_OF_THESE = "none of these"


class Predictions(NamedTuple):
    """What was predicted, and of what."""

    table: pd.DataFrame  # see `predict_photos`
    classes: list[str]
    support: Photos  # that was used
    query: Photos
    notes: list[str]  # what a reader must know
    calibration: Mapping[str, Any] | None  # of its probabilities, see `zoo.runs.calibration`


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
        support: folder with a folder of photos for each class.
        query: folder of photos; or with a folder for each class, where the classes are known.
        jointly: let a transductive learner see all queries together; otherwise it classifies one
            at a time, so that no prediction depends on the other photos.
        reject: predict `NONE_OF_THESE` where the largest probability is below this.
        device: to compute on.

    Returns:
        `table` has a row a photo: ``file``, ``prediction``, ``probability``, ``runner_up``,
        ``runner_up_probability``, and where the classes are known ``class`` and ``right``.

    Raises:
        UsageError: the photos cannot be read, or the learner cannot take these classes.
    """
    if reject is not None and not 0 <= reject <= 1:
        raise UsageError(f"--reject {reject:g}: expected a probability, from 0 to 1")
    learner = trained.learner
    shown = support_photos(support, trained.image)
    notes: list[str] = []
    if not learner.uneven_support:
        shown, notes = same_number_of_each(shown)
    asked = query_photos(query, trained.image)
    notes += [
        f"{flag}: {photos.left_out}"
        for flag, photos in (("support", shown), ("query", asked))
        if photos.left_out
    ]
    classes = sorted({*(shown.labels or [])})
    if learner.fixed_way and learner.way != len(classes):
        raise UsageError(
            f"{learner.title} was trained for {learner.way} classes and has one output for each; "
            f"--support {support} has {len(classes)}: take as many, or weights of a learner of any "
            "number of classes, such as protonet"
        )
    learner.check_episodes(len(classes), min(Counter(shown.labels).values()), 1)
    y = torch.tensor([classes.index(name) for name in shown.labels or []])
    learner.to(device).eval()
    known = Examples(learner.normalised(shown.pixels)[None], y[None].to(device))
    alone = learner.transductive and not jointly
    with torch.no_grad():
        logits = query_logits(learner, known, asked.pixels, alone)
    if learner.transductive:
        notes.append(
            "transductive: each photo was classified by itself, in a batch with the support photos"
            if alone
            else "transductive: all photos were classified together, a prediction depends on them"
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
    table = table_of(probabilities, classes, asked, query, reject)
    return Predictions(table, classes, shown, asked, notes, calibration)


def accuracies_in_words(calibration: Mapping[str, Any]) -> list[str]:
    """How often a transductive learner was right in validation, one at a time and together."""
    alone = calibration.get("alone")
    if not alone:
        return []
    return [
        f"in validation {100 * alone['accuracy']:.0f} % are right one at a time (of "
        f"{alone['queries']} queries), {100 * calibration['accuracy']:.0f} % of whole episodes "
        "together, in which all classes are alike in number; --transductive classifies all photos "
        "together"
    ]


def same_number_of_each(photos: Photos) -> tuple[Photos, list[str]]:
    """As many photos of each class as the smallest has, the first by name; and a note of that."""
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
        learner: in evaluation.
        support: of one task, (1, N*K, *image) and (1, N*K).
        pixels: of the queries, uint8 (n, C, H, W).
        alone: whether each query is classified by itself, see `query_with_support`.
    """
    way = int(support.y.max()) + 1
    size = 1 if alone else len(pixels) if learner.transductive else AT_ONCE

    def episodes() -> Iterator[Episode]:
        for start in range(0, len(pixels), size):
            x = learner.normalised(pixels[start : start + size])[None]
            if alone:
                yield query_with_support(support, x, way)
                continue
            labels = torch.zeros(x.shape[:2], dtype=torch.int64, device=x.device)
            yield Episode(support, Examples(x, labels), way)

    logits = logits_of_one_support(learner, episodes())
    return torch.cat([part[:1] if alone else part for part in logits])


def table_of(
    probabilities: np.ndarray,
    classes: list[str],
    asked: Photos,
    folder: Path,
    reject: float | None,
) -> pd.DataFrame:
    """A row a photo: see `predict_photos`."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    first, second = (
        np.take_along_axis(probabilities, order[:, place : place + 1], 1)[:, 0] for place in (0, 1)
    )
    names = np.array(classes, dtype=object)
    prediction = names[order[:, 0]]
    if reject is not None:
        prediction = np.where(first < reject, NONE_OF_THESE, prediction)
    table = pd.DataFrame(
        {
            "file": [path.relative_to(folder).as_posix() for path in asked.files],
            "prediction": prediction,
            "probability": first,
            "runner_up": names[order[:, 1]],
            "runner_up_probability": second,
        }
    )
    if asked.labels is not None:
        known = [name if name in classes else NONE_OF_THESE for name in asked.labels]
        table.insert(1, "class", asked.labels)
        table["right"] = table["prediction"].to_numpy() == np.array(known, dtype=object)
    return table
