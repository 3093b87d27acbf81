"""Bad input by name, and at random: every flag and setting with what is no value of it."""

import os

import numpy as np

from tests.faults.child import Ended, forked
from tests.faults.commands import World
from tests.faults.fault import ACCEPTED, LINE, LOST, TRACEBACK, Fault, Outcome
from tests.support.bad_input import BAD, CONFIGS, NO_NUMBERS, RUN, numeric_flags, numeric_settings

RANDOM = 140  # flags and settings with a random value


def faults(rng: np.random.Generator) -> list[Fault]:
    """Each kind by its name, then random ones."""
    found = [Fault("inputs", kind, {"words": words}) for kind, (words, _) in BAD.items()]
    found += [
        Fault("inputs", f"a config file, {number}", {"words": RUN, "config": content})
        for number, (content, _) in enumerate(CONFIGS)
    ]
    flags, settings = [*numeric_flags()], [*numeric_settings()]
    for number in range(RANDOM):
        text = NO_NUMBERS[int(rng.integers(len(NO_NUMBERS)))]
        if number % 2:
            command, flag = flags[int(rng.integers(len(flags)))]
            words = [command, flag, text]
        else:
            key, name = settings[int(rng.integers(len(settings)))]
            words = ["run", key, "glyphs", f"--{name}", text]
        found.append(
            Fault("inputs", f"random {number}: {' '.join(words)[:60]!r}", {"words": words})
        )
    return [found[int(i)] for i in rng.permutation(len(found))]


def attempt(fault: Fault, world: World) -> Outcome:
    """Give the command, in an empty folder."""
    words, place = [*fault.how["words"]], world.place("tried/r")
    if "config" in fault.how:
        path = world.folder / "tried" / "bad.yaml"
        path.write_bytes(fault.how["config"].encode("latin-1"))
        words += ["--config", str(path)]

    def prepare() -> None:
        os.chdir(place)

    ended = forked(words, world.folder / "tried" / "log", prepare).wait(60)
    return judged_input(ended)


def judged_input(ended: Ended) -> Outcome:
    """Whether bad input was refused in one line."""
    if ended.broke:
        return Outcome((TRACEBACK,), ended.err[-2000:])
    if ended.status == 0:
        return Outcome((ACCEPTED,), ended.out[-300:])
    lines = ended.err.strip().splitlines()
    if ended.status == 2 and len(lines) == 1 and lines[0].startswith("zoo: "):
        return Outcome((LINE,), lines[0][:300])
    return Outcome((LOST,), f"status {ended.status}, {len(lines)} lines: {ended.err[-500:]}")
