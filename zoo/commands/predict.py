"""The command ``zoo predict``: predicts the class of each photo; as a table, CSV or HTML page."""

import argparse
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binomtest
from tabulate import tabulate

from zoo.commands.picture_files import figure_bytes
from zoo.datasets.readers.base import in_order, load_image
from zoo.datasets.readers.own_pixels import as_seen
from zoo.errors import UsageError
from zoo.files import check_folder_of, write_text
from zoo.reports.figures.confusion import confusion_figure
from zoo.reports.figures.rejection import rejection_figure
from zoo.reports.formats.html import Card, Gallery, to_html
from zoo.reports.formats.table import Cell, Column, Table
from zoo.runs.prediction import NONE_OF_THESE, Predictions, predict_photos
from zoo.runs.trained import Trained, trained_learner
from zoo.runs.workspace import Workspace

SHOWN = 40  # rows that are printed
THUMBNAIL = 160  # pixels of the longer side


def predict_command(options: argparse.Namespace) -> int:
    """Predict, print the table, and write what `-o` asks for."""
    output: Path | None = options.output
    if output is not None and output.suffix not in (".csv", ".html"):
        raise UsageError(f"-o {output}: expected a name that ends in .csv or .html")
    if output is not None:
        check_folder_of(output, "-o")
    trained = trained_learner(options.weights, options.results)
    predictions = predict_photos(
        trained,
        options.support,
        options.query,
        jointly=options.transductive,
        reject=options.reject,
        device=Workspace(device=options.device).device_kind,
    )
    print(as_text(predictions))
    for line in summary(predictions):
        print(line)
    if output is not None:
        table = predictions.table.to_csv(index=False)
        write_text(output.with_suffix(".csv"), table)
        print(f"wrote {output.with_suffix('.csv')}")
        if output.suffix == ".html":
            write_text(output, page(trained, predictions, options))
            print(f"wrote {output}")
    return 0


def as_text(predictions: Predictions) -> str:
    """The first rows of the table, as text."""
    shown = readable(predictions.table.head(SHOWN))
    text = tabulate(shown, headers="keys", showindex=False)  # type: ignore[arg-type]
    more = len(predictions.table) - SHOWN
    return f"{text}\n… and {more} more" if more > 0 else text


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table with percentages, and with words in place of true and false."""
    shown = table.copy()
    for name in ("probability", "runner_up_probability"):
        shown[name] = [f"{100 * value:.1f} %" for value in table[name]]
    if "right" in shown:
        shown["right"] = ["yes" if right else "no" for right in table["right"]]
    return shown.rename(columns=lambda name: name.replace("_", " "))


def summary(predictions: Predictions) -> list[str]:
    """The result in lines: counts, the accuracy where classes are known, and the notes."""
    table = predictions.table
    shots = sorted({*Counter(predictions.support.labels).values()})
    if shots[-1] == 1:
        photos = "1 support photo"
    elif len(shots) == 1:
        photos = f"{shots[0]} support photos"
    else:
        photos = f"{shots[0]} to {shots[-1]} support photos"
    lines = [f"{len(table)} photos, {len(predictions.classes)} classes with {photos} each"]
    if "right" in table:
        right, count = int(table["right"].sum()), len(table)
        low, high = (100 * end for end in binomtest(right, count).proportion_ci(method="wilson"))
        lines.append(
            f"{100 * right / count:.1f} % right ({right} of {count}; 95 % interval {low:.1f} to "
            f"{high:.1f} %, for these support photos)"
        )
    rejected = int((table["prediction"] == NONE_OF_THESE).sum())
    if rejected:
        lines.append(f"{rejected} rejected as {NONE_OF_THESE}{of_the_others(table)}")
    if "class" in table:
        strangers = int((~table["class"].isin(predictions.classes)).sum())
        if strangers:
            lines.append(
                f"{strangers} photos are of classes without support: right only where rejected"
            )
    return [*lines, *predictions.notes]


def of_the_others(table: pd.DataFrame) -> str:
    """How many of the photos that were not rejected are right; "" if classes are unknown."""
    kept = table[table["prediction"] != NONE_OF_THESE]
    if "right" not in kept or kept.empty:
        return ""
    right = int(kept["right"].sum())
    return f"; of the other {len(kept)} photos {100 * right / len(kept):.1f} % are right ({right})"


def page(trained: Trained, predictions: Predictions, options: argparse.Namespace) -> str:
    """The page: a summary, the confusion matrix, what `--reject` costs, and every photo."""
    about, learner = trained.about, trained.learner
    channels, height, width = trained.image
    sentences = [
        f"By {about['title']}, trained on {about['benchmark']} (weights {options.weights}), on "
        f"images of {width}x{height} pixels, {'grey' if channels == 1 else 'in colour'}.",
        *(f"{line[0].upper()}{line[1:]}." for line in summary(predictions)),
    ]
    if predictions.calibration is not None:
        alone = predictions.calibration is about["calibration"].get("alone")
        sentences.append(calibration_in_words(predictions.calibration, alone, about["benchmark"]))
    facts = Table(f"Predictions of {learner.title}", " ".join(sentences), [], [])
    tables, figures = [facts], []
    if "right" in predictions.table:
        counts = confusion(predictions)
        tables.append(confusion_table(counts))
        figures.append(
            (
                "Confusion matrix: photos of each class (rows) and what was predicted (columns).",
                figure_bytes(figure_of_counts(counts), "svg"),
            )
        )
    calibration = predictions.calibration or {}
    curve = calibration.get("rejection")
    if curve:
        # Records of earlier versions do not say it; there it was the way of all episodes.
        way = calibration.get("rejection_way") or calibration.get("way")
        figures.append(
            (
                f"What --reject costs, on {f'{way}-way ' if way else ''}validation episodes of "
                f"{about['benchmark']}: accuracy of the photos that are kept, and share of photos "
                "of other classes that are rejected, against the share of photos kept.",
                figure_bytes(rejection_figure(curve, options.reject), "svg"),
            )
        )
    galleries = [
        Gallery("Photos", query_cards(predictions)),
        *support_galleries(predictions),
    ]
    return to_html(tables, figures, galleries)


def calibration_in_words(calibration: Mapping[str, Any], alone: bool, benchmark: str) -> str:
    """Say on which episodes probabilities are calibrated, and how far they can be trusted there.

    Args:
        calibration: see `zoo.runs.calibration`; that of older weights holds less.
        alone: whether queries were classified one at a time.
        benchmark: the key or variant that the episodes are from.
    """
    queries = "queries, one at a time," if alone else "the queries"
    shape = ""
    if "shot" in calibration:
        shape = f" ({calibration['way']}-way {calibration['shot']}-shot)"
    text = (
        f"Probabilities are calibrated on {queries} of {calibration['episodes']} validation "
        f"episodes{shape} of {benchmark}, temperature {calibration['temperature']:.2f}. "
    )
    if "accuracy" in calibration:
        text += f"Of those {100 * calibration['accuracy']:.1f} % are right. "
    return (
        f"{text}Their expected calibration error is {calibration['ece']:.3f}, and "
        f"{calibration['ece_before']:.3f} without the temperature."
    )


def confusion(predictions: Predictions) -> pd.DataFrame:
    """How many photos of each class (rows) were taken for each class (columns)."""
    table = predictions.table
    rows = [*predictions.classes, *sorted({*table["class"]} - {*predictions.classes})]
    columns = [*predictions.classes]
    if (table["prediction"] == NONE_OF_THESE).any():
        columns.append(NONE_OF_THESE)
    counts = Counter(zip(table["class"], table["prediction"], strict=True))
    cells = [[counts[row, column] for column in columns] for row in rows]
    frame = pd.DataFrame(cells, index=rows, columns=columns)
    return frame[frame.sum(axis=1) > 0]


def figure_of_counts(counts: pd.DataFrame) -> Figure:
    """The confusion matrix as a figure, with the number of photos in its cells."""
    texts = counts.astype(str).where(counts > 0, "")
    return confusion_figure(counts.div(counts.sum(axis=1), axis=0), texts)


def confusion_table(counts: pd.DataFrame) -> Table:
    """The confusion matrix as a table, with the share of each class that is right."""
    rows = []
    for name, row in counts.iterrows():
        right = row.get(name, row.get(NONE_OF_THESE, 0))
        share = Cell(f"{100 * right / row.sum():.0f} %")
        rows.append([Cell(str(name)), *(Cell(str(count)) for count in row), share])
    columns = [Column("class"), *(Column(str(name)) for name in counts), Column("right")]
    return Table("Confusion matrix", "Photos of each class, and what was predicted.", columns, rows)


def query_cards(predictions: Predictions) -> list[Card]:
    """Every photo with its prediction; those with the lowest probability come first."""
    rows: list[Any] = predictions.table.to_dict("records")
    pairs = list(zip(predictions.query.files, rows, strict=True))
    pairs.sort(key=lambda pair: pair[1]["probability"])
    pictures = in_order(thumbnail, [path for path, _ in pairs])
    cards = []
    for (_, row), picture in zip(pairs, pictures, strict=True):
        state = ""
        if "right" in row:
            state = "right" if row["right"] else "wrong"
        elif row["prediction"] == NONE_OF_THESE:
            state = "unsure"
        lines = [
            f"{row['prediction']}, {100 * row['probability']:.0f}\N{NO-BREAK SPACE}%",
            f"then {row['runner_up']}, {100 * row['runner_up_probability']:.0f}\N{NO-BREAK SPACE}%",
            row["file"],
        ]
        if state == "wrong":
            lines.insert(1, f"is {row['class']}")
        cards.append(Card(picture, lines, state))
    return cards


def support_galleries(predictions: Predictions) -> list[Gallery]:
    """The support photos with their classes."""
    support = predictions.support
    pictures = in_order(thumbnail, support.files)
    pairs = zip(pictures, support.labels or [], strict=True)
    return [Gallery("Support photos", [Card(picture, [name]) for picture, name in pairs])]


def thumbnail(path: Path) -> bytes:
    """A small JPEG of a photo."""
    photo = as_seen(load_image(path, least=THUMBNAIL))
    photo.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    photo.save(content, "JPEG", quality=80)
    return content.getvalue()
