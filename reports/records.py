"""Reads finished runs: ``<run>.json``, and ``<run>.npz`` with the results of each episode."""

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
MACHINE_SETTINGS = ("micro_batch",)  # settings that say how a run is computed, not what it is

# For each column of the frame, where the record holds its value, and the type of that.
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
    "trained_on": ("trained_on.benchmark", str | None),  # in a test by `zoo test`
    "settings": ("settings", dict),
    "lowered": ("lowered", list | None),  # settings that were lowered to fit own images, and why
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
    "other_files": ("environment.other_files", list | None),  # source files changed on the way
    "unchecked": ("environment.unchecked", list | None),  # files without a checksum that were used
    "device": ("environment.device", str | None),
    "device_name": ("environment.device_name", str | None),
    "threads": ("environment.threads", int | None),
    "test_passes_begun": ("test_passes_begun", int | None),
    "weights": ("weights", dict | None),
    "results_hash": ("arrays.results", str | None),  # of the results of each episode
    "episodes_hash": ("arrays.episodes", str | None),  # of the test episodes' classes and images
    "checksum": ("checksum", str | None),  # in the frame its state: HOLDS, BROKEN or NO_CHECKSUM
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_point(value: Any) -> bool:
    """Whether a value is a pair of updates and a validation result, which may be None."""
    pair = isinstance(value, list) and len(value) == 2
    return pair and _is_number(value[0]) and _is_number_or_none(value[1])


def _is_stage(value: Any) -> bool:
    if not isinstance(value, dict) or not {"name", "hash"} <= value.keys():
        return False
    texts = isinstance(value["name"], str) and isinstance(value["hash"], str)
    return texts and _is_number_or_none(value.get("cpu_seconds"))


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


# For each column of lists, what the lists contain, in words, and a check of a single element.
LISTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "validation": ("pairs of updates and a number", _is_point),
    "validation_median": ("numbers", _is_number_or_none),
    "diverged_validation": ("numbers", _is_number_or_none),
    "stages": ("stages with name and hash", _is_stage),
    "lowered": ("texts", lambda value: isinstance(value, str)),
}
HOLDS, BROKEN, NO_CHECKSUM = "holds", "broken", "none"


def load(folder: str | Path) -> tuple[pd.DataFrame, list[str]]:
    """Load every record in a folder, without the results of single episodes.

    Args:
        folder: where the records lie.

    Returns:
        A frame and a list of problems, one line each. The frame has one row a run, sorted by file
        name. Its columns are the keys of `FIELDS`, with `settings` as resolved values by name, and
        then each metric's mean under its name and the half-width of its interval under
        ``<name>_ci95``. A file that cannot be read becomes a problem.
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
    integers = [name for name, (_, expected) in FIELDS.items() if expected in (int, int | None)]
    return frame.astype(dict.fromkeys(integers, "Int64")), problems


def parse_record(content: bytes) -> dict[str, Any]:
    """Parse the content of a record's file.

    Raises:
        ValueError: it is not a record, or holds something that could not be written again: a number
            of more than 64 bits, or half of a surrogate pair.
    """
    try:
        record = json.loads(content.decode("utf-8"), parse_int=_whole, parse_float=_finite)
    except RecursionError:
        raise ValueError("not a record of a run: nested too deeply") from None
    if not isinstance(record, dict) or "schema" not in record:
        raise ValueError("not a record of a run")
    json.dumps(record, ensure_ascii=False).encode()  # raises for half of a surrogate pair
    return record


def _whole(digits: str) -> int:
    """Parse a whole number of at most 64 bits."""
    if len(digits) > len(str(-(2**63))) or not -(2**63) <= int(digits) < 2**63:
        raise ValueError(f"{digits[:20]}... is too large a number")
    return int(digits)


def _finite(digits: str) -> float:
    """Parse a number that a float can hold."""
    if not math.isfinite(value := float(digits)):
        raise ValueError(f"{digits[:20]} is too large a number")
    return value


def arrays_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """A hash of names, shapes and values; it does not depend on the number of bytes a value takes.

    Raises:
        ValueError: an array does not hold numbers.
    """
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{name} is {array.dtype}, expected numbers")
        digest.update(f"{name} {array.shape}\n".encode())
        dtype = "<f8" if array.dtype.kind == "f" else "<i8"
        digest.update(np.ascontiguousarray(array, dtype).tobytes())
    return digest.hexdigest()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, by name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged zip file may raise any error
        raise ValueError(f"cannot be read: {str(error) or type(error).__name__}") from None
    for name, array in content.items():
        if not isinstance(array, np.ndarray):
            raise ValueError(f"cannot be read: {name} is no array")
    return content


def recorded_arrays(path: Path, recorded_hash: str | None) -> dict[str, np.ndarray]:
    """Read an .npz file, and check it against the hash in a record.

    Args:
        path: of the file.
        recorded_hash: of the arrays; None or nan if the record is of earlier code.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or is not what was recorded.
    """
    arrays = read_arrays(path)
    if pd.notna(recorded_hash) and arrays_hash(arrays) != recorded_hash:
        raise ValueError("not what was recorded: the record has another hash of it")
    return arrays


def checksum(record: dict[str, Any]) -> str:
    """The checksum of a record without its own entry; it shows whether the record was edited."""
    rest = {key: value for key, value in record.items() if key != "checksum"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def checksum_state(record: dict[str, Any]) -> str:
    """Whether a record's checksum holds, is broken, or is missing."""
    recorded = record.get("checksum")
    if recorded is None:
        return NO_CHECKSUM
    return HOLDS if recorded == checksum(record) else BROKEN


def values(folder: str | Path, measured: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """Read the metrics of each test episode of every finished run.

    Args:
        folder: where the records lie.
        measured: the frame from `load`.

    Returns:
        Frames and problems, one line each. For each run's name there is a frame with a column for
        each metric, indexed by episode. A run whose episodes are missing, damaged, not finite, or
        not those of its record is left out and becomes a problem. A file of test episodes that is
        not what was recorded is a problem too.
    """
    frames: dict[str, pd.DataFrame] = {}
    problems: list[str] = []
    for run in measured[measured["status"] == "done"].to_dict("records"):
        name = run["run"]
        try:
            arrays = recorded_arrays(Path(folder) / f"{name}.npz", run["results_hash"])
            arrays.pop("prediction", None)
            frames[name] = _checked(by_episode(arrays), run)
        except (OSError, ValueError) as error:
            why = "is missing" if isinstance(error, FileNotFoundError) else f"{error}"
            problems.append(f"{name}.npz: left out, {' '.join(why.split())}")
    return frames, [*problems, *_damaged_episodes(Path(folder), measured)]


def _damaged_episodes(folder: Path, measured: pd.DataFrame) -> list[str]:
    """A line for each file of test episodes that is not what was recorded."""
    problems = []
    recorded = measured[["episodes_fingerprint", "episodes_hash"]].dropna().drop_duplicates()
    for fingerprint, recorded_hash in recorded.itertuples(index=False):
        name = f"episodes-{fingerprint}.npz"
        try:
            recorded_arrays(folder / name, recorded_hash)
        except FileNotFoundError:
            continue
        except ValueError:
            problems.append(
                f"{name}: damaged, not the classes and images that were tested; delete it, and the "
                "next run on these episodes writes it again"
            )
    return problems


def _checked(frame: pd.DataFrame, run: dict[Any, Any]) -> pd.DataFrame:
    """Check the frame of a run's episodes against its record, and return it.

    Raises:
        ValueError: it does not fit the record.
    """
    if pd.notna(run["episodes"]) and len(frame) != run["episodes"]:
        raise ValueError(f"{len(frame)} episodes, the record has {run['episodes']}")
    metrics = {name.removesuffix("_ci95") for name in run if str(name).endswith("_ci95")}
    if missing := [name for name in metrics if pd.notna(run[name]) and name not in frame]:
        raise ValueError(f"without {missing[0]}, which the record has")
    for name in map(str, frame):
        if name not in metrics:
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
    """Read the results of each test episode of a run.

    Args:
        folder: where the record lies.
        run: the name of the run.
        predictions: whether the predictions are returned too.

    Returns:
        A frame indexed by episode, with a column for each metric and, if asked for, `prediction`,
        the N*Q predictions of an episode.
    """
    arrays = read_arrays(Path(folder) / f"{run}.npz")
    if not predictions:
        arrays.pop("prediction", None)
    return by_episode(arrays)


def by_episode(arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Make the arrays of a results file the columns of a frame with a row for each episode.

    Raises:
        ValueError: the arrays do not all have the same number of episodes.
    """
    if scalars := [name for name, array in arrays.items() if array.ndim == 0]:
        raise ValueError(f"{scalars[0]} is not one number an episode")
    columns = {name: list(array) for name, array in arrays.items()}
    return pd.DataFrame(columns).rename_axis("episode")


def row_of(record: dict[str, Any], stem: str) -> dict[str, Any]:
    """Make a row of the frame from a record.

    Args:
        record: as `parse_record` returns it.
        stem: the name of its file, without the ending.

    Raises:
        ValueError: it is not a record of ours, or a broken one.
    """
    if record["schema"] != SCHEMA:
        raise ValueError(f"schema {record['schema']!r}, this code reads {SCHEMA}")
    row = {name: _value(record, path, expected) for name, (path, expected) in FIELDS.items()}
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
    _value(record, "environment", dict | None)
    plugins = _value(record, "environment.plugins", list | None) or []
    if not all(isinstance(plugin, dict) and "file" in plugin for plugin in plugins):
        raise ValueError("environment.plugins: expected plug-ins with file")
    metrics = _value(record, "metrics", dict | None) or {}
    if row["status"] == "done" and not metrics:
        raise ValueError("done, but without metrics")
    if row["status"] == "done":
        for name in metrics:
            row[name] = _number(record, name, "mean")
            row[f"{name}_ci95"] = _number(record, name, "ci95")
    return row


def _check_inside(row: dict[str, Any]) -> None:
    """Check the values of settings and the elements of lists.

    Raises:
        ValueError: one has the wrong type; the message says in which column.
    """
    for name in ("settings", "variant"):
        if any(isinstance(value, list | dict) for value in row[name].values()):
            raise ValueError(f"{name}: expected a number, a text, true, false or null for each")
    for name, (words, fits) in LISTS.items():
        if not all(map(fits, row[name] or ())):
            raise ValueError(f"{name}: expected {words}")


def _value(record: dict[str, Any], path: str, expected: Any) -> Any:
    """The value at a dotted path in a record; None if there is none and `expected` allows that.

    Raises:
        ValueError: it is missing, or has another type than `expected`.
    """
    value: Any = record
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    is_bool_for_int = isinstance(value, bool) and expected in (int, int | None)
    if isinstance(value, expected) and not is_bool_for_int:
        return value
    if value is None:
        raise ValueError(f"{path} is missing")
    raise ValueError(f"{path} is {value!r:.40}")


def _number(record: dict[str, Any], metric: str, part: str) -> float:
    """A metric's mean, or the half-width of its interval.

    The half-width may be null, for a single episode, and becomes nan. The mean of a squared error
    may be null, if tasks diverged, and becomes infinite.
    """
    value = _value(record["metrics"], f"{metric}.{part}", int | float | None)
    if value is None and part == "ci95":
        return math.nan
    if value is None and is_error(metric):
        return math.inf
    if value is None or not math.isfinite(value):
        raise ValueError(f"{part} of {metric} is {value}")
    return float(value)
