"""What a run is made with: code, versions and device; and Lightning's remarks and exits."""

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

# What git compares with the commit: all code, and the settings, but no results beside them.
SOURCES = (":/*.py", ":/*.yaml", ":(top,exclude)results", ":(top,exclude)runs")


def environment(kind: str) -> dict[str, Any]:
    """Commit, device and versions, as the record has them.

    If there is no commit, as in an installed copy, ``code`` is a hash of the code instead.

    Args:
        kind: of the device, cpu or cuda.
    """
    head, dirty = commit()
    made_with: dict[str, Any] = {"commit": head, "dirty": dirty}
    if not head:
        made_with["code"] = code_hash()
    made_with["device"] = kind
    made_with["device_name"] = device_name(kind)
    made_with["python"] = platform.python_version()
    made_with["zoo"] = zoo_version()
    for package in ("torch", "pytorch-lightning", "numpy"):
        made_with[package] = version(package)
    return made_with


def code_of(made_with: dict[str, Any]) -> str:
    """What identifies the code of an environment: its commit or, without one, its hash."""
    return made_with["commit"] or made_with["code"]


def commit() -> tuple[str | None, bool | None]:
    """The checkout's commit, and whether files differ from it.

    A checkout without git, or without a commit of its own, gives (None, True). An installed copy
    gives (None, None), even if it lies inside some other repository.
    """
    root = checkout_root()
    if root is None:
        return None, None
    this_file = "zoo/runs/environment.py"
    try:
        tracked_as, head, status = (
            subprocess.run(
                ["git", *words], cwd=root, capture_output=True, text=True, check=True
            ).stdout.strip()
            for words in (
                ["ls-files", "--full-name", "--error-unmatch", "--", this_file],
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--", *SOURCES],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None, True
    if tracked_as != this_file:  # the checkout lies in a folder of another repository
        return None, True
    return head, bool(status)


def device_name(kind: str) -> str:
    """The name of the GPU, or of the processor with its number of cores."""
    if kind == "cuda":
        return torch.cuda.get_device_name()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({os.cpu_count()} cores)"
    return f"{platform.machine()} ({os.cpu_count()} cores)"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Lightning's remarks, which are about what we decided on purpose."""
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
    """Undo Lightning's own handling of signals that stop a program.

    Lightning turns Ctrl-C into sys.exit(1), which looks like a failure; here it is raised again. It
    turns SIGTERM, unless a handler is set as the command line does, into an exit with status 0,
    which looks like success; here the status is 143.

    Raises:
        KeyboardInterrupt: Ctrl-C came, or another signal that the command line raises so.
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
