"""An environment for each contestant, below `.bench/`: made once, made anew when its list changes.

torch has the version of constraints.txt everywhere. What pip said is in `.bench/NAME.log`.
"""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / ".bench"


class InstallError(Exception):
    """A contestant's environment could not be made; one line."""


def pip(python: Path, log: Path, arguments: Sequence[str]) -> None:
    """Run pip in an environment.

    Raises:
        InstallError: pip failed.
    """
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    with log.open("ab") as file:
        status = subprocess.run(command, stdout=file, stderr=file, check=False).returncode
    if status:
        wanted = next((a for a in reversed(arguments) if "==" in a), arguments[-1])
        raise InstallError(f"could not install {wanted}: see .bench/{log.name}")


def unpack(python: Path, log: Path, requirement: str) -> None:
    """Put a source distribution's packages into an environment as they are, nothing compiled."""
    places = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        only_source = ("--no-deps", "--no-binary", ":all:", "-d", folder)
        pip(python, log, ["download", *only_source, requirement])
        (archive,) = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as file:
            file.extractall(folder, filter="data")
        name = requirement.partition("==")[0]
        for part in (name, f"{name}.egg-info"):
            source = Path(folder) / archive.name.removesuffix(".tar.gz") / part
            shutil.copytree(source, Path(places.stdout.strip()) / part, dirs_exist_ok=True)


def python_of(name: str, contestant: ModuleType, torch_index: str | None = None) -> Path:
    """The interpreter a contestant runs under; its environment is made if need be.

    Args:
        name: of the contestant's file.
        contestant: the file as a module.
        torch_index: another place where pip may look for torch.

    Raises:
        InstallError: pip failed.
    """
    if not contestant.INSTALL:
        return Path(sys.executable)
    folder, log = FOLDER / name, FOLDER / f"{name}.log"
    python, mark = folder / "bin" / "python", folder / "ready"
    constraints = ROOT / "constraints.txt"
    unpacked = getattr(contestant, "UNPACK", None)
    wanted = json.dumps([contestant.INSTALL, unpacked, constraints.read_text(), sys.version])
    if mark.is_file() and mark.read_text() == wanted:
        return python
    print(f"{contestant.TITLE}: making .bench/{name}", file=sys.stderr, flush=True)
    FOLDER.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    venv.create(folder, clear=True, with_pip=True)
    index = ["--extra-index-url", torch_index] if torch_index else []
    for packages in contestant.INSTALL:
        pip(python, log, ["install", *index, "-c", str(constraints), *packages])
    if unpacked:
        unpack(python, log, unpacked)
    mark.write_text(wanted)
    return python
