"""A campaign of faults: kills, stops, full disks, wrong clocks, damaged files and bad input.

``make faults`` tries hundreds of faults against commands of the zoo, and looks at what comes of
them: whether the same command, given again, ends with the numbers of an undisturbed run, bit for
bit; whether finished work was kept; whether what cannot be done is said in one line. The faults
follow from the seed. What came of each is a line in a file of OUT; the same command goes on behind
the last one. Each file of this folder is a part: what it tries, its docstring says.
"""

import argparse
import contextlib
import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ["ZOO_SECONDS_BETWEEN_SAVES"] = "0.1"  # before the zoo is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["http_proxy"] = os.environ["https_proxy"] = "http://127.0.0.1:9"  # nothing is downloaded
os.environ["no_proxy"] = "127.0.0.1,localhost"

import numpy as np

from tests.conftest import heed_signals
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
from tests.faults.commands import World, begin
from tests.faults.fault import BAD, Fault, Outcome
from tests.faults.results import Results, failures, reasons_skipped, table
from zoo.registry import benchmarks, learners

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


def main() -> int:
    """Try the faults of a seed; see the top of the file."""
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0, help="of the list of faults (0)")
    parser.add_argument("--minutes", type=float, default=60, help="begin no fault later (60)")
    parser.add_argument("--parts", nargs="+", choices=NAMES, default=NAMES, metavar="PART",
                        help=", ".join(NAMES))  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("build/faults"),
                        help="folder of the results (build/faults)")  # fmt: skip
    options = parser.parse_args()
    heed_signals()
    results = Results(options.out, options.seed)
    world = World(options.out)
    import_all(world.place("imports"))
    attempts = {name: part.attempt for name, part in zip(NAMES, PARTS, strict=True)}
    faults = faults_of(options.seed, options.parts)
    left = carry_out(faults, attempts, results, world, options.minutes)
    return report(results, left, options.parts)


def import_all(folder: Path) -> None:
    """Import what commands import when they are called, so that forked ones need not."""
    names = folder / "imported"
    words = ["sweep", "glyphs", "--learners", "protonet", "--shots", "1", "--ways", "5"]
    begin(
        [*words, "--budget", "smoke"], folder, folder / "log", lambda: _list_imports(names)
    ).wait()
    for name in names.read_text().split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for register in (learners, benchmarks):
        for key in register.names():
            register.get(key)


def _list_imports(into: Path) -> None:
    """Write the names of all modules into a file when a forked command ends."""
    end = os._exit

    def list_and_end(status: int) -> None:
        into.write_text(" ".join(name for name in sys.modules if name != "__main__"))
        end(status)

    os._exit = list_and_end


if __name__ == "__main__":
    sys.exit(main())
