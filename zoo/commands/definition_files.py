"""What small files of reports/ declare: the rows of an ablation, the pairs of a study, a table."""

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
    """The file of that name, or one of one's own, and what it holds.

    Args:
        folder: below reports/.
        name: without its ending; or the path of a file that ends in .yaml.
        what: the kind of thing, for messages.
        keys: all that it must have, with their types.
        **defaults: of keys that may be left out.

    Raises:
        UsageError: there is none, it cannot be read, or a key is missing, unknown or of another
            type.
    """
    path = Path(name) if name.endswith(".yaml") else REPORTS / folder / f"{name}.yaml"
    if not os.path.exists(path):  # False of a name too long for a file, too
        known = ", ".join(sorted(path.stem for path in (REPORTS / folder).glob("*.yaml")))
        raise UsageError(f"no {what} {shown(name)}: there are {known}; or name a file")
    content = read_yaml(path, str(path))
    if isinstance(content, dict):
        content = {**defaults, **content}
    if not isinstance(content, dict) or content.keys() != keys.keys():
        raise UsageError(f"{path}: expected {', '.join(keys)}")
    for key, kind in keys.items():
        if not isinstance(content[key], kind):
            raise UsageError(f"{path}: {key}: expected {kind.__name__}, not {content[key]!r}")
    return path, content
