"""Finished runs: ``<results>/<run>.json``, and ``<run>.npz`` with what each episode gave."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from zoo.reports.metrics import is_error

SCHEMA = 1
MACHINE_SETTINGS = ("micro_batch",)  # how a run is computed, not what it is

# Column of the frame -> where the record holds it, and what may stand there.
FIELDS: dict[str, tuple[str, Any]] = {
    "run": ("run", str),
    "status": ("status", str),
    "learner": ("learner", str),
    "variant": ("variant", dict),
    "title": ("title", str),
    "remark": ("remark", str | None),
    "benchmark": ("benchmark", str),
    "way": ("way", int | None),
    "shot": ("shot", int | None),
    "terms": ("terms", str),
    "budget": ("budget", str),
    "seed": ("seed", int),
    "version": ("version", int | None),
    "weights_of": ("weights_of", str | None),  # a test of another run's weights
    "trained_on": ("trained_on.benchmark", str | None),  # of such weights, by `zoo test`
    "settings": ("settings", dict),
    "backbone_family": ("backbone_family", str | None),
    "transductive": ("traits.transductive", bool),
    "batch_norm": ("traits.batch_norm", str | None),
    "parameters": ("parameters", int | None),
    "learned_parameters": ("learned_parameters", int | None),
    "tasks_seen": ("training_tasks.seen", int | None),
    "tasks_paper": ("training_tasks.paper", int | None),
    "updates": ("updates.total", int | None),
    "train_seconds": ("seconds.train", int | float | None),
    "test_seconds": ("seconds.test", int | float | None),
    "stages": ("stages", list | None),
    "update_seconds": ("seconds.updates", int | float | None),
    "update_cpu_seconds": ("seconds.updates_cpu", int | float | None),
    "others_busy": ("busy.others", int | float | None),
    "update_memory": ("memory.updates", int | None),
    "validation": ("validation", list | None),
    "validation_median": ("validation_median", list | None),
    "diverged_validation": ("diverged.validation", list | None),
    "diverged_test": ("diverged.test", int | float | None),
    "tested_update": ("tested_update", int | None),
    "split": ("episodes.split", str | None),
    "episodes": ("episodes.count", int | None),
    "episodes_fingerprint": ("episodes.fingerprint", str | None),
    "data_fingerprint": ("data.fingerprint", str | None),
    "failed_at": ("failure.update", int | None),
    "failure": ("failure.reason", str | None),
    "commit": ("environment.commit", str | None),
    "dirty": ("environment.dirty", bool | None),
    "other_commits": ("environment.other_commits", list | None),
    "other_machines": ("environment.other_machines", list | None),
    "other_files": ("environment.other_files", list | None),  # of the learner, changed on the way
    "unchecked": ("environment.unchecked", list | None),  # resumed from, without a checksum
    "device": ("environment.device", str | None),
    "device_name": ("environment.device_name", str | None),
    "threads": ("environment.threads", int | None),
    "test_passes_begun": ("test_passes_begun", int | None),
    "weights": ("weights", dict | None),
    "results_hash": ("arrays.results", str | None),  # of what each episode gave; None: not known
    "episodes_hash": ("arrays.episodes", str | None),  # of the test episodes' classes and images
    "checksum": ("checksum", str | None),  # in the frame: holds, or what is wrong with it
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_point(value: Any) -> bool:
    """Updates, and what validation gave; None for what is no finite number."""
    pair = isinstance(value, list) and len(value) == 2
    return pair and _is_number(value[0]) and _is_number_or_none(value[1])


def _is_stage(value: Any) -> bool:
    if not isinstance(value, dict) or not {"name", "hash"} <= value.keys():
        return False
    texts = isinstance(value["name"], str) and isinstance(value["hash"], str)
    return texts and _is_number_or_none(value.get("cpu_seconds"))


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


# Columns of lists: what stands in them, in words, and whether a value does.
LISTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "validation": ("pairs of updates and a number", _is_point),
    "validation_median": ("numbers", _is_number_or_none),
    "diverged_validation": ("numbers", _is_number_or_none),
    "stages": ("stages with name and hash", _is_stage),
}
HOLDS, BROKEN, NO_CHECKSUM = "holds", "broken", "none"


def load(folder: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """Every record of a folder, one row a run, sorted by file name; only the JSON is read.

    Args:
        folder: where the records lie.

    Returns:
        The frame and the problems, one line each. Columns: the keys of `FIELDS` (`settings`: name
        to resolved value), then each metric's mean under its name and its interval under
        ``<name>_ci95``. What cannot be read becomes a problem, and the rest is loaded.
    """
    folder = Path(folder)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    if not folder.is_dir():
        problems.append(f"{folder}: no such folder")
    else:
        paths = sorted(folder.glob("*.json"))
        for path in paths:
            try:
                rows.append(row_of(parse_record(path.read_bytes()), path.stem))
            except (OSError, ValueError) as error:
                problems.append(f"{path.name}: skipped, {' '.join(str(error).split())}")
        if not paths:
            problems.append(f"{folder}: no records")
    metrics = sorted({name for row in rows for name in row} - set(FIELDS))
    frame = pd.DataFrame(rows, columns=[*FIELDS, *metrics])
    counts = [name for name, (_, kind) in FIELDS.items() if kind in (int, int | None)]
    return frame.astype(dict.fromkeys(counts, "Int64")), problems


def parse_record(content: bytes) -> dict[str, Any]:
    """The record that a file holds.

    Raises:
        ValueError: it is no record, or has what cannot be written again: a number of more than 64
            bits, or half of a surrogate pair.
    """
    try:
        found = json.loads(content.decode("utf-8"), parse_int=_whole, parse_float=_finite)
    except RecursionError:
        raise ValueError("not a record of a run: nested too deeply") from None
    if not isinstance(found, dict) or "schema" not in found:
        raise ValueError("not a record of a run")
    json.dumps(found, ensure_ascii=False).encode()
    return found


def _whole(digits: str) -> int:
    if len(digits) > len(str(-(2**63))) or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"{digits[:20]}... is too large a number")
    return int(digits)


def _finite(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


def arrays_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """A hash of names, shapes and values, whatever the types that they are kept in.

    Raises:
        ValueError: an array is not of numbers.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} is {array.dtype}, expected numbers")
        digest.update(f"{name} {array.shape}\n".encode())
        kind = "<f8" if array.dtype.kind == "f" else "<i8"
        digest.update(np.ascontiguousarray(array, kind).tobytes())
    return digest.hexdigest()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # of a damaged zip file there may be any
        raise ValueError(f"cannot be read: {str(error) or type(error).__name__}") from None
    if others := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
        raise ValueError(f"cannot be read: {others[0]} is no array")
    return found


def recorded_arrays(path: Path, known: str | None) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that a record knows.

    Args:
        path: of the file.
        known: their hash in the record; None or nan in one of earlier code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or is not what was recorded.
    """
    arrays = read_arrays(path)
    if pd.notna(known) and arrays_hash(arrays) != known:
        raise ValueError("not what was recorded: the record has another hash of it")
    return arrays


def checksum(record: dict[str, Any]) -> str:
    """Of all that a record holds but its checksum: it tells a record that was edited by hand."""
    rest = {key: value for key, value in record.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def checksum_state(record: dict[str, Any]) -> str:
    """Whether a record's checksum holds, is broken, or is not there."""
    known = record.get("checksum")
    if known is None:
        return NO_CHECKSUM
    return HOLDS if known == checksum(record) else BROKEN


def values(folder: str | Path, measured: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """What each test episode gave of every finished run, and the problems, one line each.

    Args:
        folder: where the records lie.
        measured: as `load` returns it.

    Returns:
        By run a frame indexed by episode, one column a metric. A run whose episodes are missing,
        damaged, not finite, or not those of its record is left out and becomes a problem. A file of
        test episodes that is not what a record knows is a problem too.
    """
    found: dict[str, pd.DataFrame] = {}
    problems: list[str] = []
    for run in measured[measured["status"] == "done"].to_dict("records"):
        name = run["run"]
        try:
            arrays = recorded_arrays(Path(folder) / f"{name}.npz", run["results_hash"])
            arrays.pop("prediction", None)
            found[name] = _checked(by_episode(arrays), run)
        except (OSError, ValueError) as error:
            why = "is missing" if isinstance(error, FileNotFoundError) else f"{error}"
            problems.append(f"{name}.npz: left out, {' '.join(why.split())}")
    return found, [*problems, *_damaged_episodes(Path(folder), measured)]


def _damaged_episodes(folder: Path, measured: pd.DataFrame) -> list[str]:
    """A line for each file of test episodes that is not what the records know."""
    problems = []
    known = measured[["episodes_fingerprint", "episodes_hash"]].dropna().drop_duplicates()
    for fingerprint, expected in known.itertuples(index=False):
        name = f"episodes-{fingerprint}.npz"
        try:
            recorded_arrays(folder / name, expected)
        except FileNotFoundError:
            continue
        except ValueError:
            problems.append(
                f"{name}: damaged, not the classes and images that were tested; delete it, and the "
                "next run on these episodes writes it again"
            )
    return problems


def _checked(frame: pd.DataFrame, run: dict[Any, Any]) -> pd.DataFrame:
    """The same frame.

    Raises:
        ValueError: it does not fit its record.
    """
    if pd.notna(run["episodes"]) and len(frame) != run["episodes"]:
        raise ValueError(f"{len(frame)} episodes, the record has {run['episodes']}")
    named = {name.removesuffix("_ci95") for name in run if str(name).endswith("_ci95")}
    if missing := [name for name in named if pd.notna(run[name]) and name not in frame]:
        raise ValueError(f"without {missing[0]}, which the record has")
    for name in map(str, frame):
        if name not in named:
            raise ValueError(f"with {name}, which the record does not have")
        if frame[name].dtype.kind not in "biuf":
            raise ValueError(f"{name} is not one number an episode")
        usable = ~np.isnan(frame[name]) if is_error(name) else np.isfinite(frame[name])
        if not usable.all():
            raise ValueError(f"{name} of some episode is not finite")
        if not math.isclose(frame[name].mean(), run[name], rel_tol=1e-5, abs_tol=1e-7):
            raise ValueError(
                f"its mean {name} is {frame[name].mean():.6g}, the record's {run[name]:.6g}"
            )
    return frame


def episodes(folder: str | Path, run: str, predictions: bool = True) -> pd.DataFrame:
    """What each test episode of a run gave, indexed by episode.

    Returns:
        One column a metric, and `prediction`, unless not asked for: an episode's N*Q predictions.
    """
    arrays = read_arrays(Path(folder) / f"{run}.npz")
    if not predictions:
        arrays.pop("prediction", None)
    return by_episode(arrays)


def by_episode(arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """The arrays of a results file as the columns of a frame, a row an episode.

    Raises:
        ValueError: they are not of as many episodes.
    """
    if scalars := [name for name, array in arrays.items() if array.ndim == 0]:
        raise ValueError(f"{scalars[0]} is not one number an episode")
    columns = {name: list(array) for name, array in arrays.items()}
    return pd.DataFrame(columns).rename_axis("episode")


def row_of(record: dict[str, Any], stem: str) -> dict[str, Any]:
    """The flat row of one record.

    Args:
        record: as `parse_record` returns it.
        stem: of its file.

    Raises:
        ValueError: it is no record of ours, or a broken one.
    """
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema {record['schema']!r}, this code reads {SCHEMA}")
    row = {name: _value(record, path, kind) for name, (path, kind) in FIELDS.items()}
    row["checksum"] = checksum_state(record)
    if row["run"] != stem:
        raise ValueError(f"a duplicate or renamed: it holds run {row['run']!r}")
    if row["status"] not in ("done", "failed"):
        raise ValueError(f"status {row['status']!r} is neither done nor failed")
    try:
        row["settings"] = {name: entry["value"] for name, entry in row["settings"].items()}
    except (TypeError, KeyError):
        raise ValueError("settings without values") from None
    _check_inside(row)
    metrics = _value(record, "metrics", dict | None) or {}
    if row["status"] == "done" and not metrics:
        raise ValueError("done, but without metrics")
    for name in metrics if row["status"] == "done" else ():
        row[name] = _number(record, name, "mean")
        row[f"{name}_ci95"] = _number(record, name, "ci95")
    return row


def _check_inside(row: dict[str, Any]) -> None:
    """Refuse values of settings, and of lists, that are not what they should be.

    Raises:
        ValueError: says where.
    """
    for name in ("settings", "variant"):
        if any(isinstance(value, list | dict) for value in row[name].values()):
            raise ValueError(f"{name}: expected a number, a text, true, false or null for each")
    for name, (words, fits) in LISTS.items():
        if not all(map(fits, row[name] or ())):
            raise ValueError(f"{name}: expected {words}")


def _value(record: dict[str, Any], path: str, kind: Any) -> Any:
    """What the record holds at a dotted path; None where it holds nothing and may."""
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, kind) and not (isinstance(value, bool) and kind in (int, int | None)):
        return value
    if value is None:
        raise ValueError(f"{path} is missing")
    raise ValueError(f"{path} is {value!r:.40}")


def _number(record: dict[str, Any], metric: str, part: str) -> float:
    """A metric's mean or interval.

    The interval may be null, of a single episode. The mean of a squared error may be: tasks
    diverged, and it is infinite.
    """
    value = _value(record["metrics"], f"{metric}.{part}", int | float | None)
    if value is None and part == "ci95":
        return math.nan
    if value is None and is_error(metric):
        return math.inf
    if value is None or not math.isfinite(value):
        raise ValueError(f"{part} of {metric} is {value}")
    return float(value)
