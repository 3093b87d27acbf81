"""What learners with an inner loop cost: CPU seconds of an update and of an adaptation, memory.

`make study-cost`, or `python -m tests.bench.costs [VARIANT ...]`. All learners have one network
(Conv4-64), the same four tasks (32x32 images, 5-way 5-shot, 15 queries a class), five inner steps
if that is a setting of theirs, and one thread. Each has a process of its own. What is measured is
the learner's own work, without Lightning and data. CPU seconds depend little on what else the
machine does.
"""

import subprocess
import sys
import time
from collections.abc import Sequence

from tabulate import tabulate

from tests.bench.worker import ROOT, timed
from zoo.files import write_text

ROUNDS = 5
TASKS, STEPS = 4, 5
OUT = ROOT / "results" / "bench" / "costs.md"
VARIANTS = [
    "maml[first_order=true]",
    "maml",
    "maml[memory=low]",
    "anil",
    "metasgd",
    "tnet",
    "reptile",
    "trlearner",
    "npbml[film=false,loss=none,warp=false]",
    "npbml[film=false,loss=none]",
    "npbml[film=false,loss=none,preconditioner=meta_curvature]",
    "npbml[film=false,loss=none,preconditioner=gap]",
    "npbml[film=false,loss=support,warp=false]",
    "npbml[film=false,loss=query,warp=false]",
    "npbml[film=false,loss=regulariser,warp=false]",
    "npbml[film=false,warp=false]",
    "npbml[preconditioner=post_block]",
    "npbml",
]


def measure(variant: str) -> list[float]:
    """CPU seconds of an update and of an adaptation, a task each, and megabytes of an update.

    The median of several; for a process of its own.
    """
    import statistics
    from inspect import signature

    import torch

    from tests.bench.ours import plain_step
    from tests.conftest import episode_of
    from zoo.networks.backbone import build_backbone
    from zoo.registry import learner_of

    torch.set_num_threads(1)
    _, cls, options = learner_of(variant)
    cls = cls.class_for(options)
    known = signature(cls.__init__).parameters
    same = {"inner_steps": STEPS, "test_steps": STEPS}
    options = {**{name: value for name, value in same.items() if name in known}, **options}
    image = (3, 32, 32)
    learner = cls(build_backbone("conv4", image), 5, **options)
    episode = episode_of(5, 5, 15, tasks=TASKS, image=image)
    update = plain_step(learner, episode)

    def adaptation() -> None:
        learner.eval()
        with torch.no_grad():
            learner(episode)
        learner.train()

    numbers = []
    for step in (update, adaptation):
        step()
        seconds = []
        for _ in range(ROUNDS):
            started = time.process_time()
            step()
            seconds.append(time.process_time() - started)
        numbers.append(statistics.median(seconds) / TASKS)
    return [*numbers, timed(update)["megabytes"]]


def main(variants: Sequence[str]) -> None:
    """Measure each in a process of its own, print a table and write it."""
    from zoo.runs.environment import device_name

    rows: list[list[str]] = []
    first: list[float] = []
    for variant in variants:
        command = [sys.executable, "-m", "tests.bench.costs", "--one", variant]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            rows.append([variant, "did not run", "", "", "", ""])
            print(done.stderr, file=sys.stderr)
            continue
        numbers = [float(word) for word in done.stdout.split()]
        first = first or numbers
        times = [f"{numbers[n] / first[n]:.2f}" for n in range(2)]
        row = [f"{numbers[0]:.3f}", times[0], f"{numbers[1]:.3f}", times[1], f"{numbers[2]:,.0f}"]
        rows.append([f"`{variant}`", *row])
        print(*rows[-1], file=sys.stderr, flush=True)
    heads = ["learner", "update, CPU s", "times the first", "adaptation, CPU s", "times", "MB"]
    table = tabulate(rows, heads, tablefmt="github", disable_numparse=True)
    made = f"A task each, on one thread of {device_name('cpu')}. Made by `make study-cost`"
    print(table)
    write_text(OUT, f"{table}\n\n{made}\n")


if __name__ == "__main__":
    from zoo.runs.tune_cpu import tune_cpu

    tune_cpu()
    if sys.argv[1:2] == ["--one"]:
        print(*measure(sys.argv[2]))
    else:
        main(sys.argv[1:] or VARIANTS)
