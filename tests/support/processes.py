"""Running commands of the zoo as processes, for tests that stop them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start_python(words: Sequence[object]) -> subprocess.Popen[str]:
    """Start Python in the checkout with these arguments; output is kept, and runs save often."""
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "ZOO_SECONDS_BETWEEN_SAVES": "0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def start_zoo(*words: object) -> subprocess.Popen[str]:
    """Start ``python -m zoo`` with these arguments."""
    return start_python(["-m", "zoo", *words])


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait until the condition holds, while the process runs; fail after two minutes."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
