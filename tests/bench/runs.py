"""What a run takes beside its updates: its start, its set-up, Lightning, its tests.

`python -m tests.bench.runs NAME` takes one measurement, in a process of its own.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.runs.request import RunRequest

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.episode import Episode
    from zoo.runs.run import Run

ONE = ["--updates", "1", "--val_episodes", "1", "--test_episodes", "1"]
UPDATE = 0.05  # seconds, of which Lightning is measured as a share


def process_seconds(*words: str, repeats: int = 5) -> float:
    """Seconds that Python takes from start to end; the median. FOLDER is a new one each time."""

    def once() -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, *(word.replace("FOLDER", folder) for word in words)]
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            return time.perf_counter() - start

    once()
    return statistics.median(once() for _ in range(repeats))


def start(*words: str) -> str:
    """A command of ours, from start to end."""
    return f"{process_seconds('-m', 'zoo', *words):.2f} s"


def set_up() -> str:
    """A run of one update, one validation and one test episode, less its imports."""
    words = ("-m", "zoo", "run", "protonet", "glyphs", *ONE)
    where = ("--results", "FOLDER/results", "--runs", "FOLDER/runs")
    whole = process_seconds(*words, *where, repeats=3)
    imports = process_seconds(
        "-c", "import zoo.runs.make_runs, pytorch_lightning.loggers", repeats=3
    )
    return f"{whole - imports:.1f} s (imports {imports:.1f} s)"


def a_run(learner: str, shape: Sequence[int], flags: dict[str, Any]) -> Run:
    """A run on random images: classes, images a class, C, H, W; the same in train and test."""
    import torch

    from zoo.datasets.episodes.image_store import Store
    from zoo.runs.run import Run
    from zoo.runs.workspace import Workspace

    torch.set_num_threads(2)
    classes, *each = shape
    random = np.random.default_rng(0)
    images = (random.integers(0, 256, each, dtype=np.uint8) for _ in range(classes))
    store = Store.from_arrays([str(c) for c in range(classes)], images)
    return Run(
        RunRequest(
            learner,
            "miniimagenet" if each[1] == 3 else "omniglot[split=1200/423]",
            shot=5,
            budget="none",
            flags=flags,
        ),
        workspace=Workspace(device="cpu", threads=2),
        stores={"train": store, "test": store},
    )


def lightning() -> str:
    """What Lightning and our callbacks add to an update of 50 ms, by the length of two trainings.

    The update sleeps, so that nothing but what surrounds it computes.
    """
    import torch

    from zoo.runs.checkpoints import CheckpointKeeper
    from zoo.runs.environment import quiet

    def seconds(updates: int, bare: bool) -> float:
        flags = {"updates": updates, "meta_batch": 1, "validations": 1}
        run = a_run("protonet", (80, 20, 1, 28, 28), flags)
        parameter = next(run.learner.parameters())

        def meta_loss(episode: Episode) -> Tensor:
            time.sleep(UPDATE)
            return parameter.sum()

        run.learner.meta_loss = meta_loss  # type: ignore[method-assign]
        with tempfile.TemporaryDirectory() as folder, quiet():
            start = time.perf_counter()
            if bare:
                optimizer = torch.optim.Adam(run.learner.parameters())
                for batch in run.data.train_dataloader():
                    meta_loss(run.data.on_after_batch_transfer(batch, 0)).backward()
                    optimizer.step()
                    optimizer.zero_grad()
            else:
                run.train(Path(folder), CheckpointKeeper(Path(folder), "val/accuracy", None), False)
            return time.perf_counter() - start

    def each(bare: bool) -> float:
        return (seconds(120, bare) - seconds(20, bare)) / 100

    each(False)
    added = statistics.median(each(False) - each(True) for _ in range(3))
    return f"{1000 * added:.1f} ms, {added / UPDATE:.1%}"


def test_seconds(
    learner: str, episodes: int, options: Callable[[Run], None], **flags: Any
) -> float:
    """Seconds of a test of 5-way 5-shot episodes of 84x84 images, Lightning and all."""
    from zoo.runs.environment import quiet

    run = a_run(learner, (20, 600, 3, 84, 84), flags | {"test_episodes": episodes})
    options(run)
    with tempfile.TemporaryDirectory() as folder, quiet():
        return run.test(Path(folder), progress=False)[2]


def maml_test(episodes: int = 40) -> str:
    """A MAML test of 1,000 episodes, by the speed of fewer."""

    def seconds(count: int) -> float:
        return test_seconds("maml", count, lambda run: None)

    seconds(4)
    return f"{(seconds(episodes + 4) - seconds(4)) / episodes * 1000:.0f} s"


def maml_test_on_two_processes(episodes: int = 20) -> str:
    """A MAML test of 1,000 episodes by two processes of one thread each, as `--devices 2` has it.

    Each process tests `episodes` at the same time as the other; the slower one counts.
    """
    from tests.bench.two_runs import wait_until

    words = [sys.executable, "-m", "tests.bench.runs", "--share-of-a-test", str(episodes)]
    children = [
        subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    wait_until(children, "ready")
    seconds = max(float(child.communicate("go\n")[0]) for child in children)
    return f"{seconds / episodes * 500:.0f} s"


def share_of_a_test(episodes: int) -> None:
    """Test episodes with MAML on one thread when a line comes on stdin; prints the seconds."""
    import torch

    torch.set_num_threads(1)
    test_seconds("maml", 2, lambda run: None)
    print("ready", flush=True)
    sys.stdin.readline()
    print(test_seconds("maml", episodes, lambda run: None))


def embedding(episodes: int = 10_000, each: int = 60) -> str:
    """A ProtoNet test with every image embedded once, beside embedding every episode."""

    def seconds(count: int, alone: bool) -> float:
        def set_trait(run: Run) -> None:
            run.learner.embeds_alone = alone

        return test_seconds("protonet", count, set_trait, backbone="conv4")

    seconds(2, False)  # what happens once
    first = seconds(each, False)
    once = seconds(episodes, True)
    last = seconds(each, False)  # again, lest the machine's mood decide
    ordinary = (first + last) / 2 / each * episodes
    return f"{once:.1f} s; {ordinary / once:.0f} times as long, {ordinary:,.0f} s, where each is"


MEASUREMENTS = {
    "python -m zoo --help": lambda: start("--help"),
    "python -m zoo list": lambda: start("list"),
    "a run beside its imports and updates": set_up,
    "Lightning and callbacks, an update of 50 ms": lightning,
    "MAML test of 1,000 episodes, Conv4-32, 84x84, 5-way 5-shot, 10 steps": maml_test,
    "the same MAML test on two processes of one thread": maml_test_on_two_processes,
    "ProtoNet test of 10,000 5-shot episodes, Conv4-64, 84x84: images embedded once, not in each "
    "episode": embedding,
}


if __name__ == "__main__":
    from zoo.runs.tune_cpu import tune_cpu

    tune_cpu()
    if sys.argv[1] == "--share-of-a-test":
        share_of_a_test(int(sys.argv[2]))
    else:
        print(MEASUREMENTS[sys.argv[1]]())
