"""What a run cost in CPU seconds: its own updates, and the stages trained before it."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from zoo.reports.published import RunLike


class CpuCost(NamedTuple):
    """CPU seconds, summed over all threads."""

    updates: float  # the run's own updates; nan where the record does not say
    stages: float  # the updates of its stages, where recorded; 0 without stages
    unknown: tuple[str, ...] = ()  # names of the stages whose CPU seconds were not recorded


def cpu_cost(run: RunLike) -> CpuCost:
    """The costs that a record holds. A stage shared by several runs counts in each of them."""
    seconds = run.get("update_cpu_seconds")
    of_stages = {stage["name"]: stage.get("cpu_seconds") for stage in stages_of(run)}
    return CpuCost(
        math.nan if seconds is None else float(seconds),
        float(sum(cpu for cpu in of_stages.values() if cpu is not None)),
        tuple(name for name, cpu in of_stages.items() if cpu is None),
    )


def stages_of(run: RunLike) -> list[dict[str, Any]]:
    """The stages trained before a run, as its record lists them."""
    stages = run.get("stages")
    return stages if isinstance(stages, list) else []


def shared_stages(runs: Sequence[RunLike]) -> list[str]:
    """Names of the stages that several of these runs count in their costs, though trained once."""
    counts = Counter(
        (stage["name"], stage["hash"])
        for run in runs
        for stage in stages_of(run)
        if stage.get("cpu_seconds") is not None
    )
    return list(dict.fromkeys(name for (name, _), number in counts.items() if number > 1))
