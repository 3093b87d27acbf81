"""One contestant at work, in a process and an environment of its own.

`python -m tests.bench.worker REQUEST ANSWER` reads the one file and writes the other. Only the
standard library, numpy and the contestant are imported.
"""

import importlib.metadata
import json
import math
import os
import runpy
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from tests.bench.problem import read_problem

ROOT = Path(__file__).parent.parent.parent
SAMPLING = 0.01  # seconds
SECONDS = 6.0  # that a sample takes at least, a step at least


class Request(TypedDict):
    """What to do."""

    name: str  # of the contestant's file
    order: str  # second, first, test
    problem: str  # an .npz of weights and tasks
    tasks: int  # as many of the problem's tasks as these, the first ones
    steps: int
    lr: float
    threads: int
    tuned: bool  # whether under our allocator settings
    gradient: str | None  # where the check's result goes; None: time it


def tune() -> None:
    """Our allocator settings, by the file that has them: nothing else of the zoo is loaded."""
    runpy.run_path(str(ROOT / "zoo" / "runs" / "tune_cpu.py"))["tune_cpu"]()


def prepare(request: Request) -> Callable[[], dict[str, Any]]:
    """The contestant's step."""
    path = Path(request["problem"])
    problem = read_problem(path, request["tasks"], request["steps"], request["lr"])
    if request["tuned"]:
        tune()
    contestant = importlib.import_module(f"tests.bench.peers.{request['name']}")
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(request["threads"])
    else:
        contestant.bind_to_cores(request["threads"])
    return contestant.prepare(problem, request["order"])


def anonymous_megabytes() -> float:
    """Memory of this process that no file stands behind; nan where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return sum(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1.024e-3


def busy_seconds() -> float:
    """CPU seconds that all processes of this machine have used; nan where it does not say."""
    try:
        ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:8]]
    except (OSError, ValueError):
        return float("nan")
    user, nice, system, _idle, _waiting, *interrupts = ticks
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def timed(step: Callable[[], Any], seconds: float = SECONDS) -> dict[str, float | None]:
    """Seconds of a step, the mean of a few, and the peak of this process's anonymous memory.

    The peak is the largest of the sizes seen every ten milliseconds. The interpreter, the
    library, the weights and the data are in it, and what the allocator keeps. ``others`` is how
    many cores other processes took meanwhile.
    """
    sizes, done = [anonymous_megabytes()], threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLING):
            sizes.append(anonymous_megabytes())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    busy, cpu, start, steps = busy_seconds(), time.process_time(), time.perf_counter(), 0
    while not steps or time.perf_counter() - start < seconds:
        step()
        steps += 1
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    others = (busy_seconds() - busy - cpu) / wall
    done.set()
    watcher.join()
    found = {
        "seconds": wall / steps, "cpu_seconds": cpu / steps, "others": others,
        "megabytes": max(sizes),
    }  # fmt: skip
    return {name: None if math.isnan(number) else number for name, number in found.items()}


def answer(request: Request) -> dict[str, Any]:
    """Check or time, as the request says."""
    step = prepare(request)
    if request["gradient"]:
        np.savez(request["gradient"], **{name: np.asarray(array) for name, array in step().items()})
        versions = {d.name: d.version for d in importlib.metadata.distributions() if d.name}
        return {"versions": dict(sorted(versions.items())), "python": sys.version.split()[0]}
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    return {"first_seconds": first, **timed(step)}


if __name__ == "__main__":
    content = answer(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(content))
