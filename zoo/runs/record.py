"""Writes the files of a finished run: record (JSON), results and test episodes (npz)."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.files import write_arrays, write_json
from zoo.reports.metrics import is_error
from zoo.reports.records import arrays_hash, checksum, read_arrays
from zoo.reports.statistics import interval


def summarised(results: Mapping[str, np.ndarray]) -> tuple[dict[str, dict[str, Any]], str]:
    """Mean and half-width of the 95 % interval of each metric, and whether the run failed.

    A squared error may be infinite for some tasks, those that diverged: its median is finite all
    the same. The run failed if it is infinite for half of the tasks or more, or if another metric
    is not finite for any.

    Args:
        results: for each metric a number an episode, (E,); and ``prediction``, which is left out.

    Returns:
        {metric: {"mean": m, "ci95": c}}, with None for numbers that are not finite; and the reason
        why the run failed, "" if it did not.
    """
    metrics: dict[str, dict[str, Any]] = {}
    failure = ""
    for name, values in results.items():
        if name == "prediction":
            continue
        finite = np.isfinite(values)
        mean, ci95 = interval(values) if finite.all() else (math.nan, math.nan)
        if not math.isfinite(mean) and not (is_error(name) and finite.mean() > 0.5):
            failure = f"in the test, {name} is not finite for {(~finite).sum()} of {len(finite)}"
        metrics[name] = {"mean": finite_or_none(mean), "ci95": finite_or_none(ci95)}
    return metrics, failure


def write_results(path: Path, results: Mapping[str, np.ndarray], way: int | None) -> str:
    """Write the metrics and predictions of each episode; returns their hash.

    Args:
        path: of the .npz file.
        results: as `summarised` takes them.
        way: N, which decides how many bytes a predicted label takes; None in regression.
    """
    arrays = dict(results)
    if way is not None:
        arrays["prediction"] = results["prediction"].astype(np.min_scalar_type(way - 1))
    write_arrays(path, arrays)
    return arrays_hash(arrays)


def write_test_episodes(folder: Path, data: EpisodicDataModule, regression: bool) -> str:
    """Write which classes and images the test episodes have, once for all runs that share them.

    These are numbers of classes and images, not pixels.

    In regression it writes what determines the functions, see `Points` in
    datasets/benchmarks/regression.py.

    Returns:
        The hash of the arrays.
    """
    path = folder / f"episodes-{data.test_fingerprint()}.npz"
    arrays = {}
    for name, numbers in data.test_indices()._asdict().items():
        dtype = np.float32 if regression else np.promote_types(np.uint16, least_type(numbers))
        arrays[name] = numbers.astype(dtype)
    expected = arrays_hash(arrays)
    try:
        is_written = arrays_hash(read_arrays(path)) == expected
    except FileNotFoundError:
        is_written = False
    except ValueError as error:
        print(f"  {path}: {' '.join(str(error).split())}; written anew", file=sys.stderr)
        is_written = False
    if not is_written:
        write_arrays(path, arrays)
    return expected


def least_type(numbers: np.ndarray) -> np.dtype[Any]:
    """The smallest unsigned type that holds all of these whole numbers."""
    return np.min_scalar_type(int(numbers.max(initial=0)))


def write_record(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Write a record with its checksum; returns it as it is read back."""
    write_json(path, {**record, "checksum": checksum(json.loads(json.dumps(record)))})
    return dict(json.loads(path.read_text()))


def finite_or_none(value: float) -> float | None:
    """The value, or None if it is infinite or nan, for which JSON has no number."""
    return value if math.isfinite(value) else None
