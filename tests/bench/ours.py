"""How fast the zoo's pieces are here: `make bench-quick`.

`python -m tests.bench.ours NAME` takes one measurement, in a process of its own.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zoo.episode import Episode

SECONDS = 3.0  # of each measurement of a rate
ROUNDS = 2  # of an update; 0 for its memory alone
IMAGE = (3, 84, 84)


def rate(work: Callable[[], int]) -> float:
    """Units a second: the median over five stretches, after a warm-up."""
    work()
    rates = []
    for _ in range(5):
        done, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS / 5:
            done += work()
        rates.append(done / (time.perf_counter() - start))
    return statistics.median(rates)


def anonymous_megabytes() -> float:
    """Memory of this process that no file stands behind."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) / 1000 * 1.024
    return float("nan")


def indices() -> str:
    """Which images make up an episode."""
    from datasets.sampler import EpisodeSampler, key_of

    sampler = EpisodeSampler(np.full(64, 600), 5, 5, 15, key_of("train", 0))
    return f"{rate(lambda: len(sampler.indices(0, 1024).classes)):,.0f} tasks/s"


def gather(normalise: bool) -> str:
    """Meta-batches of 4 tasks of 100 84x84 images, from 400 MB of pixels in a mapped file."""
    import torch

    from datasets.episodic import EpisodicDataModule, MetaBatches
    from datasets.sampler import EpisodeSampler, key_of
    from datasets.store import Store
    from zoo.settings import Protocol

    with tempfile.TemporaryFile() as file:
        file.write(np.random.default_rng(0).bytes(32 * 600 * 3 * 84 * 84))
        file.flush()
        pixels = np.memmap(file, np.uint8, "c", shape=(32 * 600, 3, 84, 84))
    names = [str(c) for c in range(32)]
    store = Store(torch.from_numpy(pixels), np.arange(33) * 600, names, "")
    sampler = EpisodeSampler(np.full(32, 600), 5, 5, 15, key_of("train", 0))
    settings = {n: f.default for n, f in Protocol.__dataclass_fields__.items()}
    settings |= {"query": 15, "train_way": 5, "train_shot": 5, "train_query": 15}
    data = EpisodicDataModule(
        {"train": store}, (0.5,) * 3, (0.25,) * 3, settings,
        way=5, shot=5, seed=0, micro_batch=4, eval_batch=4,
    )  # fmt: skip
    batches = iter(MetaBatches(store, sampler, 10**9, 4))

    def work() -> int:
        batch = next(batches)
        if normalise:
            data.on_after_batch_transfer(batch, 0)
        return len(batch.x)

    torch.set_num_threads(2)
    return f"{rate(work):,.0f} tasks/s"


def copy() -> str:
    """The same bytes, read in order and written: what the memory allows at best."""
    import torch

    torch.set_num_threads(2)
    with tempfile.TemporaryFile() as file:
        file.write(np.random.default_rng(0).bytes(32 * 600 * 3 * 84 * 84))
        file.flush()
        pixels = torch.from_numpy(np.memmap(file, np.uint8, "c", shape=(48, 400, 3 * 84 * 84)))
    here = 0

    def work() -> int:
        nonlocal here
        torch.empty(400, 3 * 84 * 84, dtype=torch.uint8).copy_(pixels[here])
        here = (here + 1) % len(pixels)
        return 4

    return f"{rate(work):,.0f} tasks/s"


def measure_update(
    loss_of: Callable[[Episode], Tensor], net: nn.Module, shape: list[int], beside: bool = False
) -> str:
    """Seconds of one update on random 84x84 images, and its peak of anonymous memory.

    `shape` is way, shot, query and tasks; one task's graph at a time. `beside` asks for the share
    of the same update by plain layers, in turn with ours.
    """
    import torch

    from tests.conftest import episode_of
    from zoo.layers import plain

    torch.set_num_threads(2)
    optimizer = torch.optim.Adam(net.parameters())
    batches = [episode_of(*shape[:3], tasks=1, image=IMAGE, seed=t) for t in range(shape[3])]
    peak = 0.0

    def seconds() -> float:
        nonlocal peak
        start = time.perf_counter()
        for batch in batches:
            loss = loss_of(batch) / len(batches)
            peak = max(peak, anonymous_megabytes())  # the graph is whole
            loss.backward()
            peak = max(peak, anonymous_megabytes())
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start

    def by_plain_layers() -> float:
        with plain():
            return seconds()

    seconds()
    if not ROUNDS:
        seconds()
        return f"{peak:.0f}"
    ours = [seconds() for _ in range(ROUNDS)]
    text = f"{statistics.median(ours):.2f} s, {peak:,.0f} MB"
    if beside:
        by_plain_layers()
        turns = [(seconds(), by_plain_layers()) for _ in range(2 * ROUNDS + 1)]
        mine, theirs = (statistics.median(times) for times in zip(*turns, strict=True))
        text += f"; {mine / theirs:.2f} of plain layers' time"
    return text


def maml_update(channels: int, **options: Any) -> str:
    """MAML's update, bare: without Lightning."""
    from zoo.backbones import Classifier, build_backbone
    from zoo.inner_loop import adapt, call
    from zoo.losses import task_cross_entropy

    net = Classifier(build_backbone(f"conv4[channels={channels}]", IMAGE), 5)

    def loss_of(e: Episode) -> Tensor:
        theta = adapt(net, e.support, task_cross_entropy, lr=0.01, steps=5, **options)
        return task_cross_entropy(call(net, theta, e.query.x), e.query.y).mean()

    return measure_update(loss_of, net, [5, 5, 15, 4])


def protonet_update() -> str:
    """ProtoNet's, 20-way."""
    from baselines.protonet import ProtoNet
    from zoo.backbones import build_backbone

    learner = ProtoNet(build_backbone("conv4", IMAGE), 5)
    return measure_update(learner.meta_loss, learner, [20, 5, 15, 1], beside=True)


def folding(tasks: int) -> str:
    """MAML's loss and gradient on Omniglot's network, per task, `tasks` at once."""
    from tests.conftest import episode_of
    from zoo import learners
    from zoo.backbones import build_backbone

    backbone = build_backbone("conv4_strided", (1, 28, 28))
    learner = learners.get("maml")(backbone, 5, inner_lr=0.4, inner_steps=1)
    batch = episode_of(shot=1, query=1, tasks=tasks)

    def work() -> int:
        learner.meta_loss(batch).backward()
        return tasks

    return f"{1000 / rate(work):.1f} ms"


MAML = "MAML update, Conv4-{}, 84x84, 4 tasks, 5 steps, "
MEASUREMENTS = {
    "episode indices, 5-way 5-shot 15 queries": indices,
    "episodes of 100 84x84 images, uint8": lambda: gather(False),
    "the same bytes, copied in order": copy,
    "episodes of them, cast and normalised": lambda: gather(True),
    MAML.format(32) + "second order": lambda: maml_update(32),
    MAML.format(32) + "memory=low": lambda: maml_update(32, memory="low"),
    MAML.format(32) + "first order": lambda: maml_update(32, first_order=True),
    MAML.format(64) + "second order": lambda: maml_update(64),
    MAML.format(64) + "memory=low": lambda: maml_update(64, memory="low"),
    "ProtoNet update, Conv4-64, 84x84, 20-way 5-shot": protonet_update,
    "MAML on Omniglot's Conv4-64, 5-way 1-shot, a task, one at a time": lambda: folding(1),
    "the same, eight at a time, folded into channels": lambda: folding(8),
}


if __name__ == "__main__":
    from zoo.cpu import tune_cpu

    tune_cpu()
    print(MEASUREMENTS[sys.argv[1]]())
