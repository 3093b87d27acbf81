"""A survey of an image set that cannot be opened: everything that is wrong, not only the first.

`survey` compares the classes with the published lists, without decoding images. Only if they are
right, the doctor calls `unreadable`, which decodes every image.
"""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.datasets.checking.content_checks import TOTALS, Finding, some, wrong_totals
from zoo.datasets.readers.base import Reader, in_order
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.readers.base import ImageSet

LISTED = 100  # most messages on unreadable images that the JSON report has

Counts = Mapping[str, int]  # class -> its number of images


def expected(benchmark: "ImageSet", reader: Reader, split: str) -> dict[str, Any]:
    """Where a split is, and the published numbers of its classes and images."""
    classes = len(reader.lists[split])
    images = TOTALS.get(benchmark.key, {}).get(split)
    if reader.per_class is not None:
        images = classes * reader.per_class
    return {
        "where": str(reader.where(split)),
        "expected_classes": classes,
        "expected_images": images,
    }


def survey(benchmark: "ImageSet", reader: Reader) -> dict[str, Any]:
    """Compare the classes of every split with the published lists.

    Returns:
        ``splits``, the facts of each; ``findings``, a list of `Finding`; ``known``, whether any
        class is one of the benchmark's.
    """
    counts: dict[str, Counts] = {}  # of the splits that can be read
    splits: dict[str, dict[str, Any]] = {}
    findings: list[Finding] = []
    for split in reader.lists:
        unread = {"classes": None, "images": None, "remarks": "cannot be read"}
        splits[split] = expected(benchmark, reader, split) | unread
        try:
            counts[split] = {name: len(items) for name, items in reader.scan(split).items()}
        except UsageError as error:
            findings.append(Finding("unreadable", True, str(error)))
    swapped = exchanged(reader, counts)
    for split, of_split in counts.items():
        splits[split] |= compare(reader, split, of_split)
        if not swapped:
            findings += class_findings(reader, split, splits[split])
    findings += swapped + doubled(reader, counts)
    if not findings:
        images = {split: sum(of_split.values()) for split, of_split in counts.items()}
        findings += wrong_totals(benchmark.key, images)
    names = {name for of_split in reader.lists.values() for name in of_split}
    known = any(names.intersection(of_split) for of_split in counts.values())
    return {"known": known, "splits": splits, "findings": list(dict.fromkeys(findings))}


def compare(reader: Reader, split: str, counts: Counts) -> dict[str, Any]:
    """How a split differs from what is published.

    Returns:
        ``classes`` and ``images``, their numbers; ``missing`` and ``extra`` classes;
        ``of_other_splits``, class -> its split; ``wrong_counts``, class -> its number of images;
        ``remarks``, all of this in a line.
    """
    split_of = {name: other for other, names in reader.lists.items() for name in names}
    wrong_counts = {}
    for name, count in counts.items():
        if split_of.get(name) == split:
            # Where the number of images is not fixed, only 0 is wrong.
            is_right = count == reader.per_class if reader.per_class else count > 0
            if not is_right:
                wrong_counts[name] = count
    parts: dict[str, Any] = {
        "missing": sorted(set(reader.lists[split]).difference(counts)),
        "extra": sorted(set(counts).difference(split_of)),
        "of_other_splits": {
            name: split_of[name] for name in counts if split_of.get(name, split) != split
        },
        "wrong_counts": wrong_counts,
    }
    remarks = [f"{len(part):,} {name.replace('_', ' ')}" for name, part in parts.items() if part]
    total = {"classes": len(counts), "images": sum(counts.values())}
    return {**total, **parts, "remarks": ", ".join(remarks) or "ok"}


def class_findings(reader: Reader, split: str, facts: Mapping[str, Any]) -> list[Finding]:
    """Findings on the differences that `compare` has found."""
    where = reader.where(split)
    lists = reader.lists
    findings: list[Finding] = []

    def add(kind: str, text: str) -> None:
        findings.append(Finding(kind, True, f"{where}: {text}; {reader.again}"))

    category_split = reader.form == "category split pickle"
    split_of, missing, extra = facts["of_other_splits"], facts["missing"], facts["extra"]
    for other in lists:
        of_other = [name for name in split_of if split_of[name] == other]
        if of_other and len(of_other) == len(lists[other]) == facts["classes"]:
            base = category_split and other == "train"
            hint = " (a train_phase file of base classes, renamed?)" if base else ""
            text = f"holds exactly the {other} classes, expected the {split} ones{hint}"
            add("wrong split", text)
            return findings
        if of_other:
            add("overlap", f"holds {len(of_other)} of the {other} classes: {some(of_other)}")
    if missing:
        count = f"{len(missing)} of {len(lists[split])} {split} classes missing"
        add("missing", f"{count}: {some(missing)}")
    if extra:
        add("extra", f"classes that are in none of the splits, {len(extra)}: {some(extra)}")
    if wrong := facts["wrong_counts"]:
        merged = category_split and min(wrong.values()) > (reader.per_class or 0)
        hint = " (other train_phase files, merged into it?)" if merged else ""
        counts = some(f"{name} has {count}" for name, count in wrong.items())
        add("images", f"expected {reader.per_class or 'some'} images a class, {counts}{hint}")
    return findings


def exchanged(reader: Reader, counts: Mapping[str, Counts]) -> list[Finding]:
    """Findings on two splits each of which holds exactly the other's classes."""
    findings = []
    lists = reader.lists
    for one, two in itertools.combinations(counts, 2):
        if set(counts[one]) == set(lists[two]) and set(counts[two]) == set(lists[one]):
            hint = ""
            if reader.form == "Ren cache pickle":
                hint = ", as in caches written before April 2018"
            text = (
                f"{reader.where(one)} holds exactly the {two} classes and {reader.where(two)} the "
                f"{one} classes: they are swapped{hint}; give each the other's name"
            )
            findings.append(Finding("swapped", True, text))
    return findings


def doubled(reader: Reader, counts: Mapping[str, Counts]) -> list[Finding]:
    """Findings on classes that are in two splits."""
    findings = []
    for one, two in itertools.combinations(counts, 2):
        if both := [name for name in counts[one] if name in counts[two]]:
            text = (
                f"{reader.where(one)} and {reader.where(two)}: classes that are in both, "
                f"{len(both)}: {some(both)}; {reader.again}"
            )
            findings.append(Finding("doubled", True, text))
    return findings


def unreadable(reader: Reader, first: str) -> dict[str, Any]:
    """Decode every image of a set whose classes are right, and report those that fail.

    Args:
        reader: of the set.
        first: the message with which opening the set failed.

    Returns:
        ``findings``; ``unreadable``, the messages on the first `LISTED` images that fail.
    """
    from tqdm import tqdm

    def error_of(item: Any) -> str | None:
        try:
            reader.decode(item)
        except UsageError as error:
            return str(error)
        return None

    messages: list[str] = []
    for split in reader.lists:
        items = [item for of_class in reader.scanned(split).values() for item in of_class]
        bar = tqdm(in_order(error_of, items), f"reading {split}", len(items), mininterval=1)
        messages += filter(None, bar)
    findings = [Finding("unreadable", True, first)]
    if len(messages) > 1:
        names = (message.partition(": ")[0] for message in messages)
        text = f"{len(messages):,} images cannot be read: {some(names)}; {reader.again}"
        findings.append(Finding("unreadable", True, text))
    return {"findings": findings, "unreadable": messages[:LISTED]}
