"""The doctor: what image sets lie below a folder, and what is wrong with them.

It opens a set as `run` and `table` do; where that fails, a survey says all that is wrong.
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

USUAL_WAY, USUAL_IMAGES = 5, 16  # of an episode: ways, and the images of a class

if TYPE_CHECKING:
    from zoo.datasets.episodes.image_store import Store


def examine(data: Path, asked: str | None = None) -> dict[str, Any]:
    """Look at every published form of every benchmark that lies at or below `data`.

    Args:
        data: the folder.
        asked: a benchmark or variant, to look for this one alone.

    Returns:
        ``usable``, the benchmarks that can be run; ``found``, a section for each form (see
        `section`); ``looked_for``, lines of text, where nothing was found; ``refused``, why own
        images that lie there cannot be used.

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
        if benchmark.own and sections:  # any folder might hold own images: it is a published set
            continue
        lines.append(f"{benchmark.title}:")
        try:
            readers = list(benchmark.found(data))
            lines += looked_for(benchmark, homes=asked is not None)
        except UsageError as error:  # of own images, whose classes are what lies there
            readers = []
            lines.append(f"  {error}")
            refused = "" if isinstance(error, NoImagesError) else str(error)
        sections += [section(benchmark, reader, readers[0], data) for reader in readers]
    known = {part["folder"] for part in sections if part["known"]}
    # Several sets name their files alike: a form without one class of its own is another's.
    sections = [part for part in sections if part["known"] or part["folder"] not in known]
    return {
        "folder": str(data),
        "usable": [part["benchmark"] for part in sections if part["usable"]],
        "found": sections,
        "looked_for": [] if sections else lines,
        "refused": refused,
    }


def section(benchmark: Benchmark, reader: Reader, first: Reader, data: Path) -> dict[str, Any]:
    """One form of one benchmark.

    Args:
        benchmark: its benchmark.
        reader: of the form.
        first: of the form that `run` and `table` read, if several lie there.
        data: the folder that was asked about.

    Returns:
        ``splits``, ``findings``, ``sound`` (no finding is a failure), ``usable`` (sound, and the
        form that is read), ``content`` (of `checks.check`, where it was looked at), and words.
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
        *([reader.left_out] if reader.left_out else []),
    ]
    facts, _ = content_checks.kept_facts(path, [*key, reader is first], look)
    findings = [Finding(*finding) for finding in facts["findings"]]
    sound = not any(finding.failure for finding in findings)
    verdict = f"{'' if sound else 'not '}usable: {benchmark.variant} from {reader.form}"
    if reader is not first:
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
    """What opening the stores and looking at the images says, or else what a survey does."""
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
    """What episodes own images are enough for, where they are too few for the usual ones."""
    classes = {split: len(store.names) for split, store in stores.items()}
    smallest = {split: int(min(np.diff(store.offsets))) for split, store in stores.items()}
    one, two = (min(counts, key=lambda name: counts[name]) for counts in (classes, smallest))
    if "train" not in stores:
        text = f"{classes['test']} classes are too few to train on some: test with --budget none"
    elif classes[one] >= USUAL_WAY and smallest[two] >= USUAL_IMAGES:
        return None
    else:
        text = (
            f"{one} has {classes[one]} classes, --way {classes[one]} at most; the smallest class "
            f"of {two} has {smallest[two]} images for --shot and --query together; what is not "
            "asked for is lowered to that"
        )
    return Finding("few", False, text)


def opened(store: "Store", classes: int) -> dict[str, Any]:
    """What a split holds that could be opened, so that its classes are the right ones."""
    turns = max(1, len(store.names) // classes)  # a character of Omniglot is four classes
    return {
        "classes": len(store.names) // turns,
        "images": len(store.images) // turns,
        "remarks": f"ok: with rotations {len(store.names):,} classes" if turns > 1 else "ok",
        "fingerprint": store.fingerprint,
    }
