"""Which classes a run confused: the predictions of all its test episodes, by true class."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

LISTED = 10  # pairs of classes that a record names


def pooled_predictions(
    prediction: np.ndarray, classes: np.ndarray, names: Sequence[str]
) -> pd.DataFrame:
    """How often queries of each class were predicted to be of each class in the same episode.

    Args:
        prediction: the predicted label of each query, (E, N*Q), class by class.
        classes: the class that each label stands for, (E, N).
        names: of all classes.

    Returns:
        One row for each two classes that were in an episode together, and for each class with
        itself: ``class``; ``predicted``; ``queries`` of the class in those episodes; ``times``
        that these were predicted to be of ``predicted``; ``share``, times / queries.
    """
    episodes, way = classes.shape
    labels = prediction.reshape(episodes, way, -1)
    times = (labels[..., None] == np.arange(way)).sum(2)  # (E, N, N): true label, predicted label
    true = np.broadcast_to(classes[:, :, None], times.shape)
    predicted = np.broadcast_to(classes[:, None, :], times.shape)
    pairs = true.astype(np.int64) * len(names) + predicted  # a number for each pair of classes
    pair, row = np.unique(pairs.ravel(), return_inverse=True)
    queries = np.bincount(row) * labels.shape[2]
    times_of_row = np.bincount(row, times.ravel()).astype(np.int64)
    all_names = np.array(names, dtype=object)
    return pd.DataFrame(
        {
            "class": all_names[pair // len(names)],
            "predicted": all_names[pair % len(names)],
            "queries": queries,
            "times": times_of_row,
            "share": times_of_row / queries,
        }
    )


def accuracy_of_classes(pooled: pd.DataFrame) -> dict[str, float]:
    """The share of each tested class's queries that were predicted right."""
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
    """The shares as a matrix, one row per class; nan for two that shared no episode."""
    names = list(dict.fromkeys(pooled["class"]))
    return pooled.pivot(index="class", columns="predicted", values="share").reindex(names)[names]
