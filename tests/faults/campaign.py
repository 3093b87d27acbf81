"""The list of faults of a seed, trying them one after the other, and the figures."""

import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults import (
    clocks,
    damage,
    disks,
    fetches,
    inputs,
    kills,
    permissions,
    stops,
    sweeps,
    tables,
)
from tests.faults.fault import BAD, Fault, Outcome
from tests.faults.results import Results, failures, reasons_skipped, table

PARTS = (kills, tables, sweeps, fetches, stops, disks, permissions, clocks, damage, inputs)
NAMES = [part.__name__.rpartition(".")[2] for part in PARTS]
Attempt = Callable[[Fault, Any], Outcome]


def faults_of(seed: int, parts: list[str]) -> list[Fault]:
    """The faults of a seed, the parts evenly mixed, so that a short campaign has some of each."""
    placed = []
    for number, (name, part) in enumerate(zip(NAMES, PARTS, strict=True)):
        if name in parts:
            found = part.faults(np.random.default_rng([seed, number]))
            placed += [((i + 0.5) / len(found), fault) for i, fault in enumerate(found)]
    return [fault for _, fault in sorted(placed, key=lambda each: each[0])]


def carry_out(
    faults: list[Fault],
    attempts: Mapping[str, Attempt],
    results: Results,
    world: Any,
    minutes: float,
) -> int:
    """Try what was not tried yet, for so many minutes; returns how many are left."""
    end = time.monotonic() + 60 * minutes
    left = [fault for fault in faults if not results.known(fault)]
    for number, fault in enumerate(left):
        if time.monotonic() > end:
            return len(left) - number
        started = time.monotonic()
        shutil.rmtree(world.folder / "tried", ignore_errors=True)
        outcome = attempts[fault.part](fault, world)
        row = results.add(fault, outcome, time.monotonic() - started)
        words = ", ".join(outcome.results) or "nothing came of it"
        print(f"[{number + 1}/{len(left)}] {fault.part} {fault.name}: {words}", flush=True)
        if failures([row]):
            print(f"  {outcome.said}", flush=True)
            _keep(world.folder, len(results.rows))
    return 0


def _keep(folder: Path, number: int) -> None:
    """Keep the folder in which something failed."""
    if (folder / "tried").exists():
        shutil.move(folder / "tried", folder / f"failed-{number}")


def report(results: Results, left: int, parts: list[str]) -> int:
    """Print the figures; returns 1 where something was lost, unequal or a traceback."""
    rows = [row for row in results.rows if row["part"] in parts]
    print(f"\n{table(rows, parts)}\n")
    minutes = sum(row["seconds"] for row in rows) / 60
    print(f"{len(rows)} faults in {minutes:.0f} minutes, {left} left; {results.path}")
    for reason in reasons_skipped(rows):
        print(reason)
    for row in failures(rows):
        words = ", ".join(word for word in row["results"] if word in BAD)
        print(f"{words}: {row['part']} {row['name']}: {row['said']}")
    return int(bool(failures(rows)))
