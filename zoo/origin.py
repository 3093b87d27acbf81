"""Which code this is: that of a checkout or of an installed copy, its version, its hash."""

import configparser
import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
DISTRIBUTION = "meta-learning-zoo"  # what pip calls us


def checkout_root(package: Path = PACKAGE) -> Path | None:
    """The folder of the checkout that this code is imported from; None for an installed copy.

    In a checkout, zoo/baselines is a link to the folder baselines/ beside zoo/. An installed copy
    has a folder of its own there. After ``pip install -e`` the code is still the checkout's.

    Args:
        package: the folder `zoo`, with links followed.
    """
    beside = package.parent / "baselines"
    linked = (package / "baselines").resolve() == beside.resolve() and beside.is_dir()
    return package.parent if linked and (package.parent / "setup.cfg").is_file() else None


def zoo_version() -> str:
    """The version: as setup.cfg of the checkout has it, or as pip installed it.

    A checkout's own file goes first: pip may know of another copy. "unknown" is said of a folder
    `zoo` that was copied from somewhere by hand.
    """
    if (root := checkout_root()) is not None:
        settings = configparser.ConfigParser(interpolation=None)
        settings.read(root / "setup.cfg", encoding="utf-8")
        return settings["metadata"]["version"]
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def code_hash(package: Path = PACKAGE) -> str:
    """SHA-256 of all code and settings below `zoo`: names and contents of .py and .yaml files.

    It is the same in a checkout and in what is installed from it.

    Args:
        package: the folder `zoo`; links in it are followed.
    """
    found = {}
    for folder, _, names in os.walk(package, followlinks=True):
        for name in names:
            if name.endswith((".py", ".yaml")):
                path = Path(folder, name)
                found[path.relative_to(package).as_posix()] = path
    total = hashlib.sha256()
    for name in sorted(found):
        content = found[name].read_bytes()
        total.update(f"{name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()
