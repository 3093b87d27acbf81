"""Which classes were confused: pooled predictions, by hand."""

import numpy as np
import pytest

from zoo.reports.confusions import (
    accuracy_of_classes,
    confusion_shares,
    most_confused,
    pooled_predictions,
)

NAMES = ["a", "b", "c", "d"]
CLASSES = np.array([[2, 0], [0, 3], [2, 0]])  # of three 2-way episodes
PREDICTION = np.array([[0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 1]], np.uint8)  # two queries a class


def test_pooled_predictions_by_hand():
    pooled = pooled_predictions(PREDICTION, CLASSES, NAMES)
    rows = {(row[0], row[1]): tuple(row[2:4]) for row in pooled.itertuples(index=False)}
    assert rows == {
        ("a", "a"): (6, 3), ("a", "c"): (4, 1), ("a", "d"): (2, 2),
        ("c", "c"): (4, 3), ("c", "a"): (4, 1), ("d", "d"): (2, 0), ("d", "a"): (2, 2),
    }  # fmt: skip
    assert accuracy_of_classes(pooled) == {"a": 0.5, "c": 0.75, "d": 0.0}
    # As many mistakes, but of fewer queries: the larger share comes first.
    assert most_confused(pooled)[["class", "predicted"]].values.tolist() == [
        ["a", "d"], ["d", "a"], ["a", "c"], ["c", "a"],
    ]  # fmt: skip
    assert len(most_confused(pooled, 1)) == 1


def test_the_matrix_has_gaps_where_classes_never_met():
    shares = confusion_shares(pooled_predictions(PREDICTION, CLASSES, NAMES))
    assert [*shares.index] == [*shares] == ["a", "c", "d"]  # b was never tested
    assert shares.loc["a"].tolist() == pytest.approx([0.5, 0.25, 1.0])
    assert np.isnan(shares.loc["c", "d"]) and np.isnan(shares.loc["d", "c"])


def test_without_a_mistake_nothing_is_confused():
    right = np.repeat(np.arange(2), 2)[None].repeat(3, 0)
    pooled = pooled_predictions(right, CLASSES, NAMES)
    assert most_confused(pooled).empty and set(pooled["times"]) == {0, 2, 4, 6}
