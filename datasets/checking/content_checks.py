"""Checks of an image set's content, made once a content: equal images, channel order, sizes.

They look at the pixels in the stores. What they found is kept beside the stores, so that a second
look, and every start of `run` and `table`, costs nothing. `doctor` shows it; `run` and `table`
refuse what fails.
"""

import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.datasets.readers.base import Reader, image_size, in_order
from zoo.datasets.readers.own_listing import shown
from zoo.errors import UsageError
from zoo.files import store_slug, write_json

if TYPE_CHECKING:  # torch takes longer than a look at what is kept
    from zoo.datasets.episodes.image_store import Store
    from zoo.datasets.readers.base import ImageSet

CHECKS_VERSION = 1  # of the checks: a change makes them anew
FEW = 3  # things named in one sentence

# Published numbers of images where classes differ (tiered-ImageNet:
# renmengye/few-shot-ssl-public#8, which gives those of train and of all splits alone).
TOTALS = {
    "tieredimagenet": {"train": 448_695, "val": 124_261, "test": 206_209, "all": 779_165},
    "cub": {"all": 11_788},
}
UNSURE = {("tieredimagenet", "val"), ("tieredimagenet", "test")}
KNOWN_TOTALS = {("cub", 11_745): "learn2learn's copy: 43 images that ImageNet has are left out"}

# Sets that are published with red first. Over a whole split red exceeds blue by about 16.
RED_FIRST = {"miniimagenet", "tieredimagenet", "cifarfs", "fc100"}
MARGIN = 4

PAIR_KINDS = ("within a class", "across classes of a split", "across splits")
# How many pairs of equal images of each kind the published set holds, counted on copies that are
# identical to it, pixel by pixel.
PUBLISHED_PAIRS = {"cifarfs": (9, 2, 15), "fc100": (9, 14, 3), "omniglot": (4, 4, 0)}

MOST = 0.9  # a size that so many images have is the set's
LEFT_OUT = "left out"  # the kind of finding that says what is passed over
CONSTANT = 1e-3  # where more images of a published set have one colour, pixels were lost


class Finding(NamedTuple):
    """Something that a person should know of."""

    kind: str  # for programs
    failure: bool  # whether the set cannot be used; else a warning
    text: str  # one sentence, with the file and what to do


def some(names: Iterable[object], count: int | None = None) -> str:
    """The first few of many, and how many more there are."""
    names = list(names)
    left = (len(names) if count is None else count) - FEW
    return ", ".join(map(str, names[:FEW])) + (f" and {left:,} more" if left > 0 else "")


def store_folder(benchmark: "ImageSet", reader: Reader, data: Path | None) -> Path:
    """Where the stores of the images below `data` lie.

    In ``DATA/zoo-store``, but those of own images in a folder of their own in the user's cache,
    unless such a folder lies among them from before. ZOO_STORE names another place.
    """
    named, there = os.environ.get("ZOO_STORE"), Path(f"{data}/zoo-store")
    if not benchmark.own:
        return Path(named) if named else there
    if there.is_dir() and not named:
        return there
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    place = reader.folder.resolve()
    end = blake2b(os.fsencode(place), digest_size=4).hexdigest()
    return Path(named or f"{cache}/zoo") / f"{store_slug(shown(place.name))}-{end}"


def open_stores(benchmark: "ImageSet", reader: Reader, data: Path | None) -> dict[str, "Store"]:
    """The store of each split, built if need be; see `Benchmark.open`."""
    from zoo.datasets.episodes.image_store import open_store

    stem = store_folder(benchmark, reader, data) / store_slug(benchmark.source.variant)
    return {split: open_store(Path(f"{stem}.{split}"), reader, split) for split in reader.lists}


def open_checked(benchmark: "ImageSet", reader: Reader, data: Path | None) -> dict[str, "Store"]:
    """`open_stores`, and a refusal of contents that fail a check.

    Warnings are printed once, what is left out of own images every time.

    Raises:
        UsageError: something is wrong with the images.
    """
    stores = open_stores(benchmark, reader, data)
    facts, new = checked(benchmark, reader, stores, data)
    for finding in map(Finding._make, facts["findings"]):
        if finding.failure:
            command = f'python -m zoo doctor "{data}" --benchmark "{benchmark.variant}"'
            raise UsageError(f"{reader.folder}: {finding.text}; {command} says more")
        if new or finding.kind == LEFT_OUT:
            print(f"{benchmark.variant}: {finding.text}", file=sys.stderr)
    return stores


def checked(
    benchmark: "ImageSet", reader: Reader, stores: Mapping[str, "Store"], data: Path | None
) -> tuple[dict[str, Any], bool]:
    """What `check` says of these stores, and whether it was made just now."""
    key = [CHECKS_VERSION, reader.form, [store.fingerprint for store in stores.values()]]
    key += left_out_lines(reader, stores)
    path = (
        store_folder(benchmark, reader, data)
        / f"{store_slug(benchmark.source.variant)}.checks.json"
    )
    return kept_facts(path, key, lambda: check(benchmark, reader, stores))


def kept_facts(
    path: Path, key: list[Any], make: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """Facts kept in a file as long as their key is the same, and whether they were made now.

    Facts with a finding that is a failure are not kept: it is to be mended, and looked for again.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return kept["facts"], False
    except (OSError, ValueError, KeyError, TypeError):
        pass
    facts = make()
    if not any(Finding(*finding).failure for finding in facts["findings"]):
        try:
            write_json(path, {"key": key, "facts": facts})
        except OSError:
            pass  # a folder of somebody else's: they are made every time
    return facts, True


def check(benchmark: "ImageSet", reader: Reader, stores: Mapping[str, "Store"]) -> dict[str, Any]:
    """Look at every image once.

    Args:
        benchmark: of the images.
        reader: of the images.
        stores: of its splits.

    Returns:
        ``findings``, each as `Finding` has it; ``pairs`` of equal images by kind; ``means`` of the
        channels by split; the numbers of images that are ``constant`` and of ``odd_size``.
    """
    looks, means = [], {}
    for split, store in stores.items():
        pixels, ends = store.images.numpy(), store.offsets.tolist()
        parts = list(in_order(look_at_images, (pixels[a:b] for a, b in itertools.pairwise(ends))))
        looks += parts
        sums = np.sum([part.sums for part in parts], 0)
        means[split] = (sums / (len(pixels) * pixels[0, 0].size)).round(2).tolist()
    images = ImageNames(stores)
    digests, constant = (np.concatenate(parts) for parts in list(zip(*looks, strict=True))[:2])
    pairs, examples = equal_pairs(digests, images)
    key, counts = benchmark.key, {name: len(store.images) for name, store in stores.items()}
    findings = wrong_totals(key, counts)
    if not benchmark.own:  # whose blue is nobody's business
        findings += swapped_channels(key, means)
    findings += [Finding(LEFT_OUT, False, line) for line in left_out_lines(reader, stores)]
    if reader.remark:
        findings.append(Finding("layout", False, reader.remark))
    if any(pairs):
        kinds = ", ".join(f"{n:,} {kind}" for n, kind in zip(pairs, PAIR_KINDS, strict=True) if n)
        known = PUBLISHED_PAIRS.get(key)
        told = "they are left as they are"
        if known:
            same = known == pairs
            told = f"the published set has {'them too' if same else ', '.join(map(str, known))}"
        text = f"pairs of equal images: {kinds} ({some(examples, sum(pairs))}); {told}"
        findings.append(Finding("duplicates", False, text))
    if blank := np.flatnonzero(constant).tolist():
        text = f"{len(blank):,} images of one colour: {some(map(images.name, blank))}"
        lost = len(blank) > CONSTANT * len(constant) and not benchmark.own
        findings.append(Finding("constant", lost, text))
    if odd := odd_sizes(reader):
        text = f"{len(odd):,} images have another size than the rest: {some(odd)}; squashed"
        findings.append(Finding("size", False, text))
    return {
        "findings": findings,
        "pairs": dict(zip(PAIR_KINDS, pairs, strict=True)),
        "means": means,
        "constant": len(blank),
        "odd_size": len(odd),
    }


def left_out_lines(reader: Reader, stores: Mapping[str, "Store"]) -> list[str]:
    """What was passed over in listing images, and what of each split could not be read."""
    return [line for line in (reader.left_out, *(s.left_out for s in stores.values())) if line]


class Look(NamedTuple):
    """What is seen of a class's images at one look."""

    digests: np.ndarray  # (n,) uint64, of the pixels of each image
    constant: np.ndarray  # (n,) bool, whether an image has but one colour in every channel
    sums: np.ndarray  # (C,) of each channel's pixels


def look_at_images(images: np.ndarray) -> Look:
    """Look at images uint8 (n, C, H, W)."""
    digests = b"".join(blake2b(image, digest_size=8).digest() for image in images)
    flat = images.reshape(*images.shape[:2], -1)
    constant = (flat.max(2) == flat.min(2)).all(1)
    return Look(np.frombuffer(digests, np.uint64), constant, flat.sum((0, 2), dtype=np.int64))


class ImageNames:
    """Split, class and name of every image of all splits, by a running number."""

    def __init__(self, stores: Mapping[str, "Store"]) -> None:
        counts = [np.diff(store.offsets) for store in stores.values()]
        self.starts = np.cumsum([0, *np.concatenate(counts)])
        self.names = [f"{s} {name}" for s, store in stores.items() for name in store.names]
        self.classes = np.repeat(np.arange(len(self.names)), np.concatenate(counts))
        self.splits = np.repeat(np.arange(len(counts)), [part.sum() for part in counts])

    def of(self, number: int) -> str:
        """The class of an image: ``train apple``."""
        return self.names[self.classes[number]]

    def name(self, number: int) -> str:
        """``train apple 7``, the image's place within its class in the store."""
        return f"{self.of(number)} {number - self.starts[self.classes[number]]}"


def equal_pairs(digests: np.ndarray, images: ImageNames) -> tuple[tuple[int, ...], list[str]]:
    """Pairs of equal images: how many of each of `PAIR_KINDS`, and a few in words, worst first."""
    order = np.argsort(digests, kind="stable")
    same = np.flatnonzero(digests[order][1:] == digests[order][:-1])
    one, two = order[same], order[same + 1]  # of every kind that there is, some are neighbours
    rows = np.union1d(one, two)

    def agreeing(*labels: np.ndarray) -> int:
        """How many pairs agree in all labels."""
        labels = tuple(label[rows].astype(np.uint64) for label in labels)
        sizes = np.unique(np.stack(labels, 1), axis=0, return_counts=True)[1]
        return int((sizes * (sizes - 1) // 2).sum())

    in_class, in_split = agreeing(digests, images.classes), agreeing(digests, images.splits)
    pairs = (in_class, in_split - in_class, agreeing(digests) - in_split)
    kind = (images.classes[one] != images.classes[two]).astype(int)
    kind += images.splits[one] != images.splits[two]
    worst = np.argsort(-kind, kind="stable")[:FEW].tolist()
    return pairs, [f"{images.of(one[i])} = {images.of(two[i])}" for i in worst]


def odd_sizes(reader: Reader) -> list[str]:
    """Image files of another size than nearly all others; none where sizes differ anyway."""
    files = [path for split in reader.lists for path in reader.image_files(split)]
    sizes = [image_size(path) for path in files]
    usual, count = Counter(sizes).most_common(1)[0] if files else ((0, 0), 0)
    if count < MOST * len(files):
        return []
    return [
        f"{path} ({size[0]}x{size[1]})"
        for path, size in zip(files, sizes, strict=True)
        if size != usual
    ]


def wrong_totals(benchmark: str, counts: Mapping[str, int]) -> list[Finding]:
    """Published numbers of images, where classes differ, that are not the ones counted."""
    findings = []
    for part, published in TOTALS.get(benchmark, {}).items():
        count = sum(counts.values()) if part == "all" else counts[part]
        if count != published:
            where = "all splits" if part == "all" else part
            known = KNOWN_TOTALS.get((benchmark, count), "fetch it again")
            text = f"{count:,} images in {where}, published are {published:,}; {known}"
            failure = (benchmark, count) not in KNOWN_TOTALS and (benchmark, part) not in UNSURE
            findings.append(Finding("images", failure, text))
    return findings


def swapped_channels(benchmark: str, means: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Splits whose first channel is darker than its last, as nobody's red is than his blue."""
    findings = []
    for split, mean in means.items():
        if mean[-1] - mean[0] > MARGIN:
            text = (
                f"channel order suspected swapped (BGR) in {split}: the mean of channel 0 is "
                f"{mean[0]:.1f}, of channel 2 {mean[-1]:.1f}, where red should exceed blue by "
                "about 16; turn the channels round, or fetch the published files"
            )
            findings.append(Finding("channel order", benchmark in RED_FIRST, text))
    return findings
