"""The files of a finished run: its record (JSON), its results (npz), and its test episodes."""

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
    """Mean and half-width of the 95 % interval of each metric; and what is not finite.

    A squared error may be infinite for some tasks, which diverged; its median is a number all the
    same. It fails where half of the tasks or more are infinite.

    Args:
        results: by metric one number an episode, (E,); and ``prediction``, which is left out.

    Returns:
        {metric: {"mean": m, "ci95": c}}, None for what is no finite number; and a reason why the
        run failed, empty where it did not.
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
    """Write what was measured of each episode; returns a hash of it.

    Args:
        path: of the .npz.
        results: as `summarised` takes them.
        way: N, so that predicted labels take as few bytes as they can; None in regression.
    """
    arrays = dict(results)
    if way is not None:
        arrays["prediction"] = results["prediction"].astype(np.min_scalar_type(way - 1))
    write_arrays(path, arrays)
    return arrays_hash(arrays)


def write_test_episodes(folder: Path, data: EpisodicDataModule, regression: bool) -> str:
    """Write the test episodes' classes and images, once for all runs that share them.

    In regression what functions follow from: see `Points` in datasets/benchmarks/regression.py.

    Returns:
        A hash of them.
    """
    path = folder / f"episodes-{data.test_fingerprint()}.npz"
    indices = data.test_indices()._asdict()
    kinds = {
        name: np.float32 if regression else np.promote_types(np.uint16, least_type(part))
        for name, part in indices.items()
    }
    arrays = {name: part.astype(kinds[name]) for name, part in indices.items()}
    known = arrays_hash(arrays)
    try:
        whole = arrays_hash(read_arrays(path)) == known
    except FileNotFoundError:
        whole = False
    except ValueError as error:
        print(f"  {path}: {' '.join(str(error).split())}; written anew", file=sys.stderr)
        whole = False
    if not whole:
        write_arrays(path, arrays)
    return known


def least_type(numbers: np.ndarray) -> np.dtype[Any]:
    """The smallest unsigned type that holds all of these whole numbers."""
    return np.min_scalar_type(int(numbers.max(initial=0)))


def write_record(path: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Write a record with its checksum; returns it as it is read back."""
    write_json(path, {**record, "checksum": checksum(json.loads(json.dumps(record)))})
    return dict(json.loads(path.read_text()))


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None
