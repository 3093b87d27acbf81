"""Features in place of images, so that an image in many episodes is embedded only once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.datasets.episodes.image_store import Store

MOST_AT_ONCE = 64  # images
PIXELS_AT_ONCE = 70_000  # of all images that are embedded at once


@dataclass(frozen=True, eq=False)
class Features(Store):
    """A store whose ``images`` are the features of some of its n images: float (used, D)."""

    places: Tensor  # (n,) int64: for each image the row of `images` with its features, or -1

    def gather(self, rows: Tensor) -> Tensor:
        """The features of the images `rows`: int64 (m,) -> (m, D)."""
        return super().gather(self.places[rows])


def images_at_once(image: Sequence[int]) -> int:
    """How many images a network had best embed at once, so that its maps stay in the cache.

    On a processor, Conv4 took 0.7 of the time for images of 84x84 with 9 at once that it took with
    64 (``python -m tests.bench.embedding``).

    Args:
        image: (C, H, W).
    """
    return max(1, min(MOST_AT_ONCE, PIXELS_AT_ONCE // (image[-2] * image[-1])))


def embed(
    store: Store, used: np.ndarray, network: Callable[[Tensor], Tensor], progress: bool
) -> Features:
    """Embed images of a store, each once.

    The batches depend on `used` only, so rounding is the same every time.

    Args:
        store: of the images.
        used: rows of the images to embed, in any order; repeats are allowed.
        network: (n, *image) uint8 -> (n, D), each image by itself.
        progress: whether to show a bar.
    """
    from tqdm import tqdm

    rows = torch.from_numpy(np.unique(used))
    places = torch.full((len(store.images),), -1)
    places[rows] = torch.arange(len(rows))
    features = torch.empty(0)
    with torch.no_grad(), tqdm(total=len(rows), unit=" images", disable=not progress) as bar:
        bar.set_description("embedding the test")
        for batch in rows.split(images_at_once(store.images.shape[1:])):
            z = network(store.gather(batch))
            if not len(features):  # allocated whole: joining parts would take twice the memory
                features = z.new_empty(len(rows), *z.shape[1:])
            features[places[batch]] = z
            bar.update(len(batch))
    return Features(features, store.offsets, store.names, store.fingerprint, places)
