"""A confusion matrix as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from zoo.reports.figures.style import DPI, TEXT_SIZE, shortened

CELL = 0.26  # inches
LONGEST_NAME = 24  # characters of a class's name


def confusion_figure(shares: pd.DataFrame, texts: pd.DataFrame) -> Figure:
    """One row per class and one column per prediction.

    The larger a cell's share of the class, the darker it is.

    Args:
        shares: of the row's class, in [0, 1]; nan where a class could not be predicted.
        texts: what stands in the cells, of the same shape.
    """
    rows, columns = shares.shape
    row_names = [shortened(str(name), LONGEST_NAME) for name in shares.index]
    column_names = [shortened(str(name), LONGEST_NAME) for name in shares.columns]
    label = 0.062 * max(map(len, (*column_names, *row_names)))  # inches
    width, height = CELL * columns + label + 0.3, CELL * rows + label + 0.3
    figure = Figure((width, height), dpi=DPI, facecolor="white")
    left, bottom = label + 0.2, 0.1
    axes = figure.add_axes(
        (left / width, bottom / height, CELL * columns / width, CELL * rows / height)
    )
    darkness = shares.to_numpy(dtype=float)
    axes.imshow(darkness, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(shares.shape):
        axes.text(
            column,
            row,
            str(texts.iloc[row, column]),
            ha="center",
            va="center",
            fontsize=TEXT_SIZE,
            color="white" if darkness[row, column] > 0.5 else "black",
        )
    axes.xaxis.tick_top()
    axes.set_xticks(range(columns), column_names, rotation=90)
    axes.set_yticks(range(rows), row_names)
    axes.tick_params(labelsize=TEXT_SIZE, length=0)
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
    return figure
