"""What makes a run the same run: on any machine, and with code that has more settings since."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.files import slug
from zoo.learner import Learner
from zoo.reports.records import MACHINE_SETTINGS
from zoo.runs.settings import SELECTORS, SETTINGS_ADDED_LATER, SHARED_SETTING_NAMES
from zoo.values import format_value

HASH_BYTES = 8
LONGEST_VARIANT = 48  # characters of a file name that say what was changed


def later_settings(cls: type[Learner]) -> dict[str, Any]:
    """Settings that are newer than some records, each with the value that those records had."""
    found = dict(SETTINGS_ADDED_LATER)
    for each in reversed(cls.__mro__):
        found.update(vars(each).get("added_later", {}))
    return found


def version_of(cls: type[Learner]) -> int:
    """The version of a learner: its own, raised by that of every learner it is made of."""
    return 1 + sum(vars(each)["version"] - 1 for each in cls.__mro__ if "version" in vars(each))


def run_identity(
    asked: Mapping[str, Any],
    settings: Mapping[str, Any],
    data: Mapping[str, str],
    stages: Mapping[str, str],
    cls: type[Learner],
    version: int,
    callbacks: Sequence[str] = (),
) -> dict[str, Any]:
    """All that a run's numbers follow from, but the code and the machine.

    A setting that was added later is left out at the value that records without it had, so that
    those records stay the records of this run.

    Args:
        asked: learner, benchmark, way (None in regression), shot, terms, budget and seed.
        settings: resolved, name to value.
        data: fingerprint of the images of each split.
        stages: hash of each stage, by its name.
        cls: of the learner.
        version: of the learner that the numbers are of (see `version_of`).
        callbacks: that the user had besides; what they do may change the numbers.
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
    """The identity of the run that a record is of.

    Args:
        record: as it was read from its file.
        cls: of its learner.
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
    tested = ("weights_of", "trained_on")  # of a test of another run's weights
    return identity | {name: record[name] for name in tested if name in record}


def check_same_run(path: Path, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse a record that is of another run than the one asked for.

    Args:
        path: of the record.
        there: its identity.
        asked: the identity of the run that is asked for.

    Raises:
        UsageError: names each difference.
    """
    if said := differences(there, asked):
        raise UsageError(f"{path} is of another run: {said}; move it away, and this run is made")


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """In what two identities, of runs or of stages, differ: both values of each; empty if alike.

    Args:
        there: of what was found.
        asked: of what is asked for.
    """
    old, new = (dict(_flat(json.loads(json.dumps(each)))) for each in (there, asked))
    return "; ".join(
        f"{name} is {old.get(name)} there, {new.get(name)} is asked for"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    )


def _flat(identity: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of one level: a setting by its own name, data by that of its split."""
    for name, value in identity.items():
        if name == "settings":
            yield from value.items()
        elif isinstance(value, Mapping):
            yield from ((f"{name} {part}", each) for part, each in value.items())
        else:
            yield name, value


def run_name(identity: Mapping[str, Any], changed: Mapping[str, Any]) -> str:
    """The file name of a run: words for a reader, then a hash of its identity.

    Args:
        identity: as `run_identity` has it.
        changed: settings that the user changed; as many as find room become part of the words,
            the learner's own first.
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
    """The name that a run has already: one with the same hash, whatever its words; else `name`.

    The words differ where a value that was once given by a flag has become a default since.

    Args:
        name: as `run_name` has it.
        results: folder of the records.
        runs: folder of what is under way.
    """
    end = name[-2 * HASH_BYTES - 1 :]
    for folder, suffix in ((results, ".json"), (runs, "")):
        if (folder / f"{name}{suffix}").exists():
            return name
        for path in sorted(folder.glob(f"*{end}{suffix}")):
            return path.name.removesuffix(suffix)
    return name
