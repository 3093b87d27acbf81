"""A survey of an image set that cannot be opened: all that is wrong with it, not only the first.

Nothing is decoded to compare classes with the published lists; where these are right, every image
is.
"""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.datasets.checking.content_checks import TOTALS, Finding, some, wrong_totals
from zoo.datasets.readers.base import Reader, in_order
from zoo.errors import UsageError

if TYPE_CHECKING:
    from zoo.datasets.readers.base import ImageSet

LISTED = 100  # messages in JSON on images that cannot be read

Counts = Mapping[str, int]  # images of each class


def expected(benchmark: "ImageSet", reader: Reader, split: str) -> dict[str, Any]:
    """Where a split lies, and the published numbers of its classes and images."""
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
        ``splits``, the facts of each; ``findings``, each as `Finding` has it; ``known``, whether
        any class is one of the benchmark's.
    """
    found: dict[str, Counts] = {}
    splits: dict[str, dict[str, Any]] = {}
    findings: list[Finding] = []
    for split in reader.lists:
        nothing = {"classes": None, "images": None, "remarks": "cannot be read"}
        splits[split] = expected(benchmark, reader, split) | nothing
        try:
            found[split] = {name: len(items) for name, items in reader.scan(split).items()}
        except UsageError as error:
            findings.append(Finding("unreadable", True, str(error)))
    swapped = exchanged(reader, found)
    for split, counts in found.items():
        splits[split] |= compare(reader, split, counts)
        if not swapped:
            findings += in_words(reader, split, splits[split])
    findings += swapped + doubled(reader, found)
    if not findings:
        images = {split: sum(counts.values()) for split, counts in found.items()}
        findings += wrong_totals(benchmark.key, images)
    names = {name for listed in reader.lists.values() for name in listed}
    known = any(names.intersection(counts) for counts in found.values())
    return {"known": known, "splits": splits, "findings": list(dict.fromkeys(findings))}


def compare(reader: Reader, split: str, counts: Counts) -> dict[str, Any]:
    """What a split holds against what it should."""
    home = {name: other for other, names in reader.lists.items() for name in names}
    own = {name: count for name, count in counts.items() if home.get(name) == split}
    parts: dict[str, Any] = {
        "missing": sorted(set(reader.lists[split]).difference(counts)),
        "extra": sorted(set(counts).difference(home)),
        "of_other_splits": {name: home[name] for name in counts if home.get(name, split) != split},
        "wrong_counts": {
            name: n for name, n in own.items() if n != (reader.per_class or n or None)
        },
    }
    said = [f"{len(part):,} {name.replace('_', ' ')}" for name, part in parts.items() if part]
    total = {"classes": len(counts), "images": sum(counts.values())}
    return {**total, **parts, "remarks": ", ".join(said) or "ok"}


def in_words(reader: Reader, split: str, facts: Mapping[str, Any]) -> list[Finding]:
    """What `compare` found, in sentences."""
    where, lists = reader.where(split), reader.lists
    findings: list[Finding] = []

    def tell(kind: str, text: str) -> None:
        findings.append(Finding(kind, True, f"{where}: {text}; {reader.again}"))

    category_split = reader.form == "category split pickle"
    elsewhere, missing, extra = facts["of_other_splits"], facts["missing"], facts["extra"]
    for other in lists:
        strangers = [name for name in elsewhere if elsewhere[name] == other]
        if strangers and len(strangers) == len(lists[other]) == facts["classes"]:
            base = category_split and other == "train"
            hint = " (a train_phase file of base classes, renamed?)" if base else ""
            what = f"holds exactly the {other} classes, expected the {split} ones{hint}"
            tell("wrong split", what)
            return findings
        if strangers:
            tell("overlap", f"holds {len(strangers)} of the {other} classes: {some(strangers)}")
    if missing:
        count = f"{len(missing)} of {len(lists[split])} {split} classes missing"
        tell("missing", f"{count}: {some(missing)}")
    if extra:
        tell("extra", f"classes that are in none of the splits, {len(extra)}: {some(extra)}")
    if wrong := facts["wrong_counts"]:
        merged = category_split and min(wrong.values()) > (reader.per_class or 0)
        hint = " (other train_phase files, merged into it?)" if merged else ""
        counts = some(f"{name} has {count}" for name, count in wrong.items())
        tell("images", f"expected {reader.per_class or 'some'} images a class, {counts}{hint}")
    return findings


def exchanged(reader: Reader, found: Mapping[str, Counts]) -> list[Finding]:
    """Two splits of which each holds exactly the other's classes."""
    findings, lists = [], reader.lists
    for one, two in itertools.combinations(found, 2):
        if set(found[one]) == set(lists[two]) and set(found[two]) == set(lists[one]):
            old = ", as in caches written before April 2018" * (reader.form == "Ren cache pickle")
            text = (
                f"{reader.where(one)} holds exactly the {two} classes and {reader.where(two)} the "
                f"{one} classes: they are swapped{old}; give each the other's name"
            )
            findings.append(Finding("swapped", True, text))
    return findings


def doubled(reader: Reader, found: Mapping[str, Counts]) -> list[Finding]:
    """Classes that lie in two splits."""
    findings = []
    for one, two in itertools.combinations(found, 2):
        if both := [name for name in found[one] if name in found[two]]:
            text = (
                f"{reader.where(one)} and {reader.where(two)}: classes that are in both, "
                f"{len(both)}: {some(both)}; {reader.again}"
            )
            findings.append(Finding("doubled", True, text))
    return findings


def unreadable(reader: Reader, first: str) -> dict[str, Any]:
    """Decode every image of a set whose classes are right, and tell which cannot be.

    Args:
        reader: of the set.
        first: what was said when the set was opened.

    Returns:
        ``findings``, and the first messages of all that are ``unreadable``.
    """
    from tqdm import tqdm

    def complaint(item: Any) -> str | None:
        try:
            reader.decode(item)
        except UsageError as error:
            return str(error)
        return None

    messages: list[str] = []
    for split in reader.lists:
        items = [item for group in reader.found(split).values() for item in group]
        bar = tqdm(in_order(complaint, items), f"reading {split}", len(items), mininterval=1)
        messages += filter(None, bar)
    findings = [Finding("unreadable", True, first)]
    if len(messages) > 1:
        names = (message.partition(": ")[0] for message in messages)
        text = f"{len(messages):,} images cannot be read: {some(names)}; {reader.again}"
        findings.append(Finding("unreadable", True, text))
    return {"findings": findings, "unreadable": messages[:LISTED]}
