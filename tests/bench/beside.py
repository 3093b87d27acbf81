"""Our steps and PyTorch's, in turn in one process: the ratio that a noisy machine spoils least.

Under our allocator settings, both. `python -m tests.bench.beside NAME` takes one measurement.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench.ours import (
    NPBML_OFF,
    RELATED,
    choice_step,
    host_step,
    maml_step,
    mann_step,
    metanet_step,
    npbml_step,
    problem,
    protonet_step,
)

ROUNDS = 5


def in_turn(mine: Callable[[], Any], theirs: Callable[[], Any]) -> str:
    """Our seconds and theirs, medians, and the median of the ratios of neighbours."""
    import torch

    torch.set_num_threads(2)

    def seconds(step: Callable[[], Any]) -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    mine(), theirs()
    times = [(seconds(mine), seconds(theirs)) for _ in range(ROUNDS)]
    ours, others = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(a / b for a, b in times)
    middle = statistics.median(ratios)
    return f"{middle:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f}): {ours:#.3g} s, {others:#.3g} s"


def maml(channels: int, order: str) -> str:
    """MAML's update, beside the loop that one writes with PyTorch alone."""
    from tests.bench.peers import plain

    theirs = plain.prepare(problem(channels, 1 if order == "test" else 4), order)
    return in_turn(maml_step(channels, order), theirs)


def protonet() -> str:
    """ProtoNet's, beside the same by PyTorch's own layers."""
    from zoo.networks.layers import plain

    step, other = protonet_step(), protonet_step()

    def theirs() -> None:
        with plain():
            other()

    return in_turn(step, theirs)


def npbml(**options: Any) -> str:
    """NPBML's update, beside that of MAML on the same parameters."""
    return in_turn(npbml_step(**options), npbml_step(**NPBML_OFF))


def related(host: str, functions: bool = False, tasks: int = 32, **options: Any) -> str:
    """TRLearner's update, beside that of its host."""
    mine = host_step(RELATED.format(host), functions, tasks, **options)
    return in_turn(mine, host_step(host, functions, tasks))


def choice() -> str:
    """Choosing four tasks, beside the update on them."""
    return in_turn(choice_step(), host_step("protonet", tasks=4))


RELATES = "TRLearner update beside its host's, {}"
NPBML = "NPBML update beside MAML's on the same parameters, "
MAML = "MAML update beside a plain loop, Conv4-{}, {} order"
MEASUREMENTS = {
    MAML.format(32, "second"): lambda: maml(32, "second"),
    MAML.format(64, "second"): lambda: maml(64, "second"),
    MAML.format(32, "first"): lambda: maml(32, "first"),
    MAML.format(64, "first"): lambda: maml(64, "first"),
    "MAML test beside a plain loop, Conv4-32, a task, 10 steps": lambda: maml(32, "test"),
    "ProtoNet update beside PyTorch's layers, Conv4-64, 20-way 5-shot": protonet,
    "MANN update beside its recurrence step by step, 16 sequences of 50": lambda: in_turn(
        mann_step(False), mann_step(True)
    ),
    "MetaNet update beside the same with PyTorch's LSTM, 28x28, 5-way 1-shot": lambda: in_turn(
        metanet_step(1), metanet_step(1, plain=True)
    ),
    NPBML + "all of it": lambda: npbml(),
    NPBML + "warp alone": lambda: npbml(loss="none", film=False),
    NPBML + "FiLM alone": lambda: npbml(loss="none", warp=False),
    NPBML + "L^S alone": lambda: npbml(loss="support", warp=False, film=False),
    NPBML + "L^Q alone": lambda: npbml(loss="query", warp=False, film=False),
    NPBML + "R alone": lambda: npbml(loss="regulariser", warp=False, film=False),
    RELATES.format("MAML, 25 sine waves, 4 others"): lambda: related("maml", True),
    RELATES.format("MAML, 25 sine waves, all 24"): lambda: related("maml", True, others=None),
    RELATES.format("MAML on Omniglot, 32 tasks, 4 others"): lambda: related("maml", say="aligned"),
    RELATES.format("MAML on Omniglot, 32 tasks, their encoders"): lambda: related("maml"),
    RELATES.format("ProtoNet on Omniglot, 32 tasks, 4 others"): lambda: related("protonet"),
    "adaptive sampler beside ProtoNet's update, 28x28, 4 of 16 tasks": choice,
}


if __name__ == "__main__":
    from zoo.runs.tune_cpu import tune_cpu

    tune_cpu()
    print(MEASUREMENTS[sys.argv[1]]())
