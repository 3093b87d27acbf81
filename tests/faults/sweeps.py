"""SIGKILL of sweeps, where each learner is trained once and tested at many shapes."""

import numpy as np

from tests.faults.commands import SMOKE, World
from tests.faults.fault import Fault, Outcome
from tests.faults.kills import killed_and_gone_on

COUNT = 12
SWEEPS = {
    "two learners": ("sweep", "glyphs", "--learners", "protonet matchingnet",
                     "--shots", "1 3", "--ways", "5 7", *SMOKE),
    "a fixed way": ("sweep", "glyphs", "--learners", "maml pixelnn",
                    "--shots", "1 2", "--ways", "5", *SMOKE),
}  # fmt: skip


def faults(rng: np.random.Generator) -> list[Fault]:
    """Both sweeps, killed at a moment or at a file operation."""
    found = []
    for number in range(COUNT):
        sweep = list(SWEEPS)[number % 2]
        by = ("a moment", "a file operation")[number // 2 % 2]
        how = {"sweep": sweep, "by": by, "shares": [round(float(rng.random()), 3)]}
        found.append(Fault("sweeps", f"{number}: {sweep}, at {by}", how))
    return found


def attempt(fault: Fault, world: World) -> Outcome:
    """Kill a sweep, then give the same command again."""
    return killed_and_gone_on(SWEEPS[fault.how["sweep"]], fault, world)
