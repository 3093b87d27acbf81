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
import sys
from pathlib import Path

os.environ["ZOO_SECONDS_BETWEEN_SAVES"] = "0.1"  # before the zoo is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["http_proxy"] = os.environ["https_proxy"] = "http://127.0.0.1:9"  # nothing is downloaded
os.environ["no_proxy"] = "127.0.0.1,localhost"

from tests.conftest import heed_signals
from tests.faults.campaign import NAMES, PARTS, carry_out, faults_of, report
from tests.faults.commands import World, begin
from tests.faults.results import Results
from zoo.registry import benchmarks, learners


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
