"""Seconds of an update in bfloat16 beside the same update in float32.

`python -m tests.bench.precision [--benchmark cifarfs] [--learners ...]` times updates of ProtoNet,
the pre-training, and MAML of first and second order, the two precisions in turn, on one thread. It
runs on any machine, and says whether this one has units for bfloat16 products; `zoo run` refuses
`--precision bf16` where there are none. With `--accuracy` it trains and tests each learner in both,
on the same episodes, and prints the table, whose differences are paired.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from zoo import precision
from zoo.commands import main as command_line
from zoo.precision import BF16, FLOAT32, is_fast_in_bf16
from zoo.runs.environment import quiet
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.tune_cpu import tune_cpu
from zoo.runs.workspace import Workspace
from zoo.variants import format_variant, parse_variant

LEARNERS = ("protonet", "pretrained", "maml[first_order=true]", "maml")
TURNS = 5


def update_of(
    learner: str, benchmark: str, value: str, data: Path | None, folder: Path
) -> Callable[[], None]:
    """A function that computes the gradient of one update, always of the same batch.

    For ``pretrained`` it is an update of the pre-training.
    """
    workspace = Workspace(data, folder / "results", folder / "runs", "cpu", 1)
    run = Run(RunRequest(learner, benchmark, flags={"precision": value}), workspace)
    torch.manual_seed(0)
    if learner == "pretrained":
        staging = run.stages[0]
        images = staging._data()
        batch = images.on_after_batch_transfer(next(iter(images.train_dataloader())), 0)
        return lambda: staging.stage.training_step(batch, 0).backward()
    batch = run.data.on_after_batch_transfer(next(iter(run.data.train_dataloader())), 0)
    return lambda: run.learner.meta_loss(batch).backward()


def seconds(update: Callable[[], None]) -> float:
    """CPU seconds of an update."""
    started = time.process_time()
    update()
    return time.process_time() - started


def main() -> None:
    """Time each learner in both precisions, in turn."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--benchmark", default="glyphs")
    parser.add_argument("--learners", nargs="+", default=LEARNERS)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--accuracy", action="store_true", help="train and test, and print a table")
    options = parser.parse_args()
    tune_cpu()
    torch.set_num_threads(1)
    has = "has" if is_fast_in_bf16(torch.device("cpu")) else "has no"
    print(f"this processor {has} units for bfloat16 products")
    precision.is_fast_in_bf16 = lambda device: True
    with tempfile.TemporaryDirectory() as folder:
        if options.accuracy:
            compare_accuracy(options.learners, options.benchmark, options.data, folder)
            return
        for learner in options.learners:
            with quiet():
                compare_time(learner, options.benchmark, options.data, Path(folder))


def compare_time(learner: str, benchmark: str, data: Path | None, folder: Path) -> None:
    """Time updates of a learner in both precisions, in turn, and print the ratio."""
    updates = {
        value: update_of(learner, benchmark, value, data, folder) for value in (FLOAT32, BF16)
    }
    for update in updates.values():
        update()
    turns = [{value: seconds(update) for value, update in updates.items()} for _ in range(TURNS)]
    ratio = statistics.median(turn[BF16] / turn[FLOAT32] for turn in turns)
    one = statistics.median(turn[FLOAT32] for turn in turns)
    print(f"{learner}: float32 {one:.3f} s, bfloat16 {ratio:.2f} times as long", flush=True)


def compare_accuracy(
    learners: Sequence[str], benchmark: str, data: Path | None, folder: str
) -> None:
    """Train and test learners in both precisions, and print their table."""
    rounded = [format_variant(*with_option(learner)) for learner in learners]
    words = ["table", benchmark, "--learners", " ".join([*learners, *rounded]), "--shots", "1"]
    words += ["--threads", "1", "--jobs", "1", "--differences", "all"]
    words += ["--results", f"{folder}/results", "--runs", f"{folder}/runs"]
    if data:
        words += ["--data", str(data)]
    command_line(words)


def with_option(learner: str) -> tuple[str, dict[str, Any]]:
    """Key and options of a learner's variant, with bfloat16 among the options."""
    key, options = parse_variant(learner)
    return key, {**options, "precision": BF16}


if __name__ == "__main__":
    main()
