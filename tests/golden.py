"""What must stay as it is, whatever is moved or renamed: settings, names, fingerprints, numbers.

`golden.json` beside this file holds them; `test_golden.py` compares. To write it anew after a
change that is meant, or to show that the commit at hand changes no bit of what another one gives
(on one machine, with one thread, both in turn):

    python -m tests.golden --write
    python -m tests.golden --against COMMIT
"""

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from zoo import learners
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.files import write_json
from zoo.registry import benchmarks, learner_of
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.settings import constructor_defaults, resolve, settings_rows
from zoo.runs.workspace import Workspace

FILE = Path(__file__).with_name("golden.json")
ROOT = Path(__file__).parent.parent
SHAPES = {"miniimagenet": (3, 84, 84), "cifarfs": (3, 32, 32), "omniglot": (1, 28, 28)}
JOBS: list[tuple[str, str, dict[str, Any]]] = [
    # learner, benchmark, how; stand-ins of the right size take the place of a benchmark's images
    ("anil", "cifarfs", {"shot": 5}),
    ("cnp", "omniglot", {"terms": "equal"}),
    ("cnp", "sinusoid", {"budget": "paper"}),
    ("finetune", "miniimagenet", {"shot": 5}),
    ("maml", "glyphs", {"seed": 3}),
    ("maml", "miniimagenet", {"budget": "paper"}),
    ("maml[first_order=true]", "omniglot", {"way": 20}),
    ("maml", "sinusoid", {"shot": 10}),
    ("mann", "omniglot", {}),
    ("matchingnet[fce=true]", "miniimagenet", {"budget": "smoke"}),
    ("metanet", "omniglot", {}),
    ("metasgd", "sinusoid_metasgd", {"shot": 5}),
    ("npbml", "glyphs", {}),
    ("npbml", "miniimagenet", {"shot": 5, "terms": "equal"}),
    ("pixelnn", "glyphs", {}),
    ("pretrained", "cifarfs", {}),
    ("protonet", "miniimagenet", {"shot": 5, "budget": "paper"}),
    ("protonet", "omniglot", {"flags": {"updates": 100, "meta_batch": 2}}),
    ("reptile", "sinusoid_reptile", {"shot": 10}),
    ("snail", "omniglot", {}),
    ("tnet", "glyphs", {"shot": 5}),
    ("trlearner", "glyphs", {}),
    ("trlearner[host=protonet,say=aligned]", "cifarfs", {"shot": 5}),
]
TRAINED = [  # of a few updates each
    *((learner, "glyphs") for learner in (
        "anil", "blur", "cnp", "finetune", "linear", "maml", "mann", "matchingnet", "mean",
        "metanet", "metasgd", "npbml", "pixelnn", "pretrained", "protonet", "reptile", "snail",
        "tnet", "trlearner", "vsml",
    )),
    *((learner, "sinusoid") for learner in ("maml[inner_steps=2]", "cnp", "trlearner")),
]  # fmt: skip
SHORT = {"updates": 3, "validations": 1, "val_episodes": 4, "test_episodes": 8, "meta_batch": 2,
         "query": 3, "train_query": 3}  # fmt: skip


def digest(content: Any) -> str:
    """A hash of anything that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def every_setting() -> dict[str, str]:
    """By learner, a hash of its settings and their origins on every benchmark, budget and terms."""
    rows = settings_rows()
    found = {}
    for key in learners.names():
        cls, resolved = learner_of(key)[1], []
        for benchmark, shot, terms, budget in itertools.product(
            benchmarks.names(),
            (1, 5),
            ("paper", "equal"),
            ("none", "smoke", "quick", "hour", "paper"),
        ):
            settings, _ = resolve(
                RunRequest(key, benchmark, 5, shot, terms, budget), cls, rows, query=5
            )
            resolved.append({name: setting for name, setting in sorted(settings.items())})
        found[key] = digest(resolved)
    return found


def stand_in(image: tuple[int, ...], seed: int) -> Store:
    """64 classes of 20 images whose pixels follow from their place, not from a random generator."""
    shape = (64, 20, *image)
    pixels = np.arange(np.prod(shape), dtype=np.uint64) + np.uint64(seed)
    pixels = (pixels * np.uint64(2654435761) >> np.uint64(13)).astype(np.uint8)
    return Store.from_arrays([f"class {c}" for c in range(64)], pixels.reshape(shape))


def planned(folder: Path) -> dict[str, Any]:
    """Of each of `JOBS`: settings, run name, hashes of its stages, fingerprints of its data."""
    workspace = Workspace(None, folder / "results", folder / "runs", "cpu", threads=1)
    stand_ins = {
        name: {split: stand_in(image, seed) for seed, split in enumerate(("train", "val", "test"))}
        for name, image in SHAPES.items()
    }
    found = {}
    for learner, benchmark, how in JOBS:
        run = Run(
            RunRequest(learner, benchmark, **how),
            workspace=workspace,
            stores=stand_ins.get(benchmark),
        )
        found[" ".join([learner, benchmark, *(f"{k}={v}" for k, v in how.items())])] = {
            "name": run.name,
            "title": run.title,
            "settings": {name: setting.value for name, setting in run.settings.items()},
            "stages": {each.stage.name: each.hash for each in run.stages},
            "data": run.data.fingerprint(),
            "stores": {split: store.fingerprint for split, store in run.stores.items()},
            "test episodes": run.data.test_fingerprint(),
        }
    return found


def trained(learner: str, benchmark: str, folder: Path) -> dict[str, Any]:
    """What a run of a few updates measures."""
    _, cls, _ = learner_of(learner)
    flags: dict[str, Any] = dict(SHORT)
    if benchmark == "glyphs":
        flags["backbone"] = "conv4_strided[channels=8]"
        flags["train_way"] = 5
    if cls.family == "reference":
        flags["updates"] = 0
    short = {"pretrain_updates": 3, "pretrain_validations": 1, "pretrain_val_episodes": 4,
             "pretrain_batch": 8}  # fmt: skip
    if learner in ("finetune", "pretrained", "npbml"):
        flags |= {"pretrained_from": "pretrain", **short}
    if "relation_updates" in constructor_defaults(cls):
        flags["relation_updates"] = 3
    workspace = Workspace(None, folder / "results", folder / "runs", "cpu", threads=1)
    try:
        run = Run(
            RunRequest(
                learner,
                benchmark,
                shot=1 if benchmark == "glyphs" else 5,
                budget="smoke",
                flags=flags,
            ),
            workspace=workspace,
        )
    except UsageError as error:
        raise AssertionError(f"{learner} on {benchmark}: {error}") from None
    record = run.execute(progress=False)
    return {
        "status": record["status"],
        "validation": record["validation"],
        "metrics": {name: value["mean"] for name, value in record["metrics"].items()},
        "parameters": record["parameters"],
    }


def golden() -> dict[str, Any]:
    """All of it, computed now."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            "settings": every_setting(),
            "runs": planned(folder),
            "trained": {
                f"{learner} {benchmark}": trained(learner, benchmark, folder)
                for learner, benchmark in TRAINED
            },
        }


def of_commit(commit: str) -> dict[str, Any]:
    """The same, computed by the code of another commit of this repository."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["git", "worktree", "add", "--detach", name, commit], cwd=ROOT, check=True)
        try:
            command = [sys.executable, "-m", "tests.golden"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                command, cwd=name, env=environment, check=True, stdout=subprocess.PIPE
            )
            return dict(json.loads(done.stdout.splitlines()[-1]))  # stages print before it
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", name], cwd=ROOT, check=True)


def differences(here: Any, there: Any, at: str = "") -> list[str]:
    """Where two of them differ, exactly, a line each."""
    if isinstance(here, dict) and isinstance(there, dict):
        return [
            line
            for name in {**here, **there}
            for line in differences(here.get(name), there.get(name), f"{at} / {name}".strip(" /"))
        ]
    return [] if here == there else [f"{at}: {there} there, {here} here"]


def main() -> int:
    """Print it, write it, or compare two commits; returns 1 if they differ, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help=f"into {FILE.name}")
    parser.add_argument("--against", metavar="COMMIT", help="compare with the code of a commit")
    options = parser.parse_args()
    if options.against:
        lines = differences(of_commit("HEAD"), of_commit(options.against))
        print("\n".join(lines) or f"HEAD and {options.against} give the same, bit for bit")
        return int(bool(lines))
    found = golden()
    if options.write:
        write_json(FILE, found)
    else:
        json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
