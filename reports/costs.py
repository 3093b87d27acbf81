"""What a run cost in CPU seconds: its own updates, and those of the stages trained before it."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from zoo.reports.published import RunLike


class CpuCost(NamedTuple):
    """CPU seconds, of all threads together."""

    own: float  # of the run's updates; nan where its record does not know them
    stages: float  # of the updates of its stages that are known; 0 without stages
    unknown: tuple[str, ...] = ()  # names of the stages whose CPU seconds were not recorded


def cpu_cost(run: RunLike) -> CpuCost:
    """What a record knows of its costs; a stage that several runs share counts in each of them."""
    seconds = run.get("update_cpu_seconds")
    of_stages = {stage["name"]: stage.get("cpu_seconds") for stage in stages_of(run)}
    return CpuCost(
        math.nan if seconds is None else float(seconds),
        float(sum(cpu for cpu in of_stages.values() if cpu is not None)),
        tuple(name for name, cpu in of_stages.items() if cpu is None),
    )


def stages_of(run: RunLike) -> list[dict[str, Any]]:
    """What a record says of the stages that were trained before it."""
    stages = run.get("stages")
    return stages if isinstance(stages, list) else []


def shared_stages(runs: Sequence[RunLike]) -> list[str]:
    """Names of the stages in the costs of more than one of these runs; each was trained once."""
    counts = Counter(
        (stage["name"], stage["hash"])
        for run in runs
        for stage in stages_of(run)
        if stage.get("cpu_seconds") is not None
    )
    return list(dict.fromkeys(name for (name, _), number in counts.items() if number > 1))
