"""A confusion matrix as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from zoo.reports.figures.style import DPI, TEXT_SIZE

CELL = 0.26  # inches
LONGEST = 24  # characters of a class's name


def confusion_figure(counts: pd.DataFrame) -> Figure:
    """Counts with one row per class and one column per prediction.

    A cell is the darker, the larger its share of the class.

    Args:
        counts: classes by predictions.
    """
    rows, columns = counts.shape
    row_names = [shortened(str(name)) for name in counts.index]
    column_names = [shortened(str(name)) for name in counts.columns]
    label = 0.062 * max(map(len, (*column_names, *row_names)))  # inches
    width, height = CELL * columns + label + 0.3, CELL * rows + label + 0.3
    figure = Figure((width, height), dpi=DPI, facecolor="white")
    left, bottom = label + 0.2, 0.1
    axes = figure.add_axes(
        (left / width, bottom / height, CELL * columns / width, CELL * rows / height)
    )
    shares = (counts.T / counts.sum(axis=1)).T.to_numpy()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(counts.shape):
        count = counts.iloc[row, column]
        if count:
            axes.text(
                column,
                row,
                str(count),
                ha="center",
                va="center",
                fontsize=TEXT_SIZE,
                color="white" if shares[row, column] > 0.5 else "black",
            )
    axes.xaxis.tick_top()
    axes.set_xticks(range(columns), column_names, rotation=90)
    axes.set_yticks(range(rows), row_names)
    axes.tick_params(labelsize=TEXT_SIZE, length=0)
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
    return figure


def shortened(name: str) -> str:
    """A name, with its middle left out where it is too long for a figure."""
    if len(name) <= LONGEST:
        return name
    half = (LONGEST - 1) // 2
    return f"{name[:half]}…{name[-half:]}"
