"""When two runs are the same run: on any machine, and after code has gained more settings."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.files import slug
from zoo.learner import Learner
from zoo.reports.records import MACHINE_SETTINGS
from zoo.runs.settings import SELECTORS, SETTINGS_ADDED_LATER, SHARED_SETTING_NAMES
from zoo.values import format_value

HASH_BYTES = 8
LONGEST_VARIANT = 48  # characters of a file name that say which settings were changed


def later_settings(cls: type[Learner]) -> dict[str, Any]:
    """Settings that are newer than some records, each with the value that those records had."""
    settings = dict(SETTINGS_ADDED_LATER)
    for base in reversed(cls.__mro__):
        settings.update(vars(base).get("added_later", {}))
    return settings


def version_of(cls: type[Learner]) -> int:
    """The version of a learner; it rises when its own or that of a base class is raised."""
    return 1 + sum(vars(base)["version"] - 1 for base in cls.__mro__ if "version" in vars(base))


def run_identity(
    asked: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Mapping[str, str],
    stages: Mapping[str, str],
    cls: type[Learner],
    version: int,
    callbacks: Sequence[str] = (),
) -> dict[str, Any]:
    """Everything that determines a run's numbers, except the code and the machine.

    A setting that was added later is left out if it has the value that records without it had.
    Thus older records remain the records of the same run.

    Args:
        asked: learner, benchmark, way (None in regression), shot, terms, budget and seed.
        settings: resolved values by name.
        data: the fingerprint of the images of each split.
        stages: the hash of each stage by its name.
        cls: the learner's class.
        version: of the learner that made the numbers (see `version_of`).
        callbacks: the user's callbacks, as they may change the numbers.
    """
    later = later_settings(cls)
    kept = {
        name: value
        for name, value in sorted(settings.items())
        if name not in MACHINE_SETTINGS and not (name in later and value == later[name])
    }
    identity = {name: asked[name] for name in (*SELECTORS, "seed")}
    identity |= {"settings": kept, "data": dict(sorted(data.items()))}
    if stages:
        identity["stages"] = dict(stages)
    if version != 1:
        identity["version"] = version
    if callbacks:
        identity["callbacks"] = [*callbacks]
    return identity


def identity_of_record(record: Mapping[str, Any], cls: type[Learner]) -> dict[str, Any]:
    """The identity of the run that made a record.

    Args:
        record: as it was read from its file.
        cls: the learner's class.
    """
    identity = run_identity(
        record,
        {name: entry["value"] for name, entry in record["settings"].items()},
        record["data"]["splits"],
        {stage["name"]: stage["hash"] for stage in record.get("stages") or ()},
        cls,
        record.get("version", 1),
        record.get("callbacks", ()),
    )
    for name in ("weights_of", "trained_on"):  # a test of another run's weights has these
        if name in record:
            identity[name] = record[name]
    return identity


def check_same_run(path: Path, recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse a record that belongs to another run than the one asked for.

    Args:
        path: of the record.
        recorded: the identity of the record's run.
        asked: the identity of the run that is asked for.

    Raises:
        UsageError: they differ; the message names each difference.
    """
    if text := differences(recorded, asked):
        raise UsageError(f"{path} is of another run: {text}; move it away, and this run is made")


def differences(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """The differences of two identities of runs or stages, with both values; empty if none.

    Args:
        recorded: the identity in a file.
        asked: the identity of what is asked for.
    """
    old = _flat(json.loads(json.dumps(recorded)))
    new = _flat(json.loads(json.dumps(asked)))
    return "; ".join(
        f"{name} is {old.get(name)} there, {new.get(name)} is asked for"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    )


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity without nesting: settings by their names, other parts as ``data train``."""
    flat: dict[str, Any] = {}
    for name, value in identity.items():
        if name == "settings":
            flat.update(value)
        elif isinstance(value, Mapping):
            flat.update({f"{name} {part}": value_of_part for part, value_of_part in value.items()})
        else:
            flat[name] = value
    return flat


def run_name(identity: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    """The file name of a run: words for a reader, then a hash of its identity.

    Args:
        identity: as `run_identity` returns it.
        changed: the settings that the user changed; as many as fit are among the words, the
            learner's own first.
    """
    text = json.dumps(identity, sort_keys=True).encode()
    names = sorted(
        {*changed} - {*MACHINE_SETTINGS}, key=lambda name: (name in SHARED_SETTING_NAMES, name)
    )
    variant = ",".join(f"{name}={format_value(changed[name])}" for name in names)
    way = "" if identity["way"] is None else f"{identity['way']}w"
    words = [
        identity["learner"],
        variant[:LONGEST_VARIANT],
        identity["benchmark"],
        f"{way}{identity['shot']}s",
        identity["terms"],
        identity["budget"],
        f"s{identity['seed']}",
        hashlib.blake2b(text, digest_size=HASH_BYTES).hexdigest(),
    ]
    return slug("-".join(word for word in words if word))


def name_in_use(name: str, results: Path, runs: Path) -> str:
    """The existing name with the same hash as `name`; `name` itself if there is none.

    The words before the hash differ if a value that was given by a flag is a default today.

    Args:
        name: as `run_name` returns it.
        results: the folder of the records.
        runs: the folder of runs under way.
    """
    end = name[-2 * HASH_BYTES - 1 :]
    for folder, suffix in ((results, ".json"), (runs, "")):
        if (folder / f"{name}{suffix}").exists():
            return name
        for path in sorted(folder.glob(f"*{end}{suffix}")):
            return path.name.removesuffix(suffix)
    return name
