"""The command line: python -m zoo list | run | table | check | new-learner | doctor | ...

A composition root; what a command needs is imported when it is called, so that `list` and
`--help` start at once.
"""

import sys
from pathlib import Path

from zoo.registry import backbones


def register_ours() -> None:
    """Enter every key of the checkout; imports nothing that a key names."""
    import baselines  # noqa: F401
    import datasets  # noqa: F401

    backbones.scan("zoo", [str(Path(__file__).parent)])


if __name__ == "__main__":
    sys.exit(main())
