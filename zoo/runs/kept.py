"""What lies below runs/stages: finished stages, read and compared with what is asked for."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.runs.protocol import PRETRAIN

STAGE_SCHEMA = 1  # of stage.json


def read_stage(folder: Path) -> dict[str, Any] | None:
    """What is kept of a finished stage; None where there is none.

    Raises:
        UsageError: the file is damaged, or of another version of the zoo.
    """
    path = folder / "stage.json"
    try:
        kept = json.loads(path.read_text())
        if kept["schema"] == STAGE_SCHEMA:
            return dict(kept)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError(f"{path} is no stage of this version of the zoo: delete the folder")


def named_stage(runs: Path, name: str) -> dict[str, Any]:
    """What is kept of the pre-training of this name.

    Raises:
        UsageError: there is none; says which there are.
    """
    if name == Path(name).name:
        kept = read_stage(runs / "stages" / name)
        if kept is not None and kept["name"] == PRETRAIN:
            return kept
    folders = [path.parent for path in (runs / "stages").glob("*/stage.json")]
    there = sorted(
        path.name for path in folders if (read_stage(path) or {}).get("name") == PRETRAIN
    )
    known = f"there are {', '.join(there)}" if there else "there is none"
    raise UsageError(f"--pretrained_from {name}: no such stage below {runs / 'stages'}; {known}")


def check_stage_fits(folder: Path, kept: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse a stage that was made as another than the one asked for.

    Raises:
        UsageError: shows both settings of each difference.
    """
    if kept == asked:
        return
    there, here = dict(flat_settings(kept)), dict(flat_settings(asked))
    said = [
        f"{name} is {there.get(name)} there, {here.get(name)} is asked for"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    raise UsageError(f"the stage in {folder} does not fit: {'; '.join(said)}")


def flat_settings(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Nested mappings as one, each value by its own name or, of data, by its split's."""
    for name, value in content.items():
        if name == "settings":
            yield from value.items()
        elif isinstance(value, Mapping):
            yield from ((f"{name} {key}", part) for key, part in value.items())
        else:
            yield name, value
