"""The commands that work on image sets: fetch, doctor, show and convert."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from zoo.commands.picture_files import check_picture_path, save_figure
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.doctor import USUAL_WAY, examine
from zoo.datasets.fetching.fetch import fetch
from zoo.datasets.splits import tiered_full_names
from zoo.errors import UsageError
from zoo.registry import benchmarks
from zoo.variants import parse_variant

if TYPE_CHECKING:  # slow to import, and the doctor does not need it
    from matplotlib.figure import Figure

    from zoo.datasets.benchmarks.base import Benchmark


DOCTOR_COLUMNS = ("classes", "images")  # counted in the doctor's table


def fetch_command(options: argparse.Namespace) -> int:
    """``zoo fetch``: download a benchmark's images, and have the doctor look at them."""
    benchmark = find_benchmark(options.benchmark).source
    if not benchmark.readers():
        print(f"{benchmark.title} comes with the code, there is nothing to fetch")
        return 0
    fetch(benchmark, options.data, options.yes)
    return print_report(options.data, benchmark.variant)


def convert_command(options: argparse.Namespace) -> int:
    """``zoo convert``: write a benchmark's images in another form."""
    from zoo.datasets.convert import convert as write

    benchmark = find_benchmark(options.benchmark)
    if benchmark.regression or benchmark.tables:
        raise UsageError(f"{benchmark.variant} has no images to write")
    if (source := benchmark.source.variant) != benchmark.variant:
        raise UsageError(f"{benchmark.variant} has the images of {source}: convert {source}")
    fetch(benchmark, options.data, options.yes)
    stores = benchmark.open(options.data)
    reader = benchmark.find(options.data) if benchmark.forms else None
    print(write(benchmark, stores, options.to, options.out, reader))
    return 0


def doctor_command(options: argparse.Namespace) -> int:
    """``zoo doctor``: print what lies in a folder; returns 0 if a benchmark can be run, else 1."""
    return print_report(options.data.expanduser(), options.benchmark, options.json)


def print_report(data: Path, benchmark: str | None, as_json: bool = False) -> int:
    """Print what the doctor finds in a folder; returns 0 if a benchmark can be run, else 1."""
    report = examine(data, benchmark)
    print(json.dumps(report, indent=1) if as_json else report_text(report))
    return 0 if report["usable"] else 1


def report_text(report: dict[str, Any]) -> str:
    """The doctor's report in words: for each form that was found, a section with a table."""
    if report["refused"]:
        return f"not usable: own images, {report['refused']}"
    if not report["found"]:
        head = f"No benchmark was found at or below {report['folder']}. Looked for:"
        return "\n".join([head, *report["looked_for"]])
    return "\n\n".join(map(section_text, report["found"]))


def section_text(section: dict[str, Any]) -> str:
    """A section of the report: the form and its folder, a table of splits, findings, a verdict."""
    rows = [
        [
            split,
            *(found_of_expected(facts[what], facts[f"expected_{what}"]) for what in DOCTOR_COLUMNS),
            facts["remarks"],
        ]
        for split, facts in section["splits"].items()
    ]
    lines = [f"{section['title']}: {section['form']} in {section['folder']}"]
    lines.append(
        tabulate(rows, ["split", *DOCTOR_COLUMNS, "remarks"], colalign=["left", "right", "right"])
    )
    for finding in section["findings"]:
        lines.append(f"{'wrong' if finding['failure'] else 'note'}: {finding['text']}")
    return "\n".join([*lines, section["verdict"]])


def found_of_expected(count: int | None, expected: int | None) -> str:
    """``19/20`` for 19 found of 20 published; a question mark for a count that is not known."""
    found = "?" if count is None else f"{count:,}"
    return found if expected is None else f"{found}/{expected:,}"


def show_command(options: argparse.Namespace) -> int:
    """``zoo show``: draw an episode of a benchmark, or the worst episodes of a finished run."""
    if parse_variant(options.name)[0] not in benchmarks.names():
        from zoo.commands.show_run import show_run

        return show_run(options)
    benchmark = find_benchmark(options.name)
    path: Path = options.output.expanduser()
    ending = path.suffix[1:].lower()
    check_picture_path(path, ending)
    if benchmark.regression or benchmark.tables:
        raise UsageError(f"{benchmark.variant} has no images to show")
    if options.worst is not None:
        raise UsageError("--worst: a benchmark's episodes have no predictions; name a run")
    fetch(benchmark, options.data, options.yes)
    figure = draw_benchmark_episode(
        benchmark,
        options.data,
        options.split or "test",
        options.way or USUAL_WAY,
        options.shot or 1,
        options.query or benchmark.query,
        options.episode or 0,
    )
    save_figure(figure, path, ending)
    return 0


def draw_benchmark_episode(
    benchmark: "Benchmark",
    folder: Path,
    split: str,
    way: int,
    shot: int,
    query: int,
    number: int,
) -> "Figure":
    """Draw an episode as the data module serves it.

    Args:
        benchmark: one of images.
        folder: where the image sets lie.
        split: train, val or test.
        way: N.
        shot: K.
        query: Q, queries a class.
        number: of the episode, from 0.

    Raises:
        UsageError: there is no such split or episode.
    """
    from zoo.datasets.episodes.data_module import EpisodicDataModule, MetaBatches, PixelBatch
    from zoo.reports.figures.episodes import draw_episode

    stores = benchmark.open(folder)
    form = f"{benchmark.find(folder).form}, " if benchmark.forms else ""
    if split not in stores:
        raise UsageError(f"--split {split}: {benchmark.variant} has {', '.join(stores)}")
    shape = {"train_way": way, "train_shot": shot, "train_query": query, "query": query}
    counts = {"updates": 1, "meta_batch": 1, "val_episodes": 1, "test_episodes": 1}
    data = EpisodicDataModule(
        {split: stores[split]},
        benchmark.mean,
        benchmark.std,
        shape | counts,
        way=way,
        shot=shot,
        seed=0,
        eval_batch=1,
        size=benchmark.image[1:],
    )
    store = data.stores[split]
    batches = MetaBatches(store, data.samplers[split], number + 1, 1, first=number)
    batch = next(iter(batches))
    assert isinstance(batch, PixelBatch)
    order = batch.y[0, : batch.support].argsort(stable=True)  # the support comes shuffled
    x = data.sized(batch.x[0])
    support = x[order].unflatten(0, (way, shot))
    queries = x[batch.support :].unflatten(0, (way, query))
    classes = data.samplers[split].indices(number, 1).classes[0]
    names = [readable_class_name(store.names[place]) for place in classes]
    seed = ", seed 0" if split == "train" else ""
    title = f"{benchmark.variant}: {split} episode {number}{seed}"
    title += f", {way}-way {shot}-shot, {query} queries a class"
    note = f"{form}fingerprint of the {len(store.images):,} images {store.fingerprint[:16]}"
    return draw_episode(support.numpy(), queries.numpy(), names, title, note)


def readable_class_name(name: str) -> str:
    """A class's name as people write it, on several lines if it has several parts."""
    if name.startswith("U+"):
        code, words = name.split(" ", 1)
        return f"{chr(int(code[2:], 16))}\n{code}\n{words}"
    # tieredImageNet's list also has 58 of mini-ImageNet's classes.
    words = tiered_full_names().get(name, "").partition(",")[0]
    if words:
        return f"{words}\n{name}"
    return name.replace("_", " ").replace("/", "\n")
