"""The metrics that tables show: accuracy in per cent, squared error."""

from typing import NamedTuple


class Metric(NamedTuple):
    """What a table shows."""

    name: str
    unit: int  # times the raw number
    form: str
    typical: str  # what an axis of `estimate`'s numbers is called
    mean: str  # and one of plain means


METRICS = {
    "accuracy": Metric("accuracy in %", 100, ".2f", "accuracy in %", "accuracy in %"),
    "mse": Metric(
        "squared error, less is better", 1, ".3f", "median squared error", "mean squared error"
    ),
}


def metric_of(name: str) -> Metric:
    """What is shown of a metric; an accuracy at some instance is an accuracy."""
    return METRICS[name.partition("@")[0]]


def is_error(name: str) -> bool:
    """Whether less of a metric is better: a squared error, not an accuracy."""
    return METRICS.get(name.partition("@")[0]) is METRICS["mse"]
