"""What runs left in their folders, bit for bit, and whether any of it was lost on the way."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.faults.fault import LOST, UNEQUAL, Outcome

OF_RECORD = ("status", "metrics", "validation", "tested_update", "failure", "calibration")


def numbers_in(folder: Path) -> dict[str, str]:
    """Every number that the runs below a folder gave, by run and name, as text or as a hash.

    These are those of the records, what each episode gave, and the weights.
    """
    found = {}
    for path in sorted((folder / "results").rglob("*.json")):
        record = json.loads(path.read_bytes())
        for name in OF_RECORD:
            found[f"{path.stem}: {name}"] = json.dumps(record.get(name))
        found[f"{path.stem}: updates"] = str(record["updates"]["total"])
        if path.with_suffix(".npz").exists():
            with np.load(path.with_suffix(".npz")) as arrays:
                for name, array in arrays.items():
                    found[f"{path.stem}: {name}"] = _hash(array.tobytes())
        if record["weights"]:
            content = path.with_suffix(".safetensors").read_bytes()
            found[f"{path.stem}: weights"] = _hash(content)
    return found


def compared(expected: Mapping[str, str], found: Mapping[str, str]) -> Outcome:
    """Whether what was found is what an undisturbed run gave; nothing said where it is."""
    lost = sorted(expected.keys() - found.keys())
    unequal = sorted(
        name for name in expected.keys() & found.keys() if expected[name] != found[name]
    )
    more = sorted(found.keys() - expected.keys())
    if lost:
        return Outcome((LOST,), f"missing: {', '.join(lost)[:500]}")
    if unequal or more:
        return Outcome((UNEQUAL,), f"other: {', '.join([*unequal, *more])[:500]}")
    return Outcome(())


class Progress:
    """What runs below a folder have kept at a moment, to see later that it was not done again."""

    def __init__(self, folder: Path) -> None:
        """Look at it now, while no process works in it."""
        self._folder = folder
        finished = [*(folder / "results").rglob("*.json"), *folder.glob("runs/stages/*/stage.json")]
        self._times = {path: path.stat().st_mtime_ns for path in finished}
        self._updates = {
            path.parent.name: torch.load(path, weights_only=False)["global_step"]
            for path in folder.glob("runs/*/last.ckpt")
            if not (folder / "results" / f"{path.parent.name}.json").exists()
        }

    def lost_since(self) -> Outcome:
        """Whether a finished run or stage was made again, or an update that had been kept."""
        lost = [path.name for path, then in self._times.items() if _changed(path, then)]
        for name, updates in self._updates.items():
            path = self._folder / "results" / f"{name}.json"
            made = json.loads(path.read_bytes())["updates"] if path.exists() else None
            if made and made["executed_by_this_process"] > made["total"] - updates:
                lost.append(f"{name} had made {updates} of {made['total']} updates and made {made}")
        return Outcome((LOST,), f"done again: {', '.join(lost)}") if lost else Outcome(())


def passes_begun(folder: Path) -> Outcome:
    """Whether a run opened the test split more than once."""
    more = [
        path.stem
        for path in (folder / "results").rglob("*.json")
        if json.loads(path.read_bytes())["test_passes_begun"] > 1
    ]
    return Outcome((LOST,), f"tested twice: {', '.join(more)}") if more else Outcome(())


def _changed(path: Path, then: int) -> bool:
    return not path.exists() or path.stat().st_mtime_ns != then


def _hash(content: Any) -> str:
    return hashlib.sha256(content).hexdigest()
