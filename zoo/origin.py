"""Which code is running: a checkout or an installed copy, its version and its hash."""

import configparser
import hashlib
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
DISTRIBUTION = "meta-learning-zoo"  # what pip calls us


def checkout_root(package: Path = PACKAGE) -> Path | None:
    """The folder of the checkout that this code is imported from; None for an installed copy.

    In a checkout, zoo/baselines is a link to the folder baselines/ beside zoo/; in an installed
    copy it is a folder. After ``pip install -e`` the code is still the checkout's.

    Args:
        package: the folder `zoo`, with links followed.
    """
    root = package.parent
    baselines = root / "baselines"
    linked = baselines.is_dir() and (package / "baselines").resolve() == baselines.resolve()
    return root if linked and (root / "setup.cfg").is_file() else None


def zoo_version() -> str:
    """The version, from the checkout's setup.cfg or else from pip.

    The checkout's file comes first, because pip may have installed another copy. It is "unknown"
    for a folder `zoo` that somebody copied by hand.
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
    """SHA-256 of the names and contents of all .py and .yaml files below `zoo`.

    A checkout and a copy installed from it have the same.

    Args:
        package: the folder `zoo`; links in it are followed.
    """
    files = {}
    for folder, _, names in os.walk(package, followlinks=True):
        for name in names:
            if name.endswith((".py", ".yaml")):
                path = Path(folder, name)
                files[path.relative_to(package).as_posix()] = path
    digest = hashlib.sha256()
    for name in sorted(files):
        content = files[name].read_bytes()
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
