"""What a run was made with: code, versions, device; and how quiet it is while it is made."""

import contextlib
import logging
import os
import platform
import signal
import subprocess
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from zoo.origin import checkout_root, code_hash, zoo_version


def environment(kind: str) -> dict[str, Any]:
    """Commit, device and versions, for the record; `kind` is cpu or cuda.

    Where there is no commit, as in an installed copy, ``code`` has the hash of the code instead.
    """
    head, dirty = commit()
    return {
        "commit": head,
        "dirty": dirty,
        **({} if head else {"code": code_hash()}),
        "device": kind,
        "device_name": device_name(kind),
        "python": platform.python_version(),
        "zoo": zoo_version(),
        **{package: version(package) for package in ("torch", "pytorch-lightning", "numpy")},
    }


def code_of(made_with: dict[str, Any]) -> str:
    """The one word for the code that an environment names: its commit, or else its hash."""
    return made_with["commit"] or made_with["code"]


def commit() -> tuple[str | None, bool | None]:
    """The checkout's commit, and whether files differ from it.

    A checkout without git, or without a commit of its own, gives (None, True). An installed copy
    gives (None, None), also where it lies inside some other repository.
    """
    root = checkout_root()
    if root is None:
        return None, None
    this = "zoo/runs/environment.py"
    try:
        tracked_as, head, status = (
            subprocess.run(
                ["git", *words], cwd=root, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (
                ["ls-files", "--full-name", "--error-unmatch", "--", this],
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--", ":/*.py", ":/*.yaml"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None, True
    if tracked_as != this:  # the checkout lies in a folder of another repository
        return None, True
    return head, bool(status)


def device_name(kind: str) -> str:
    """What the computing was done on."""
    if kind == "cuda":
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({os.cpu_count()} cores)"
    return f"{platform.machine()} ({os.cpu_count()} cores)"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's remarks on what we decided on purpose."""
    logs = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        try:
            yield
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let signals to stop through, which Lightning turns into exits of its own.

    Ctrl-C becomes sys.exit(1), which would read as a failure. SIGTERM, where nobody handles it (the
    command line does), becomes an exit with status 0, which would read as success; it is 143 here.

    Raises:
        KeyboardInterrupt: the one that came.
        SystemExit: SIGTERM came.
    """
    try:
        yield
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise
