"""Features in place of images: an image that many episodes share is embedded once."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.datasets.episodes.image_store import Store

IMAGES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Features(Store):
    """A store whose ``images`` are features, float (m, D), of those of its images in use."""

    places: Tensor  # (n,) int64: which row of `images` has an image's features; -1: none has

    def gather(self, rows: Tensor) -> Tensor:
        """The features of the images `rows`: int64 (m,) -> (m, D)."""
        return super().gather(self.places[rows])


def embed(
    store: Store, used: np.ndarray, network: Callable[[Tensor], Tensor], progress: bool
) -> Features:
    """Embed images of a store, each once.

    The batches follow from `used` alone, so that they round the same way every time.

    Args:
        store: of the images.
        used: rows of the images to embed, in any order and as often as may be.
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
        for batch in rows.split(IMAGES_AT_ONCE):
            z = network(store.gather(batch))
            if not len(features):  # all of it at once: parts joined later would be there twice
                features = z.new_empty(len(rows), *z.shape[1:])
            features[places[batch]] = z
            bar.update(len(batch))
    return Features(features, store.offsets, store.names, store.fingerprint, places)
