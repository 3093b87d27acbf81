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
from typing import Any

import numpy as np

from tests.bench.peers import Problem
from tests.bench.problem import TEST_STEPS, TIMED, read_problem, write_problem
from tests.bench.worker import timed

SECONDS = 3.0  # of each measurement of a rate
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


def indices() -> str:
    """Which images make up an episode."""
    from zoo.datasets.episodes.hash_random import key_of
    from zoo.datasets.episodes.sampler import EpisodeSampler

    sampler = EpisodeSampler(np.full(64, 600), 5, 5, 15, key_of("train", 0))
    return f"{rate(lambda: len(sampler.indices(0, 1024).classes)):,.0f} tasks/s"


def gather(normalise: bool) -> str:
    """Meta-batches of 4 tasks of 100 84x84 images, from 400 MB of pixels in a mapped file."""
    import torch

    from zoo.datasets.episodes.data_module import EpisodicDataModule, MetaBatches
    from zoo.datasets.episodes.hash_random import key_of
    from zoo.datasets.episodes.image_store import Store
    from zoo.datasets.episodes.sampler import EpisodeSampler
    from zoo.runs.settings import Protocol

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
        way=5, shot=5, seed=0, eval_batch=4,
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


def maml_step(channels: int, order: str, **options: Any) -> Callable[[], Any]:
    """MAML's update without Lightning, as the bench's other contestants make it; or its test."""
    from tests.bench.peers import ours

    return ours.prepare(problem(channels, 1 if order == "test" else 4), order, **options)


def problem(channels: int, tasks: int) -> Problem:
    """The peers' work: 84x84, 5-way 5-shot, 15 queries, 5 steps; 10 for the one task of a test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problem.npz"
        write_problem(path, TIMED._replace(channels=channels, tasks=tasks))
        return read_problem(path, tasks, TIMED.steps if tasks > 1 else TEST_STEPS, TIMED.lr)


def protonet_step() -> Callable[[], Any]:
    """ProtoNet's update, 20-way 5-shot, 15 queries."""
    from tests.conftest import episode_of
    from zoo.baselines.protonet import ProtoNet
    from zoo.networks.backbone import build_backbone

    learner = ProtoNet(build_backbone("conv4", IMAGE), 5)
    return plain_step(learner, episode_of(20, 5, 15, tasks=1, image=IMAGE))


def snail_step() -> Callable[[], Any]:
    """SNAIL's update on Omniglot: 32 tasks of 5 ways, 5 shots, 1 query a class."""
    from tests.conftest import episode_of
    from zoo.baselines.snail import SNAIL
    from zoo.networks.backbone import build_backbone

    learner = SNAIL(build_backbone("conv4", (1, 28, 28)), 5, embedding=64, mixed_shots=False)
    return plain_step(learner, episode_of(5, 5, 1, tasks=32))


def plain_step(learner: Any, batch: Any) -> Callable[[], Any]:
    """An update without Lightning."""
    import torch

    optimizer = torch.optim.Adam(learner.parameters())

    def step() -> None:
        learner.meta_loss(batch).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def metanet_step(shot: int, plain: bool = False) -> Callable[[], Any]:
    """MetaNet's update on Omniglot's images, one task, 5-way, 10 queries, as its paper trains.

    With `plain` PyTorch's own LSTM reads the gradients.
    """
    from unittest.mock import patch

    from tests.conftest import episode_of
    from zoo.baselines import metanet_layers
    from zoo.baselines.metanet import MetaNet
    from zoo.networks.backbone import build_backbone

    learner = MetaNet(build_backbone("conv5", (1, 28, 28)), 5)
    step = plain_step(learner, episode_of(5, shot, 10, tasks=1))
    if not plain:
        return step

    def with_pytorchs() -> None:
        with patch.object(metanet_layers, "last_output", lambda lstm, x: lstm(x.mT)[1][0][0].T):
            step()

    return with_pytorchs


def mann_step(plain: bool) -> Callable[[], Any]:
    """MANN's update, 16 sequences of 50 on Omniglot; or with its recurrence written plainly."""
    import torch

    from tests.conftest import episode_of
    from tests.support import lrua_plain
    from zoo.baselines.mann import MANN
    from zoo.networks.backbone import build_backbone

    learner = MANN(build_backbone("pixels20", (1, 28, 28)), 5, protocol="instances")
    if plain:
        memory = learner.memory
        memory.forward = lambda x: (lrua_plain.run(memory, x), memory.start(x))  # type: ignore[method-assign]
    torch.set_num_threads(2)
    return plain_step(learner, episode_of(5, 9, 1, tasks=16))


NPBML_OFF = {"loss": "none", "warp": False, "film": False}  # MAML of the same parameters


def npbml_step(**options: Any) -> Callable[[], Any]:
    """NPBML's update, one task on 32x32 images, 5-way 5-shot, Conv4-64's last block and head."""
    from tests.conftest import episode_of
    from zoo.baselines.npbml import NPBML
    from zoo.networks.backbone import build_backbone

    learner = NPBML(build_backbone("conv4", (3, 32, 32)), 5, **options)
    return plain_step(learner, episode_of(5, 5, 15, tasks=1, image=(3, 32, 32)))


RELATED = "trlearner[host={}]"


def host_step(variant: str, functions: bool = False, tasks: int = 32, **options: Any) -> Any:
    """An update of MAML or ProtoNet, or of it with TRLearner.

    On Omniglot's images, 5-way 1-shot, 5 queries; on 25 sine waves, 5 points.
    """
    from tests.conftest import episode_of
    from zoo.conformance.harness import points_of
    from zoo.networks.backbone import build_backbone
    from zoo.registry import learner_of

    _, cls, own = learner_of(variant)
    inner = {"inner_lr": 0.4, "inner_steps": 1} if "maml" in variant else {}
    if functions:
        learner = cls(build_backbone("mlp", (1,)), 1, **own, **inner, **options)
        return plain_step(learner, points_of(1, 5, 10, 25, 0))
    backbone = build_backbone("conv4_strided", (1, 28, 28))
    return plain_step(cls(backbone, 5, **own, **inner, **options), episode_of(5, 1, 5, tasks=tasks))


def choice_step() -> Callable[[], Any]:
    """What the adaptive sampler adds to an update: 16 candidates, 4 tasks, 28x28, 5-way 1-shot."""
    from tests.conftest import episode_of
    from zoo.methods.task_scores import task_scores
    from zoo.networks.backbone import build_backbone

    net, support = build_backbone("conv4_strided", (1, 28, 28)), episode_of(5, 1, 1, tasks=16)
    return lambda: task_scores(net, support.support, 5)


def updates(step: Callable[[], Any]) -> str:
    """Updates a second, and the peak of anonymous memory of one."""

    def work() -> int:
        step()
        return 1

    return f"{rate(work):.1f} updates/s, {timed(step)['megabytes']:,.0f} MB"


def update(step: Callable[[], Any]) -> str:
    """Seconds of one update, and its peak of anonymous memory."""
    import torch

    torch.set_num_threads(2)
    step()
    found = timed(step)
    return f"{found['seconds']:.2f} s, {found['megabytes']:,.0f} MB"


def folding(tasks: int) -> str:
    """MAML's loss and gradient on Omniglot's network, per task, `tasks` at once."""
    from tests.conftest import episode_of
    from zoo import learners
    from zoo.networks.backbone import build_backbone

    backbone = build_backbone("conv4_strided", (1, 28, 28))
    learner = learners.get("maml")(backbone, 5, inner_lr=0.4, inner_steps=1)
    batch = episode_of(shot=1, query=1, tasks=tasks)

    def work() -> int:
        learner.meta_loss(batch).backward()
        return tasks

    return f"{1000 / rate(work):.1f} ms"


NPBML = "NPBML update, Conv4-64, 32x32, one task, 5-way 5-shot, "
MAML = "MAML update, Conv4-{}, 84x84, 4 tasks, 5 steps, "
MEASUREMENTS = {
    "episode indices, 5-way 5-shot 15 queries": indices,
    "episodes of 100 84x84 images, uint8": lambda: gather(False),
    "the same bytes, copied in order": copy,
    "episodes of them, cast and normalised": lambda: gather(True),
    MAML.format(32) + "second order": lambda: update(maml_step(32, "second")),
    MAML.format(32) + "memory=low": lambda: update(maml_step(32, "second", memory="low")),
    MAML.format(32) + "first order": lambda: update(maml_step(32, "first")),
    MAML.format(64) + "second order": lambda: update(maml_step(64, "second")),
    MAML.format(64) + "memory=low": lambda: update(maml_step(64, "second", memory="low")),
    "ProtoNet update, Conv4-64, 84x84, 20-way 5-shot": lambda: update(protonet_step()),
    "SNAIL update on Omniglot, 32 tasks, 5-way 5-shot": lambda: update(snail_step()),
    "MetaNet update, 28x28, one task, 5-way 1-shot": lambda: update(metanet_step(1)),
    "MetaNet update, 28x28, one task, 5-way 5-shot": lambda: update(metanet_step(5)),
    "MANN update, 16 sequences of 50": lambda: updates(mann_step(False)),
    NPBML + "as published": lambda: updates(npbml_step()),
    NPBML + "MAML of the same parameters": lambda: updates(npbml_step(**NPBML_OFF)),
    "MAML update on Omniglot, 32 tasks": lambda: updates(host_step("maml")),
    "the same with TRLearner": lambda: updates(host_step(RELATED.format("maml"))),
    "MAML on Omniglot's Conv4-64, 5-way 1-shot, a task, one at a time": lambda: folding(1),
    "the same, eight at a time, folded into channels": lambda: folding(8),
}


if __name__ == "__main__":
    from zoo.runs.tune_cpu import tune_cpu

    tune_cpu()
    print(MEASUREMENTS[sys.argv[1]]())
