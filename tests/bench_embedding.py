"""A whole test with every image embedded once, beside embedding every episode.

`python -m tests.bench_embedding`: random images of mini-ImageNet's shape, ProtoNet with Conv4-64,
5-way 5-shot, 15 queries, through Run.test, Lightning and all. Nothing is asserted.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from zoo.cpu import tune_cpu

CLASSES, IMAGES = 20, 600


def peak_megabytes() -> float:
    """The most memory that this process ever had; the images are 254 MB of it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 * 1.024


def measure(episodes: int, each: int, threads: int) -> str:
    """Seconds of the test embedded once, of an ordinary one of `each` episodes, and the ratio."""
    import torch

    from datasets.store import Store
    from zoo.environment import quiet
    from zoo.experiment import Run
    from zoo.plan import Place

    random = np.random.default_rng(0)
    shape = (IMAGES, 3, 84, 84)
    images = [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(CLASSES)]
    store = Store.from_arrays([str(c) for c in range(CLASSES)], images)
    del images
    torch.set_num_threads(threads)

    def seconds(count: int, alone: bool) -> np.ndarray:
        """Of the clock and of the processors."""
        with tempfile.TemporaryDirectory() as folder, quiet():
            run = Run(
                "protonet", "miniimagenet", shot=5, budget="none",
                flags={"backbone": "conv4", "test_episodes": count},
                place=Place(device="cpu", threads=threads),
                stores={"train": store, "test": store},
            )  # fmt: skip
            run.learner.embeds_alone = alone
            used = time.process_time()
            clock = run.test(Path(folder), progress=False)[2]
            return np.array([clock, time.process_time() - used])

    seconds(2, False)  # what happens once
    before = peak_megabytes()
    first = seconds(each, False) / each
    middle = peak_megabytes()
    once = seconds(episodes, True)
    after = peak_megabytes()
    last = seconds(each, False) / each  # again, lest the machine's mood decide
    ordinary = (first + last) / 2 * episodes
    return (
        f"embedded once: {once[0]:.1f} s for {episodes:,} episodes, "
        f"peak {after:,.0f} MB ({before:,.0f} at the start, {middle:,.0f} by the ordinary path)\n"
        f"every episode embedded: {first[0]:.4f} s an episode before, {last[0]:.4f} after "
        f"({each} each), {ordinary[0]:,.0f} s in all\n"
        f"{ordinary[0] / once[0]:.0f} times faster by the clock, "
        f"{ordinary[1] / once[1]:.0f} times by processor seconds"
    )


def main() -> None:
    """Print the measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=10_000, help="of the test embedded once")
    parser.add_argument("--each", type=int, default=60, help="episodes of the ordinary test")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    tune_cpu()
    print(measure(options.episodes, options.each, options.threads))


if __name__ == "__main__":
    main()
