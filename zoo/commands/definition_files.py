"""Reads the YAML files of reports/: ablations, studies, campaigns and papers' tables."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.files import read_yaml
from zoo.values import shown

REPORTS = Path(__file__).parent.parent / "reports"


def read_definition(
    folder: str, name: str, what: str, keys: Mapping[str, type], **defaults: Any
) -> tuple[Path, dict[str, Any]]:
    """Read one of our definition files by its name, or the user's own by its path.

    Args:
        folder: the folder of our files, below reports/.
        name: one of our files without its ending, or a path that ends in .yaml.
        what: what the file defines, for messages.
        keys: all keys that the file must have, with their types.
        **defaults: values of the keys that may be left out.

    Returns:
        The file's path and its content.

    Raises:
        UsageError: there is no such file, it cannot be read, or a key is missing, unknown or has a
            value of another type.
    """
    path = Path(name) if name.endswith(".yaml") else REPORTS / folder / f"{name}.yaml"
    if not os.path.exists(path):  # unlike Path.exists, also False for a name that is too long
        names = ", ".join(sorted(path.stem for path in (REPORTS / folder).glob("*.yaml")))
        raise UsageError(f"no {what} {shown(name)}: there are {names}; or name a file")
    content = read_yaml(path, str(path))
    if isinstance(content, dict):
        content = {**defaults, **content}
    if not isinstance(content, dict) or content.keys() != keys.keys():
        raise UsageError(f"{path}: expected {', '.join(keys)}")
    for key, expected in keys.items():
        if not isinstance(content[key], expected):
            raise UsageError(f"{path}: {key}: expected {expected.__name__}, not {content[key]!r}")
    return path, content
