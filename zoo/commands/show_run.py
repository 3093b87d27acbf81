"""``zoo show RUN``: the worst test episodes of a finished run, and which classes it confused.

Nothing is computed again: every query's prediction lies beside the record, and the images are those
of the benchmark.
"""

import argparse
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image

from zoo.commands.data import readable_class_name
from zoo.commands.picture_files import check_picture_path, figure_bytes, save_figure
from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
from zoo.datasets.episodes.image_store import Store
from zoo.datasets.episodes.resize import at_size
from zoo.datasets.fetching.fetch import fetch
from zoo.errors import UsageError
from zoo.files import check_folder_of, write_text
from zoo.registry import benchmarks
from zoo.reports import records
from zoo.reports.confusions import confusion_shares, most_confused, pooled_predictions
from zoo.reports.estimates import estimate_from_record
from zoo.reports.figures.confusion import confusion_figure
from zoo.reports.figures.episodes import draw_episode
from zoo.reports.formats.html import Card, Gallery, to_html
from zoo.reports.formats.table import Cell, Column, Table
from zoo.runs.named_weights import file_by_name, read_record

WORST = 3  # episodes on a page, by default
LARGEST_MATRIX = 40  # classes; a larger confusion matrix cannot be read
CLASSES = 40  # rows of a page's table of classes
PAIRS = 20  # rows of a page's table of mistakes
SMALLEST = 84  # pixels of an image's width; smaller images are enlarged on a page
PAGE = "html"


class FinishedRun(NamedTuple):
    """A run that was tested, and its E test episodes."""

    record: Mapping[str, Any]
    values: pd.DataFrame  # a row for each episode: its metrics, and `prediction` (N*Q,)
    classes: np.ndarray  # (E, N) numbers of classes in the store
    images: np.ndarray  # (E, N, Q+K) numbers of images in their class; queries first
    store: Store
    benchmark: Benchmark

    @property
    def shape(self) -> str:
        """``5-way 1-shot``."""
        return f"{self.record['way']}-way {self.record['shot']}-shot"

    @property
    def pooled(self) -> pd.DataFrame:
        """The predictions of all episodes, as `pooled_predictions` returns them."""
        prediction = np.stack(self.values["prediction"].tolist())
        return pooled_predictions(prediction, self.classes, class_names(self.store.names))

    def worst(self, count: int) -> list[int]:
        """Numbers of the `count` episodes with the lowest accuracy; a higher loss breaks ties."""
        order = np.lexsort([-self.values["nll"], self.values["accuracy"]])
        return [int(number) for number in order[:count]]


class ShownEpisode(NamedTuple):
    """A test episode of a run, and what was predicted."""

    number: int
    accuracy: float
    names: list[str]  # of its N classes
    support: np.ndarray  # (N, K, C, H, W) uint8
    query: np.ndarray  # (N, Q, C, H, W) uint8
    predicted: np.ndarray  # (N, Q) labels


def show_run(options: argparse.Namespace) -> int:
    """Write the picture or the page that ``-o`` asks for."""
    path: Path = options.output.expanduser()
    ending = path.suffix[1:].lower()
    if ending == PAGE:
        check_folder_of(path, "-o")
    else:
        check_picture_path(path, ending)
    for flag in ("split", "way", "shot", "query"):
        if getattr(options, flag) is not None:
            raise UsageError(f"--{flag}: a run's episodes are those it was tested on; leave it out")
    run = finished_run(options.name, options.results, options.data, options.yes)
    numbers = run.worst(options.worst or WORST)
    if (number := options.episode) is not None:
        if number >= len(run.values):
            last = len(run.values) - 1
            raise UsageError(f"--episode {number}: {run.record['run']} tested 0 to {last}")
        numbers = [number]
    if ending != PAGE:
        save_figure(episode_figure(run, shown_episode(run, numbers[0])), path, ending)
        return 0
    try:
        write_text(path, page_of_run(run, [shown_episode(run, number) for number in numbers]))
    except OSError as error:
        raise UsageError(f"-o {path}: {error.strerror}; choose a file you may write") from None
    print(path)
    return 0


def finished_run(name: str, results: Path, data: Path, yes: bool) -> FinishedRun:
    """Find a finished run by its name, and read its test episodes and their images.

    Args:
        name: the run's name or the beginning of it.
        results: the folder where its record lies.
        data: the folder where the image sets lie.
        yes: fetch a large set without asking.

    Raises:
        UsageError: there is no such run, it has no predicted classes, or the images are not those
            it was tested on.
    """
    path = file_by_name(name, sorted(results.glob("*.json")))
    record = read_record(path) if path else None
    if path is None or not record:
        keys = ", ".join(benchmarks.names())
        raise UsageError(
            f"{name}: expected a benchmark ({keys}), or the name of a run in {results} or the "
            "beginning of one"
        )
    run = record["run"]
    try:
        records.row_of(record, path.stem)
    except ValueError as error:
        raise UsageError(f"{path} is not a whole record: {error}") from None
    if record["status"] != "done" or record["way"] is None:
        reason = "failed" if record["status"] != "done" else "is a regression"
        raise UsageError(f"{run} {reason}: it has no predicted classes to show")
    benchmark = find_benchmark(record["benchmark"])
    fetch(benchmark, data, yes)
    store = benchmark.open(data)["test"]
    if store.fingerprint != record["data"]["splits"]["test"]:
        raise UsageError(
            f"{run}: tested on other images of {benchmark.variant} than lie in {data} now; name "
            "the folder of the tested ones with --data"
        )
    episodes_path = results / f"episodes-{record['episodes']['fingerprint']}.npz"
    hashes = record.get("arrays") or {}
    try:
        recorded = records.recorded_arrays(results / f"{run}.npz", hashes.get("results"))
        values = records.by_episode(recorded)
        arrays = records.recorded_arrays(episodes_path, hashes.get("episodes"))
        classes, images = arrays["classes"], arrays["images"]
        fits = len(values) == len(classes) and "prediction" in values
    except (OSError, ValueError, KeyError):
        fits = False
    if not fits:
        raise UsageError(
            f"{results}: {run}.npz and {episodes_path.name} hold what was predicted; one is "
            "missing or damaged: take them from where the record was made"
        )
    return FinishedRun(record, values, classes.astype(np.int64), images, store, benchmark)


def shown_episode(run: FinishedRun, number: int) -> ShownEpisode:
    """A test episode of a run with its images and predictions."""
    classes = run.classes[number]
    rows = run.store.offsets[classes][:, None] + run.images[number].astype(np.int64)
    stored = run.store.gather(torch.from_numpy(rows.ravel()))
    x = at_size(stored, run.benchmark.image[1:]).unflatten(0, rows.shape).numpy()
    query = rows.shape[1] - run.record["shot"]
    values = run.values.iloc[number]
    return ShownEpisode(
        number,
        float(values["accuracy"]),
        [run.store.names[place] for place in classes],
        x[:, query:],
        x[:, :query],
        np.asarray(values["prediction"]).reshape(len(classes), query),
    )


def class_names(names: Sequence[str]) -> list[str]:
    """Names of classes as people write them, each on one line."""
    return [" ".join(readable_class_name(name).split()) for name in names]


def episode_figure(run: FinishedRun, episode: ShownEpisode) -> Figure:
    """Draw an episode; queries that were mistaken have a frame."""
    names = [readable_class_name(name) for name in episode.names]
    heads = [name.partition("\n")[0] for name in names]
    if len({*heads}) < len(heads):  # two characters of one alphabet begin alike, for example
        heads = class_names(episode.names)
    mistaken_for = [
        ["" if label == row else heads[label] for label in labels]
        for row, labels in enumerate(episode.predicted)
    ]
    record = run.record
    title = (
        f"{record['title']} on {record['benchmark']}: test episode {episode.number}, "
        f"{100 * episode.accuracy:.1f} % right"
    )
    note = f"{run.shape}, run {record['run']}"
    return draw_episode(episode.support, episode.query, names, title, note, mistaken_for)


def page_of_run(run: FinishedRun, episodes: Sequence[ShownEpisode]) -> str:
    """The page: how often each class was right, which were confused, and the episodes."""
    record, pooled = run.record, run.pooled
    metrics = record["metrics"]["accuracy"]
    mean = metrics["mean"]
    ci95 = math.nan if metrics["ci95"] is None else metrics["ci95"]
    count = len(run.values)
    accuracy = estimate_from_record(mean, ci95, "accuracy", count)
    caption = (
        f"Run {record['run']}, {run.shape}: {accuracy.times(100).text()} % right over {count:,} "
        f"test episodes of {record['benchmark']}. The share of a class is taken over all its "
        "queries, that of a pair over the queries in episodes that had both classes."
    )
    facts = Table(f"What {record['title']} got wrong", caption, [], [])
    figures = []
    shares = confusion_shares(pooled)
    if len(shares) <= LARGEST_MATRIX:
        texts = shares.map(lambda share: f"{100 * share:.0f}" if share >= 0.005 else "")
        caption = (
            "Classes (rows) and what their queries were taken for (columns), in per cent of the "
            "queries in episodes that had both."
        )
        figures.append((caption, figure_bytes(confusion_figure(shares, texts), "svg")))
    galleries = [part for episode in episodes for part in episode_galleries(episode)]
    return to_html([facts, class_table(pooled), pair_table(pooled)], figures, galleries)


def class_table(pooled: pd.DataFrame) -> Table:
    """How often each class was right, and what it was most often taken for; the worst first."""
    right = pooled[pooled["class"] == pooled["predicted"]].sort_values("share", kind="stable")
    worst = most_confused(pooled, len(pooled)).drop_duplicates("class").set_index("class")
    rows = []
    for name, share, queries in zip(right["class"], right["share"], right["queries"], strict=True):
        wrong = "–"
        if name in worst.index:
            wrong = f"{worst.loc[name, 'predicted']} ({100 * worst.loc[name, 'share']:.0f} %)"
        cells = (name, f"{100 * share:.1f} %", f"{queries:,}", wrong)
        rows.append([Cell(text) for text in cells])
    columns = [Column(name) for name in ("class", "right", "queries", "most often taken for")]
    return Table("Classes", "The worst first.", columns, rows[:CLASSES])


def pair_table(pooled: pd.DataFrame) -> Table:
    """The pairs of classes that were confused most often."""
    rows = [
        [Cell(name), Cell(other), Cell(f"{times:,} of {queries:,}"), Cell(f"{100 * share:.0f} %")]
        for name, other, queries, times, share in most_confused(pooled, PAIRS).itertuples(
            index=False
        )
    ]
    columns = [Column(name) for name in ("class", "taken for", "queries", "share")]
    return Table("Mistakes", "The most frequent first.", columns, rows)


def episode_galleries(episode: ShownEpisode) -> list[Gallery]:
    """An episode's support, and its queries with the wrong ones first."""
    names = class_names(episode.names)
    support = [
        Card(picture(pixels), [name])
        for name, images in zip(names, episode.support, strict=True)
        for pixels in images
    ]
    wrong, right = [], []
    for row, (images, labels) in enumerate(zip(episode.query, episode.predicted, strict=True)):
        for pixels, label in zip(images, labels, strict=True):
            if label == row:
                right.append(Card(picture(pixels), [names[row]], "right"))
            else:
                lines = [names[label], f"is {names[row]}"]
                wrong.append(Card(picture(pixels), lines, "wrong"))
    head = f"Test episode {episode.number}, {100 * episode.accuracy:.1f} % right"
    return [
        Gallery(f"{head}: support", support),
        Gallery(f"Test episode {episode.number}: queries, the wrong ones first", wrong + right),
    ]


def picture(pixels: np.ndarray) -> bytes:
    """An image (C, H, W) uint8 as JPEG; a small one is enlarged by a whole factor."""
    shown = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    scale = math.ceil(SMALLEST / shown.width)
    content = io.BytesIO()
    shown.resize((shown.width * scale, shown.height * scale), Image.Resampling.NEAREST).save(
        content, "JPEG", quality=85
    )
    return content.getvalue()
