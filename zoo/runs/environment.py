"""What a run was made with: code, versions, device; and how quiet it is while it is made."""

import contextlib
import logging
import os
import platform
import subprocess
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


def environment(kind: str) -> dict[str, Any]:
    """Commit, device and versions, for the record; `kind` is cpu or cuda."""
    head, dirty = commit()
    return {
        "commit": head,
        "dirty": dirty,
        "device": kind,
        "device_name": device_name(kind),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "pytorch-lightning", "numpy")},
    }


def commit() -> tuple[str | None, bool]:
    """The checkout's commit, and whether files differ from it; (None, True) without git."""
    try:
        head, status = (
            subprocess.run(
                ["git", *words],
                cwd=Path(__file__).parent,
                capture_output=True,
                text=True,
                check=True,
            ).stdout.strip()
            for words in (
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--", ":/*.py", ":/*.yaml"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
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
    log = logging.getLogger("pytorch_lightning")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
        try:
            yield
        finally:
            log.setLevel(level)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C through; Lightning turns it into sys.exit(1), which would read as a failure."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
