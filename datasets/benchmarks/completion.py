"""Image completion: a task is an image, as a function from a pixel's place to its colour."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.datasets.benchmarks.regression import Regression
from zoo.datasets.episodes.hash_random import Integers, derive
from zoo.errors import UsageError
from zoo.registry import register_benchmark

if TYPE_CHECKING:  # the doctor reads this file, and needs no torch
    from zoo import Episode
    from zoo.datasets.episodes.image_store import Store


class Pixels(NamedTuple):
    """T tasks: for each an image of the split, and numbers of its pixels, counted row by row."""

    image: Integers  # (T,)
    support: Integers  # (T, K), in random order
    query: Integers  # (T, Q), in the image's order


class PixelSampler:
    """Draws the tasks of one shape: task i has the same image and queries whatever the shot."""

    way = 1

    def __init__(
        self, images: int, pixels: int, shot: int, query: int, key: NDArray[np.uint64]
    ) -> None:
        """Check that such tasks can be drawn.

        Args:
            images: in the split.
            pixels: of each image.
            shot: K, the pixels that are shown.
            query: Q. Support and query share no pixel if the image has K + Q; if the query is the
                whole image, the support is part of it.
            key: from `zoo.datasets.episodes.hash_random.key_of`.

        Raises:
            UsageError: an image has fewer than K or than Q pixels.
        """
        for flag, value in (("--shot", shot), ("--query", query)):
            if value > pixels:
                train = flag.replace("--", "--train_")
                raise UsageError(
                    f"{flag} (in training {train}) {value}: an image has {pixels} pixels"
                )
        self.images, self.pixels, self.shot, self.query = images, pixels, shot, query
        self.key = key

    def indices(self, first: int, tasks: int) -> Pixels:
        """Tasks first, ..., first + tasks - 1."""
        task_keys = derive(self.key, np.arange(first, first + tasks, dtype=np.uint64))
        image_keys, pixel_keys = (derive(task_keys, np.full(1, s, np.uint64)) for s in range(2))
        image = ((image_keys >> np.uint64(32)) * np.uint64(self.images)) >> np.uint64(32)
        sort_keys = derive(pixel_keys[:, None], np.arange(self.pixels, dtype=np.uint64))
        order = sort_keys.argsort(1, kind="stable").astype(np.int64)
        query = np.sort(order[:, self.pixels - self.query :], 1)
        return Pixels(image.astype(np.int64), order[:, : self.shot], query)


class ImagesAsFunctions:
    """The images of a split as functions; for completion what `Functions` is for regression."""

    def __init__(self, benchmark: "Completion", store: "Store") -> None:
        self.store = store
        self.fingerprint = f"completion, version {benchmark.version}, of {store.fingerprint}"

    def sampler(
        self, way: int, shot: int, query: int, key: NDArray[np.uint64], split: str = ""
    ) -> PixelSampler:
        """The sampler of its tasks; `way` is not used, as the number of outputs is fixed."""
        images, _, height, width = self.store.images.shape
        return PixelSampler(images, height * width, shot, query, key)

    def meta_batch(self, drawn: PixelSampler, pixels: Pixels) -> "Episode":
        """The tasks as a learner is given them: x (T, n, 2) and y (T, n, C), float in [0, 1]."""
        import torch

        from zoo import Episode, Examples

        images = self.store.gather(torch.from_numpy(pixels.image))  # (T, C, H, W)
        _, channels, height, width = images.shape
        colours = images.flatten(2).mT  # (T, H*W, C)

        def examples(places: Integers) -> Examples:
            at = torch.from_numpy(places)
            x = torch.stack([at // width / (height - 1), at % width / (width - 1)], -1)
            y = colours.gather(1, at.unsqueeze(-1).expand(-1, -1, channels))
            return Examples(x, y.float() / 255)

        return Episode(examples(pixels.support), examples(pixels.query), channels)


@register_benchmark("completion")
class Completion(Regression):
    """Complete images from some pixels (Garnelo et al. 2018): row, column -> grey or colour."""

    key = "completion"
    title = "Image completion"
    allowed: ClassVar = {"images": ("glyphs", "omniglot", "cifarfs")}
    image = (2,)
    shots = "10 100"
    quick_seconds = 180

    @property
    def source(self) -> Benchmark:
        """The benchmark whose images it uses."""
        return find_benchmark(self.options["images"])

    @property
    def outputs(self) -> int:  # type: ignore[override]
        """The channels of an image."""
        return self.source.image[0]

    @property
    def licence(self) -> str:  # type: ignore[override]
        """The licence of the images."""
        return self.source.licence

    @property
    def query(self) -> int:  # type: ignore[override]
        """All pixels of an image."""
        _, height, width = self.source.image
        return height * width

    def open(self, data: Path | None = None) -> dict[str, ImagesAsFunctions]:  # type: ignore[override]
        """The images of each split as functions."""
        return {
            split: ImagesAsFunctions(self, store) for split, store in self.source.open(data).items()
        }
