"""The command ``zoo rename-records``: gives records of earlier code the names they have today."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.commands.sweep import SWEEP_FOLDER
from zoo.errors import UsageError
from zoo.files import write_bytes
from zoo.registry import learner_of
from zoo.reports.published import counted
from zoo.reports.records import BROKEN, checksum_state, parse_record
from zoo.runs.identity import identity_of_record, run_name
from zoo.runs.record import write_record
from zoo.runs.tested_weights import TESTED_FOLDER, name_of_test
from zoo.runs.weights import weights_path
from zoo.variants import format_variant


def rename_command(options: argparse.Namespace) -> int:
    """Rename the records in a folder; returns 1 if one could not be renamed, else 0."""
    folder: Path = options.results
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of records")
    renamed, kept = rename_records(folder)
    total = len([*record_paths(folder)])
    print(
        f"{folder}: {counted(total, 'record', 'records')}, {len(renamed)} of them renamed now, "
        f"{len(kept)} left as they are for the reasons below"
    )
    for name, why in kept.items():
        print(f"  {name}: {why}")
    return int(bool(kept))


def rename_records(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Give every record in a folder of results the name that its run has today.

    Only the name and the checksum in a record change. If the process is killed, nothing is lost:
    the next call goes on where it stopped.

    Returns:
        The new names by the old ones; and by the file names of records that keep theirs, why.
    """
    renamed: dict[str, str] = {}
    kept: dict[str, str] = {}
    for path in record_paths(folder):
        try:
            record = parse_record(path.read_bytes())
            old, new = record["run"], name_today(record, renamed)
            if checksum_state(record) == BROKEN:
                raise UsageError("was edited since it was made: its checksum does not match")
            if old != new:
                rename_record(path, record, new, renamed)
                renamed[old] = new
        except UsageError as error:
            kept[path.name] = str(error)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            kept[path.name] = "is no record of a run"
    return renamed, kept


def record_paths(folder: Path) -> list[Path]:
    """The files in a folder of results that may be records."""
    paths: list[Path] = []
    for searched in (folder, folder / SWEEP_FOLDER, folder / TESTED_FOLDER):
        paths += sorted(searched.glob("*.json"))
    return paths


def name_today(record: Mapping[str, Any], renamed: Mapping[str, str]) -> str:
    """The name that the run of a record has today.

    Args:
        record: as it was read.
        renamed: new names by old ones; the run in the record's `weights_of` may be among them.

    Raises:
        UsageError: its learner is unknown.
    """
    trained = str(record.get("weights_of", ""))
    trained = renamed.get(trained, trained)
    if trained and "trained_on" not in record:
        return f"{trained}-at-{record['way']}w{record['shot']}s"
    _, cls, _ = learner_of(format_variant(record["learner"], record["variant"]))
    if trained:
        return name_of_test(identity_of_record({**record, "weights_of": trained}, cls))
    return run_name(identity_of_record(record, cls), record["variant"])


def rename_record(
    path: Path, record: Mapping[str, Any], new: str, renamed: Mapping[str, str]
) -> None:
    """Move a record, its measured values and its weights to another name.

    Raises:
        UsageError: another record has that name already, and holds something else.
    """
    content = {key: value for key, value in record.items() if key != "checksum"}
    content["run"] = new
    if "weights_of" in record:
        content["weights_of"] = renamed.get(record["weights_of"], record["weights_of"])
    weights = weights_path(path)
    if content.get("weights"):
        content["weights"] = {**content["weights"], "file": f"{new}.safetensors"}
    target = path.with_name(f"{new}.json")
    if target.exists():
        existing = parse_record(target.read_bytes())
        if {**existing, "checksum": None} != {**content, "checksum": None}:
            raise UsageError(f"{target.name} is of the same run, and was there first")
        print(f"  {path.name} holds the same as {target.name} and is removed")
    other_files = [path.with_suffix(".npz"), weights]
    for file in other_files:
        if file.exists():
            write_bytes(path.with_name(f"{new}{file.suffix}"), file.read_bytes())
    write_record(target, content)
    path.unlink()
    for file in other_files:
        file.unlink(missing_ok=True)
