"""Predictions of many photos: seconds of the whole command. Goal: 1,000 in 15 s on two cores.

`python -m tests.bench.predict [PHOTOS]` writes photos of 500x375 pixels as JPEG, a tenth of them
for each of ten classes, five more of each as support, and ProtoNet's untrained weights for images
of 84x84; then calls `zoo predict` with a page, in a process of its own, and prints how long it took
from its start to its end.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from zoo.networks.backbone import build_backbone
from zoo.registry import learners
from zoo.runs.settings import constructor_defaults
from zoo.runs.weights import save_weights

CLASSES, SHOTS, SIZE = 10, 5, (500, 375)


def write_photos(folder: Path, count: int) -> None:
    """Photos with as much in them as real ones: coarse and fine noise on the colour of a class."""
    rng = np.random.default_rng(0)
    for number in range(count):
        kind = number % CLASSES
        coarse = Image.fromarray(rng.integers(0, 256, (47, 63, 3), np.uint8)).resize(SIZE)
        fine = rng.integers(0, 40, (SIZE[1], SIZE[0], 3), np.uint8)
        colour = np.uint8([20 * kind, 200 - 20 * kind, 100])
        path = folder / f"class {kind}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(coarse) // 4 + fine + colour // 2).save(path, quality=90)


def write_weights(path: Path) -> None:
    """ProtoNet's weights for 84x84, as a run leaves them, but untrained."""
    cls = learners.get("protonet")
    torch.manual_seed(0)
    learner = cls(build_backbone("conv4", (3, 84, 84)), 5)
    settings = {name: each.value for name, each in constructor_defaults(cls).items()}
    about = {
        "run": path.stem, "learner": "protonet", "title": "ProtoNet, untrained",
        "benchmark": "folder", "settings": settings, "way": 5, "image": [3, 84, 84],
        "mean": [0.5] * 3, "std": [0.25] * 3,
    }  # fmt: skip
    save_weights(path, learner, about)


def main() -> None:
    """Write photos and weights, then time the command."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_photos(folder / "known", SHOTS * CLASSES)
        write_photos(folder / "new", count)
        write_weights(folder / "protonet.safetensors")
        page = folder / "predictions.html"
        words = ["predict", folder / "protonet.safetensors", "--support", folder / "known"]
        words += ["--query", folder / "new", "-o", page]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "zoo", *map(str, words)], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = page.stat().st_size / 1e6
        print(
            f"{count:,} photos of {SIZE[0]}x{SIZE[1]} pixels, ProtoNet at 84x84, {CLASSES} classes "
            f"of {SHOTS} support photos: {seconds:.1f} s, {used.ru_utime + used.ru_stime:.1f} s of "
            f"CPU, with a page of {size:.1f} MB"
        )


if __name__ == "__main__":
    main()
