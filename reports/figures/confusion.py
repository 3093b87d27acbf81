"""How often each class was taken for each other, as a picture."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from zoo.reports.figures.style import DPI, TEXT_SIZE, shortened

CELL = 0.26  # inches
LONGEST = 24  # characters of a class's name


def confusion_figure(shares: pd.DataFrame, texts: pd.DataFrame) -> Figure:
    """A row a class and a column a prediction, dark where many of the class were predicted so.

    Args:
        shares: of the row's class, in [0, 1]; nan where a class could not be predicted.
        texts: what stands in the cells, alike in shape.
    """
    rows, columns = shares.shape
    above, beside = (
        [shortened(str(name), LONGEST) for name in names] for names in (shares, shares.index)
    )
    label = 0.062 * max(map(len, (*above, *beside)))
    wide, high = CELL * columns + label + 0.3, CELL * rows + label + 0.3
    figure = Figure((wide, high), dpi=DPI, facecolor="white")
    axes = figure.add_axes(
        (
            (label + 0.2) / wide,
            0.1 / high,
            CELL * columns / wide,
            CELL * rows / high,
        )
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
    axes.set_xticks(range(columns), above, rotation=90)
    axes.set_yticks(range(rows), beside)
    axes.tick_params(labelsize=TEXT_SIZE, length=0)
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
    return figure
