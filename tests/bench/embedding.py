"""Seconds to embed test images, by how many go through the network at once.

`python -m tests.bench.embedding` embeds images of several sizes with Conv4 on one thread, 64 at
once, as many as `images_at_once` says, and fewer and more, and prints CPU seconds of the fastest of
three turns.
"""

import time

import torch

from zoo.datasets.episodes.embedded_images import MOST_AT_ONCE, images_at_once
from zoo.networks.backbone import build_backbone

PIXELS = 1_500_000  # of all images of a turn
TURNS = 3


def seconds(network: torch.nn.Module, x: torch.Tensor, at_once: int) -> float:
    """CPU seconds of one turn, `at_once` images at a time."""
    started = time.process_time()
    with torch.no_grad():
        for part in x.split(at_once):
            network(part)
    return time.process_time() - started


def main() -> None:
    """Time each size of image, its numbers at once in turn."""
    torch.set_num_threads(1)
    for side in (28, 32, 48, 84, 160):
        network = build_backbone("conv4", (3, side, side)).eval()
        x = torch.randn(PIXELS // side**2, 3, side, side)
        ours = images_at_once((3, side, side))
        numbers = sorted({ours, max(1, ours // 4), MOST_AT_ONCE, 2 * MOST_AT_ONCE})
        best = dict.fromkeys(numbers, float("inf"))
        for _ in range(TURNS):
            for number in numbers:
                best[number] = min(best[number], seconds(network, x, number))
        words = ", ".join(f"{number}: {best[number]:.2f} s" for number in numbers)
        ratio = best[ours] / best[MOST_AT_ONCE]
        print(f"{side}x{side}, at once {words}; ours ({ours}) takes {ratio:.2f} of {MOST_AT_ONCE}")


if __name__ == "__main__":
    main()
