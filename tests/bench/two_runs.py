"""Two trainings: one after the other on two threads, or both at once on one thread each.

`python -m tests.bench.two_runs [ROUNDS]` prints a table by learner and image size: the seconds that
two trainings of the same length take either way, and their ratio. Each training is a process of its
own; the clock runs once all have started and have their images. Images are random. For a quiet
machine: two threads beside other work take several times as long.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

from zoo.reports.published import counted

ROUNDS = 3


class Case(NamedTuple):
    """What is trained: a learner of a family, at an image size, for some updates."""

    family: str
    learner: str
    shape: tuple[int, ...]  # classes, images a class, C, H, W
    updates: int

    @property
    def name(self) -> str:
        """``maml, 84x84``."""
        return f"{self.learner}, {self.shape[-1]}x{self.shape[-1]}"


SMALL, MIDDLE, LARGE = (80, 20, 1, 28, 28), (64, 40, 3, 32, 32), (64, 40, 3, 84, 84)
CASES = [
    Case("metric", "protonet", SMALL, 40),
    Case("metric", "protonet", MIDDLE, 20),
    Case("metric", "protonet", LARGE, 5),
    Case("gradient", "maml", SMALL, 30),
    Case("gradient", "maml", MIDDLE, 20),
    Case("gradient", "maml", LARGE, 5),
    Case("first order", "reptile", SMALL, 60),
    Case("first order", "reptile", MIDDLE, 40),
    Case("first order", "reptile", LARGE, 10),
    Case("sequence", "snail", SMALL, 15),
    Case("sequence", "snail", MIDDLE, 6),
]


def train(case: Case, threads: int) -> None:
    """Set a training up, say so, and train when a line comes on stdin. For a process of its own."""
    from tests.bench.runs import a_run
    from zoo.runs.checkpoints import CheckpointKeeper
    from zoo.runs.environment import quiet
    from zoo.runs.tune_cpu import tune_cpu

    tune_cpu()
    import torch

    def once(updates: int) -> None:
        flags = {"updates": updates, "meta_batch": 4, "train_way": 5, "train_query": 5}
        flags |= {"validations": 1, "val_episodes": 1}
        run = a_run(case.learner, case.shape, flags)
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder, quiet():
            run.train(Path(folder), CheckpointKeeper(Path(folder), "val/accuracy", None), False)

    once(1)
    print("ready", flush=True)
    sys.stdin.readline()
    once(case.updates)
    print("done", flush=True)


def seconds(case: Case, threads: int, at_once: int) -> float:
    """Seconds that two trainings take, this many at once."""
    command = [sys.executable, "-m", "tests.bench.two_runs", str(CASES.index(case)), str(threads)]
    total = 0.0
    for _ in range(2 // at_once):
        children = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(at_once)
        ]
        wait_until(children, "ready")
        start = time.perf_counter()
        for child in children:
            assert child.stdin
            child.stdin.write("\n")
            child.stdin.flush()
        wait_until(children, "done")
        total += time.perf_counter() - start
        for child in children:
            child.communicate()
    return total


def wait_until(children: Sequence["subprocess.Popen[str]"], word: str) -> None:
    """Wait until each has said this.

    Raises:
        RuntimeError: one ended before it did.
    """
    for child in children:
        assert child.stdout
        for line in child.stdout:
            if line.strip() == word:
                break
        else:
            raise RuntimeError(f"a training ended before it was {word}")


def main(rounds: int) -> None:
    """Measure both ways in turn, and print the best round of each."""
    from zoo.runs.environment import device_name

    rows = []
    for case in CASES:
        one_by_one, at_once = [], []
        for _ in range(rounds):
            one_by_one.append(seconds(case, threads=2, at_once=1))
            at_once.append(seconds(case, threads=1, at_once=2))
        first, second = min(one_by_one), min(at_once)
        rows.append([case.family, case.name, first, second, second / first])
        print(f"{case.name}: {first:.1f} s, {second:.1f} s", file=sys.stderr, flush=True)
    heads = ["family", "learner", "2 threads, in turn, s", "1 thread each, at once, s", "ratio"]
    print(tabulate(rows, heads, tablefmt="github", floatfmt=".2f"))
    where = f"{device_name('cpu')}, best of {counted(rounds, 'round', 'rounds')}"
    print(f"\nMade by `python -m tests.bench.two_runs {rounds}` on {where}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        train(CASES[int(sys.argv[1])], int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else ROUNDS)
