"""The doctor: which image sets are below a folder, and what is wrong with them.

It opens a set as `run` and `table` do; where that fails, a survey finds everything that is wrong.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import files
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.datasets.checking import content_checks
from zoo.datasets.checking.content_checks import Finding
from zoo.datasets.checking.survey import expected, survey, unreadable
from zoo.datasets.fetching.not_found import looked_for
from zoo.datasets.readers.base import Reader
from zoo.datasets.readers.own_listing import NoImagesError
from zoo.errors import UsageError
from zoo.registry import benchmarks

USUAL_WAY = 5  # of an episode
USUAL_IMAGES = 16  # of a class in an episode, support and query

if TYPE_CHECKING:
    from zoo.datasets.episodes.image_store import Store


def examine(data: Path, asked: str | None = None) -> dict[str, Any]:
    """Look for the forms of every benchmark at or below `data`, and check the images found.

    Args:
        data: the folder.
        asked: a benchmark or variant, to look for only this one.

    Returns:
        ``usable``, the benchmarks that can be run; ``found``, a section for each form (see
        `section`); ``looked_for``, lines of text on where we looked, if nothing was found;
        ``refused``, why own images that lie there cannot be used, or "".

    Raises:
        UsageError: there is no such folder or benchmark.
    """
    if not data.is_dir():
        raise UsageError(f"{data}: expected a folder that holds image sets, there is none")
    keys = [asked] if asked else benchmarks.names()
    wanted = [benchmark for benchmark in map(find_benchmark, keys) if benchmark.forms]
    if not wanted:
        raise UsageError(f"--benchmark {asked}: comes with the code, there is nothing to look for")
    sections: list[dict[str, Any]] = []
    lines: list[str] = []
    refused = ""
    for benchmark in sorted(wanted, key=lambda each: each.own):
        # Any folder of images could be a user's own, but here a published set was found.
        if benchmark.own and sections:
            continue
        lines.append(f"{benchmark.title}:")
        try:
            readers = list(benchmark.found(data))
            lines += looked_for(benchmark, homes=asked is not None)
        except UsageError as error:  # the folder cannot be a user's own images
            readers = []
            lines.append(f"  {error}")
            refused = "" if isinstance(error, NoImagesError) else str(error)
        sections += [section(benchmark, reader, readers[0], data) for reader in readers]
    # Several benchmarks use the same file names. So where a folder holds classes of one benchmark,
    # the sections of others without any class in it are left out.
    known_folders = {part["folder"] for part in sections if part["known"]}
    sections = [part for part in sections if part["known"] or part["folder"] not in known_folders]
    return {
        "folder": str(data),
        "usable": [part["benchmark"] for part in sections if part["usable"]],
        "found": sections,
        "looked_for": [] if sections else lines,
        "refused": refused,
    }


def section(benchmark: Benchmark, reader: Reader, first: Reader, data: Path) -> dict[str, Any]:
    """The report on one form of one benchmark.

    Args:
        benchmark: the benchmark.
        reader: of the form.
        first: the reader that `run` and `table` use; others may have found further forms.
        data: the folder that was asked about.

    Returns:
        ``benchmark``, ``title``, ``form`` and ``folder``; ``splits`` and ``findings``; ``known``,
        as in `survey`; ``content``, from `content_checks.check`, if the set could be opened;
        ``sound``, whether no finding is a failure; ``usable``, whether it is sound and is the form
        that `run` and `table` read; ``verdict``, a sentence that says both.
    """

    def look() -> dict[str, Any]:
        return of_content(benchmark, reader, data) if reader is first else survey(benchmark, reader)

    name = files.store_slug(f"{benchmark.variant} {reader.form}")
    path = content_checks.store_folder(benchmark, reader, data) / f"{name}.doctor.json"
    key = [
        content_checks.CHECKS_VERSION,
        str(reader.folder),
        reader.per_class,
        reader.fingerprint(),
    ]
    if reader.left_out:
        key.append(reader.left_out)
    key.append(reader is first)
    facts, _ = content_checks.kept_facts(path, key, look)
    findings = [Finding(*finding) for finding in facts["findings"]]
    sound = not any(finding.failure for finding in findings)
    if reader is first:
        usable = "usable" if sound else "not usable"
        verdict = f"{usable}: {benchmark.variant} from {reader.form}"
    else:
        verdict = (
            f"{'sound' if sound else 'not sound'}, but not read: run and table read {first.form} "
            f"in {first.folder}; move that away to use this"
        )
    return {
        "benchmark": benchmark.variant,
        "title": benchmark.title,
        "form": reader.form,
        "folder": str(reader.folder),
        **facts,
        "findings": [finding._asdict() for finding in findings],
        "sound": sound,
        "usable": sound and reader is first,
        "verdict": verdict,
    }


def of_content(benchmark: Benchmark, reader: Reader, data: Path) -> dict[str, Any]:
    """The facts of a section: from opening and checking the stores, or else from a survey."""
    try:
        stores = content_checks.open_stores(benchmark, reader, data)
    except UsageError as error:
        facts = survey(benchmark, reader)
        return facts if facts["findings"] else facts | unreadable(reader, str(error))
    content, _ = content_checks.checked(benchmark, reader, stores, data)
    if benchmark.own and (few := few_images(stores)):
        content = {**content, "findings": [*content["findings"], few]}
    return {
        "known": True,
        "splits": {
            split: expected(benchmark, reader, split) | opened(store, len(reader.lists[split]))
            for split, store in stores.items()
        },
        "findings": content["findings"],
        "content": {name: fact for name, fact in content.items() if name != "findings"},
    }


def few_images(stores: Mapping[str, "Store"]) -> Finding | None:
    """If own images are too few for the usual episodes, a finding that says which they allow."""
    classes = {split: len(store.names) for split, store in stores.items()}
    smallest = {split: int(min(np.diff(store.offsets))) for split, store in stores.items()}
    fewest_classes = min(classes, key=lambda split: classes[split])
    fewest_images = min(smallest, key=lambda split: smallest[split])
    way, images = classes[fewest_classes], smallest[fewest_images]
    if "train" not in stores:
        text = f"{classes['test']} classes are too few to train on some: test with --budget none"
        return Finding("few", False, text)
    if way >= USUAL_WAY and images >= USUAL_IMAGES:
        return None
    text = (
        f"{fewest_classes} has {way} classes, --way {way} at most; the smallest class of "
        f"{fewest_images} has {images} images for --shot and --query together; settings that "
        "you do not give are lowered to that"
    )
    return Finding("few", False, text)


def opened(store: "Store", classes: int) -> dict[str, Any]:
    """The facts of a split that could be opened, whose classes are therefore the right ones.

    Args:
        store: of the split.
        classes: how many its published list has.
    """
    rotations = max(1, len(store.names) // classes)  # 4 on Omniglot, whose rotations are classes
    remarks = f"ok: with rotations {len(store.names):,} classes" if rotations > 1 else "ok"
    return {
        "classes": len(store.names) // rotations,
        "images": len(store.images) // rotations,
        "remarks": remarks,
        "fingerprint": store.fingerprint,
    }
