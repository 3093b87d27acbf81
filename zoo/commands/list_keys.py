"""The command ``zoo list``: the keys of the registers. What the keys name is not imported."""

import argparse

from zoo.registry import Registry, backbones, benchmarks, learners

REGISTERS: dict[str, Registry] = {
    "learners": learners,
    "benchmarks": benchmarks,
    "backbones": backbones,
}


def list_command(options: argparse.Namespace) -> int:
    """Print each key with its summary, one a line; or the learners as a table."""
    if options.table or options.into:
        from zoo.commands.learners import write_learner_table

        return write_learner_table(options.kind, options.into)
    register = REGISTERS[options.kind]
    width = max(map(len, register.names()), default=0)
    for key in register.names():
        print(f"{key:<{width}}  {register.entries[key].summary}")
    return 0
