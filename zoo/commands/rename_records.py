"""The command ``zoo rename-records``: gives records that earlier code made today's names."""

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
    """Rename the records of a folder; returns 1 if one had to stay as it is, else 0."""
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
    """Give every record of a folder of results the name that its run has today.

    A record keeps all that it holds but its name and its checksum. A kill in the middle loses
    nothing: the same again goes on.

    Returns:
        New names by old; and by the name of a record that stays why it does.
    """
    renamed: dict[str, str] = {}
    kept: dict[str, str] = {}
    for path in record_paths(folder):
        try:
            record = parse_record(path.read_bytes())
            old, new = record["run"], name_today(record, renamed)
            if checksum_state(record) == BROKEN:
                raise UsageError("was edited since it was made: its checksum does not hold")
            if old != new:
                rename_record(path, record, new, renamed)
                renamed[old] = new
        except UsageError as error:
            kept[path.name] = str(error)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            kept[path.name] = "is no record of a run"
    return renamed, kept


def record_paths(folder: Path) -> list[Path]:
    """The files of a folder of results that may be records."""
    folders = (folder, folder / SWEEP_FOLDER, folder / TESTED_FOLDER)
    return [path for each in folders for path in sorted(each.glob("*.json"))]


def name_today(record: Mapping[str, Any], renamed: Mapping[str, str]) -> str:
    """The name of the run that a record is of.

    Args:
        record: as it was read.
        renamed: new names by old, of the records that may be named as its `weights_of`.

    Raises:
        UsageError: its learner is not known here.
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
    """Write a record, what it measured and its weights under another name; remove the old files.

    Raises:
        UsageError: another record has that name; the first of two stays.
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
        there = parse_record(target.read_bytes())
        if {**there, "checksum": None} != {**content, "checksum": None}:
            raise UsageError(f"{target.name} is of the same run, and was there first")
        print(f"  {path.name} holds the same as {target.name} and is removed")
    beside = [path.with_suffix(".npz"), weights]
    for old in beside:
        if old.exists():
            write_bytes(path.with_name(f"{new}{old.suffix}"), old.read_bytes())
    write_record(target, content)
    path.unlink()
    for old in beside:
        old.unlink(missing_ok=True)
