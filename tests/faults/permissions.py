"""Folders and files that the user who works may not write or read."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.faults.commands import QUICK, RUNS, World, begin
from tests.faults.fault import Fault, Outcome, joined, judged_line, skipped
from tests.support.processes import ROOT

COUNT = 24
NOBODY = 65534
KINDS: dict[str, Callable[[Path], list[Path]]] = {  # what is forbidden, once a run was there
    "results not to be written": lambda folder: [folder / "results"],
    "runs not to be written": lambda folder: [folder / "runs"],
    "a run's folder not to be written": lambda folder: [*(folder / "runs").glob("*-*")],
    "a record not to be read": lambda folder: [*(folder / "results").glob("*.json")],
    "weights not to be read": lambda folder: [*(folder / "results").glob("*.safetensors")],
    "the folder above not to be written": lambda folder: [folder],
}


def faults(rng: np.random.Generator) -> list[Fault]:
    """Each kind with a run that is done, and with one of another seed beside it."""
    found = []
    for number in range(COUNT):
        kind = list(KINDS)[number % len(KINDS)]
        run, same = str(rng.choice(QUICK)), bool(number // len(KINDS) % 2)
        words = "the same run" if same else "another run"
        how = {"kind": kind, "run": run, "same": same}
        found.append(Fault("permissions", f"{number}: {kind}, {words}, {run}", how))
    return found


def attempt(fault: Fault, world: World) -> Outcome:
    """Let a run be there, forbid, give a command as another user, allow, give it again."""
    folder, log = world.place("tried/r"), world.folder / "tried" / "log"
    shutil.chown(folder.parent, NOBODY, NOBODY)
    shutil.chown(folder, NOBODY, NOBODY)
    if why := _not_possible(folder):
        return skipped(why)

    def become_nobody() -> None:
        os.environ["HOME"] = str(folder.parent)
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    done = ["run", *RUNS[fault.how["run"]]]
    words = done if fault.how["same"] else [*done, "--seed", 1]
    begin(done, folder, log, become_nobody).wait()
    modes = {path: path.stat().st_mode for path in KINDS[fault.how["kind"]](folder)}
    for path in modes:
        os.chown(path, 0, 0)
        path.chmod(0o555 if path.is_dir() else 0)
    ended = begin(words, folder, log, become_nobody).wait()
    for path, mode in modes.items():
        os.chown(path, NOBODY, NOBODY)
        path.chmod(mode)
    first = Outcome((), "it needs none of it") if ended.status == 0 else judged_line(ended)
    return joined(first, world.ends_equal(words, folder, done))


def _not_possible(folder: Path) -> str:
    """Why a command cannot be given here as another user; nothing where it can."""
    if os.geteuid() != 0:
        return "only root may become another user"
    pid = os.fork()
    if pid == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        reached = os.access(ROOT / "setup.cfg", os.R_OK) and os.access(folder, os.W_OK)
        os._exit(0 if reached else 1)
    if os.waitpid(pid, 0)[1]:
        return "another user may not reach the checkout, or the campaign's folder"
    return ""
