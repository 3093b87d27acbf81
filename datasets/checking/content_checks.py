"""Checks of an image set's pixels: equal images, channel order, sizes, numbers of images.

They are made once for a set of stores and kept beside these, so that starting `run` or `table`
does not repeat them. `doctor` shows all findings; `run` and `table` refuse a set with a failure.
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

if TYPE_CHECKING:  # importing torch takes longer than reading what is kept
    from zoo.datasets.episodes.image_store import Store
    from zoo.datasets.readers.base import ImageSet

CHECKS_VERSION = 1  # raised when the checks change: then they are made again
FEW = 3  # how many things a sentence names

# Published numbers of images, for sets whose classes differ in theirs. Those of tiered-ImageNet's
# train and of all its splits are from renmengye/few-shot-ssl-public#8, which has no others.
TOTALS = {
    "tieredimagenet": {"train": 448_695, "val": 124_261, "test": 206_209, "all": 779_165},
    "cub": {"all": 11_788},
}
# Totals that we are not sure of: a difference is only a warning.
UNSURE = {("tieredimagenet", "val"), ("tieredimagenet", "test")}
KNOWN_TOTALS = {("cub", 11_745): "learn2learn's copy: 43 images that ImageNet has are left out"}

# Sets published with the red channel first. In each split the mean of red is about 16 above blue's.
RED_FIRST = {"miniimagenet", "tieredimagenet", "cifarfs", "fc100"}
MARGIN = 4  # if the last channel's mean exceeds the first's by more, they are taken to be swapped

PAIR_KINDS = ("within a class", "across classes of a split", "across splits")
# Pairs of equal images of each kind in the published sets, counted on copies that have the same
# pixels.
PUBLISHED_PAIRS = {"cifarfs": (9, 2, 15), "fc100": (9, 14, 3), "omniglot": (4, 4, 0)}

MOST = 0.9  # if this share of the images has one size, it is the size of the set
LEFT_OUT = "left out"  # kind of the findings on files that are left out
CONSTANT = 1e-3  # with a larger share of one-coloured images a published set has lost pixels


class Finding(NamedTuple):
    """A result of a check that a user should know."""

    kind: str  # a key for programs
    failure: bool  # whether the set cannot be used; else it is a warning
    text: str  # one sentence, with the file and what to do


def some(names: Iterable[object], count: int | None = None) -> str:
    """The first few names as text, and how many more there are.

    Args:
        names: the first ones, or all.
        count: how many there are in all; None: as many as `names`.
    """
    names = list(names)
    first = ", ".join(map(str, names[:FEW]))
    if count is None:
        count = len(names)
    return f"{first} and {count - FEW:,} more" if count > FEW else first


def store_folder(benchmark: "ImageSet", reader: Reader, data: Path | None) -> Path:
    """The folder of the stores of the images below `data`.

    It is ``DATA/zoo-store``. For a user's own images it is a folder in the user's cache, named
    after theirs, unless an older version has made ``DATA/zoo-store``. ZOO_STORE names another
    folder for both.
    """
    named = os.environ.get("ZOO_STORE")
    in_data = Path(f"{data}/zoo-store")
    if not benchmark.own:
        return Path(named) if named else in_data
    if in_data.is_dir() and not named:
        return in_data
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    images = reader.folder.resolve()
    digest = blake2b(os.fsencode(images), digest_size=4).hexdigest()
    return Path(named or f"{cache}/zoo") / f"{store_slug(shown(images.name))}-{digest}"


def open_stores(benchmark: "ImageSet", reader: Reader, data: Path | None) -> dict[str, "Store"]:
    """The store of each split, built first if it is missing or out of date."""
    from zoo.datasets.episodes.image_store import open_store

    stem = store_folder(benchmark, reader, data) / store_slug(benchmark.source.variant)
    return {split: open_store(Path(f"{stem}.{split}"), reader, split) for split in reader.lists}


def open_checked(benchmark: "ImageSet", reader: Reader, data: Path | None) -> dict[str, "Store"]:
    """The store of each split, if its content passes the checks.

    New warnings are printed once, what is left out of own images every time.

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
    """The result of `check` on these stores, kept or new, and whether it is new."""
    key = [CHECKS_VERSION, reader.form, [store.fingerprint for store in stores.values()]]
    key += left_out_lines(reader, stores)
    name = f"{store_slug(benchmark.source.variant)}.checks.json"
    path = store_folder(benchmark, reader, data) / name
    return kept_facts(path, key, lambda: check(benchmark, reader, stores))


def kept_facts(
    path: Path, key: list[Any], make: Callable[[], dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """The facts that a file keeps for this key; if it has none, new facts, which it then keeps.

    A damaged file counts as missing. Facts with a failure among their findings are not kept,
    because the user will mend the images and look again.

    Returns:
        The facts, and whether they are new.
    """
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        checksum = _checksum(key, kept["facts"])
        if kept["key"] == key and kept.get("checksum", checksum) == checksum:  # old files have none
            return kept["facts"], False
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    facts = make()
    if not any(Finding(*finding).failure for finding in facts["findings"]):
        try:
            write_json(path, {"key": key, "facts": facts, "checksum": _checksum(key, facts)})
        except OSError:
            pass  # the folder may be somebody else's; then the facts are made every time
    return facts, True


def _checksum(key: list[Any], facts: Mapping[str, Any]) -> str:
    text = json.dumps([key, facts], sort_keys=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def check(benchmark: "ImageSet", reader: Reader, stores: Mapping[str, "Store"]) -> dict[str, Any]:
    """Look at every image once.

    Args:
        benchmark: of the images.
        reader: of the images.
        stores: of its splits.

    Returns:
        ``findings``, a list of `Finding`; ``pairs``, the numbers of pairs of equal images by kind;
        ``means`` of the channels by split; the numbers of images that are ``constant``, of one
        colour, and of ``odd_size``, another size than the rest.
    """
    looks: list[Look] = []
    means: dict[str, list[float]] = {}
    for split, store in stores.items():
        pixels, ends = store.images.numpy(), store.offsets.tolist()
        classes = (pixels[start:end] for start, end in itertools.pairwise(ends))
        of_split = list(in_order(look_at_images, classes))
        looks += of_split
        sums = np.sum([look.sums for look in of_split], 0)
        means[split] = (sums / (len(pixels) * pixels[0, 0].size)).round(2).tolist()
    images = ImageNames(stores)
    digests = np.concatenate([look.digests for look in looks])
    constant = np.concatenate([look.constant for look in looks])
    key = benchmark.key
    counts = {split: len(store.images) for split, store in stores.items()}
    findings = wrong_totals(key, counts)
    if not benchmark.own:  # own images may well be blue
        findings += swapped_channels(key, means)
    findings += [Finding(LEFT_OUT, False, line) for line in left_out_lines(reader, stores)]
    if reader.remark:
        findings.append(Finding("layout", False, reader.remark))
    pairs, examples = equal_pairs(digests, images)
    if any(pairs):
        findings.append(duplicates(key, pairs, examples))
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


def duplicates(benchmark: str, pairs: tuple[int, ...], examples: list[str]) -> Finding:
    """The finding that there are equal images.

    Args:
        benchmark: its key.
        pairs: how many, of each of `PAIR_KINDS`.
        examples: a few, in words.
    """
    counts = zip(pairs, PAIR_KINDS, strict=True)
    kinds = ", ".join(f"{count:,} {kind}" for count, kind in counts if count)
    published = PUBLISHED_PAIRS.get(benchmark)
    if published is None:
        remark = "they are left as they are"
    elif published == pairs:
        remark = "the published set has them too"
    else:
        remark = f"the published set has {', '.join(map(str, published))}"
    text = f"pairs of equal images: {kinds} ({some(examples, sum(pairs))}); {remark}"
    return Finding("duplicates", False, text)


def left_out_lines(reader: Reader, stores: Mapping[str, "Store"]) -> list[str]:
    """Lines on files left out: those not listed, and the unreadable ones of each split."""
    return [line for line in (reader.left_out, *(s.unreadable for s in stores.values())) if line]


class Look(NamedTuple):
    """Facts about the images of a class, gathered in one pass over them."""

    digests: np.ndarray  # (n,) uint64, of the pixels of each image
    constant: np.ndarray  # (n,) bool, whether every channel of an image has one value only
    sums: np.ndarray  # (C,), sum of each channel's pixels


def look_at_images(images: np.ndarray) -> Look:
    """Look at the images of a class, uint8 (n, C, H, W)."""
    digests = b"".join(blake2b(image, digest_size=8).digest() for image in images)
    flat = images.reshape(*images.shape[:2], -1)
    constant = (flat.max(2) == flat.min(2)).all(1)
    return Look(np.frombuffer(digests, np.uint64), constant, flat.sum((0, 2), dtype=np.int64))


class ImageNames:
    """Split, class and name of every image; images of all splits are numbered consecutively."""

    def __init__(self, stores: Mapping[str, "Store"]) -> None:
        counts = [np.diff(store.offsets) for store in stores.values()]
        self.starts = np.cumsum([0, *np.concatenate(counts)])
        self.names = [f"{s} {name}" for s, store in stores.items() for name in store.names]
        self.classes = np.repeat(np.arange(len(self.names)), np.concatenate(counts))
        self.splits = np.repeat(np.arange(len(counts)), [of_split.sum() for of_split in counts])

    def class_of(self, number: int) -> str:
        """The class of an image: ``train apple``."""
        return self.names[self.classes[number]]

    def name(self, number: int) -> str:
        """An image by its place in its class in the store: ``train apple 7``."""
        return f"{self.class_of(number)} {number - self.starts[self.classes[number]]}"


def equal_pairs(digests: np.ndarray, images: ImageNames) -> tuple[tuple[int, ...], list[str]]:
    """How many pairs of equal images there are of each of `PAIR_KINDS`, and a few examples.

    Args:
        digests: (n,), of the pixels of each image.
        images: their names.

    Returns:
        The counts; examples in words, those across splits first.
    """
    order = np.argsort(digests, kind="stable")
    equal = np.flatnonzero(digests[order][1:] == digests[order][:-1])
    # Pairs of neighbours in this order: not all pairs, but some of each kind that occurs.
    one, two = order[equal], order[equal + 1]
    rows = np.union1d(one, two)

    def agreeing(*labels: np.ndarray) -> int:
        """How many pairs of the `rows` agree in all these labels, each (n,)."""
        columns = np.stack([label[rows].astype(np.uint64) for label in labels], 1)
        sizes = np.unique(columns, axis=0, return_counts=True)[1]
        return int((sizes * (sizes - 1) // 2).sum())

    in_class = agreeing(digests, images.classes)
    in_split = agreeing(digests, images.splits)
    pairs = (in_class, in_split - in_class, agreeing(digests) - in_split)
    kinds = (images.classes[one] != images.classes[two]).astype(int)
    kinds += images.splits[one] != images.splits[two]
    examples = np.argsort(-kinds, kind="stable")[:FEW].tolist()
    return pairs, [f"{images.class_of(one[i])} = {images.class_of(two[i])}" for i in examples]


def odd_sizes(reader: Reader) -> list[str]:
    """The image files whose size is not that of at least 90 %; none if no size is so common."""
    files = (path for split in reader.lists for path in reader.image_files(split))
    sizes = {path: size for path in files if all(size := image_size(path))}
    usual, count = Counter(sizes.values()).most_common(1)[0] if sizes else ((0, 0), 0)
    if count < MOST * len(sizes):
        return []
    return [f"{path} ({size[0]}x{size[1]})" for path, size in sizes.items() if size != usual]


def wrong_totals(benchmark: str, counts: Mapping[str, int]) -> list[Finding]:
    """Findings on splits whose numbers of images are not the published `TOTALS`."""
    findings = []
    for part, published in TOTALS.get(benchmark, {}).items():
        count = sum(counts.values()) if part == "all" else counts[part]
        if count != published:
            where = "all splits" if part == "all" else part
            remark = KNOWN_TOTALS.get((benchmark, count), "fetch it again")
            text = f"{count:,} images in {where}, published are {published:,}; {remark}"
            failure = (benchmark, count) not in KNOWN_TOTALS and (benchmark, part) not in UNSURE
            findings.append(Finding("images", failure, text))
    return findings


def swapped_channels(benchmark: str, means: Mapping[str, Sequence[float]]) -> list[Finding]:
    """Findings on splits whose first channel is darker than the last, as photos have more red."""
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
