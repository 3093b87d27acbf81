"""Batches in torchmeta's form: ours beside torchmeta's own from HDF5, on the same images.

``python -m tests.bench.torchmeta_batches FOLDER`` takes a folder that torchmeta reads, with
``cifar100/`` or ``miniimagenet/`` in it (``zoo convert ... --to torchmeta`` writes one), and the
same benchmark's images in ZOO_DATA. Both serve 5-way 5-shot tasks with 15 queries, 4 in a batch, in
one process, in turn, and the median over the turns is printed as Markdown. Tasks of a CPU second
are what a busy machine distorts least; a row with workers has none, as they are other processes.

Before anything is timed, both must have the same images under each of the same class names, and
their batches the same keys, shapes and types.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SHAPE = {"way": 5, "shot": 5, "query": 15}
BATCH = 4
HELPERS = {"cifarfs": ("cifar_fs", "cifar100"), "miniimagenet": ("miniimagenet", "miniimagenet")}
Batches = Callable[[], Iterator[Any]]


def loader(benchmark: str, folder: Path, workers: int = 0) -> Any:
    """Torchmeta's loader of training tasks, by its helper."""
    import zoo.torchmeta  # noqa: F401, isort: skip
    from torchmeta.datasets import helpers
    from torchmeta.utils.data import BatchMetaDataLoader

    dataset = getattr(helpers, HELPERS[benchmark][0])(
        folder, shots=SHAPE["shot"], ways=SHAPE["way"], test_shots=SHAPE["query"],
        meta_split="train", seed=0,
    )  # fmt: skip
    return BatchMetaDataLoader(dataset, batch_size=BATCH, num_workers=workers)


def compare_images(benchmark: str, dataset: Any, data: Path) -> int:
    """Hold torchmeta's images of the training classes against our store's; returns how many.

    Raises:
        ValueError: a class or an image of one is not among those of the other.
    """
    import numpy as np

    from zoo.datasets.benchmarks.base import find_benchmark

    store = find_benchmark(benchmark).open(data)["train"]
    classes, count = dataset.dataset, 0
    labels = [label if isinstance(label, str) else label[-1] for label in classes.labels]
    if sorted(labels) != sorted(store.names):
        raise ValueError("the classes differ")
    for number, label in enumerate(labels):
        task = classes[number]
        rows = task.data[:].transpose(0, 3, 1, 2)
        place = list(store.names).index(label)
        ours = store.images[store.offsets[place] : store.offsets[place + 1]].numpy()
        if sorted(map(bytes, rows)) != sorted(map(bytes, np.ascontiguousarray(ours))):
            raise ValueError(f"the images of {label} differ")
        count += len(rows)
    return count


def compare_form(theirs: Any, ours: Any) -> None:
    """Hold the keys, shapes and types of two batches against each other.

    Raises:
        ValueError: they differ.
    """

    def form(batch: Any) -> Any:
        return type(batch), {
            key: (type(part), [(tuple(t.shape), t.dtype, t.is_contiguous()) for t in part])
            for key, part in batch.items()
        }

    if form(theirs) != form(ours):
        raise ValueError(f"batches differ in form: {form(theirs)} and {form(ours)}")


def tasks_per_second(batches: Iterator[Any], seconds: float) -> tuple[float, float]:
    """How many tasks are served in a second, and in a second of this process's CPU time."""
    next(batches)
    start, start_of_cpu, tasks = time.perf_counter(), time.process_time(), 0
    while (taken := time.perf_counter() - start) < seconds:
        next(batches)
        tasks += BATCH
    return tasks / taken, tasks / (time.process_time() - start_of_cpu)


def measure(benchmark: str, folder: Path, data: Path, turns: int, seconds: float) -> str:
    """The table of one benchmark."""
    import torch

    import zoo

    torch.set_num_threads(1)
    theirs = loader(benchmark, folder)
    images = compare_images(benchmark, theirs.dataset, data)

    def ours(as_bytes: bool = False) -> Iterator[Any]:
        return iter(
            zoo.torchmeta_batches(
                benchmark, "train", **SHAPE, batch_size=BATCH, batches=10**6, data=data,
                as_bytes=as_bytes,
            )
        )  # fmt: skip

    compare_form(next(iter(theirs)), next(ours()))
    rows: dict[str, Batches] = {
        "torchmeta's helper, HDF5": lambda: iter(loader(benchmark, folder)),
        "the same, 2 workers": lambda: iter(loader(benchmark, folder, workers=2)),
        "our store, float32": ours,
        "our store, uint8": lambda: ours(as_bytes=True),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
    for _ in range(turns):
        for name, make in rows.items():
            found[name].append(tasks_per_second(make(), seconds))
    lines = [
        f"{benchmark}, the same {images:,} images; tasks a second, 1 thread:",
        "",
        "| batches of 4 tasks, 5-way 5-shot, 15 queries | median | least | most | a CPU second |",
        "|---|---|---|---|---|",
    ]
    for name, pairs in found.items():
        rates, of_cpu = zip(*pairs, strict=True)
        numbers = [f"{pick(rates):,.0f}" for pick in (statistics.median, min, max)]
        numbers.append("–" if "workers" in name else f"{statistics.median(of_cpu):,.0f}")
        lines.append(f"| {name} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure every benchmark that the folder has."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.torchmeta_batches")
    parser.add_argument("folder", type=Path, help="that torchmeta reads")
    parser.add_argument("--turns", type=int, default=5, help="default: 5")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement; default: 3")
    args = parser.parse_args()
    data = Path(os.environ.get("ZOO_DATA", "data"))
    present = [name for name, (_, inner) in HELPERS.items() if (args.folder / inner).is_dir()]
    if not present:
        print(f"{args.folder}: neither cifar100/ nor miniimagenet/ is in it", file=sys.stderr)
        return 2
    for benchmark in present:
        print(measure(benchmark, args.folder, data, args.turns, args.seconds), end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
