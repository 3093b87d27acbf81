"""The metrics that tables show: accuracy in per cent, squared error."""

from typing import NamedTuple


class Metric(NamedTuple):
    """How a metric is shown."""

    name: str
    unit: int  # the raw number is multiplied by it
    form: str  # of `format`
    typical: str  # label of an axis with the numbers of `estimates.estimate`
    mean: str  # label of an axis with plain means


METRICS = {
    "accuracy": Metric("accuracy in %", 100, ".2f", "accuracy in %", "accuracy in %"),
    "mse": Metric(
        "squared error, less is better", 1, ".3f", "median squared error", "mean squared error"
    ),
}


def metric_of(name: str) -> Metric:
    """How a metric is shown; ``accuracy@instance2`` is shown as an accuracy."""
    return METRICS[name.partition("@")[0]]


def is_error(name: str) -> bool:
    """Whether lower is better: a squared error, not an accuracy."""
    return METRICS.get(name.partition("@")[0]) is METRICS["mse"]
