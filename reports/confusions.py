"""Which classes a run confused: its test episodes' predictions, pooled by true class."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

LISTED = 10  # pairs of classes that a record names


def pooled_predictions(
    prediction: np.ndarray, classes: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """How often queries of each class were taken for each class that was in the same episode.

    Args:
        prediction: the label that each query was given, (E, N*Q), the queries class by class.
        classes: the class that each label stands for, (E, N).
        names: of all classes.

    Returns:
        A row for each class and each class, itself too, that shared an episode with it: ``class``,
        ``predicted``, ``queries`` of the class in those episodes, ``times`` they were taken for
        ``predicted``, and ``share``, the second by the first.
    """
    episodes, way = classes.shape
    labels = prediction.reshape(episodes, way, -1)
    times = (labels[..., None] == np.arange(way)).sum(2)  # (E, N, N): true label, predicted label
    true = np.broadcast_to(classes[:, :, None], times.shape)
    taken_for = np.broadcast_to(classes[:, None, :], times.shape)
    pairs = true.astype(np.int64) * len(names) + taken_for
    different, place = np.unique(pairs.ravel(), return_inverse=True)
    queries = np.bincount(place) * labels.shape[2]
    counted = np.bincount(place, times.ravel()).astype(np.int64)
    every = np.array(names, dtype=object)
    return pd.DataFrame(
        {
            "class": every[different // len(names)],
            "predicted": every[different % len(names)],
            "queries": queries,
            "times": counted,
            "share": counted / queries,
        }
    )


def accuracy_of_classes(pooled: pd.DataFrame) -> dict[str, float]:
    """The share of each tested class's queries that were right."""
    right = pooled[pooled["class"] == pooled["predicted"]]
    return {
        str(name): round(float(share), 4)
        for name, share in zip(right["class"], right["share"], strict=True)
    }


def most_confused(pooled: pd.DataFrame, count: int = LISTED) -> pd.DataFrame:
    """The rows of different classes with the most wrong predictions, the worst first."""
    wrong = pooled[(pooled["class"] != pooled["predicted"]) & (pooled["times"] > 0)]
    return wrong.sort_values(["times", "share"], ascending=False, kind="stable").head(count)


def confusion_shares(pooled: pd.DataFrame) -> pd.DataFrame:
    """The shares as a matrix, a row a class; nan for classes that shared no episode."""
    names = list(dict.fromkeys(pooled["class"]))
    return pooled.pivot(index="class", columns="predicted", values="share").reindex(names)[names]
