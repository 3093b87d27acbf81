"""The table of the learning rates that explain the inner steps of trained learners."""

import pandas as pd

from zoo.reports.formats.table import NONE, Cell, Column, Table

ALL_LAYERS = "all"
LEAST_EXPLAINED = 0.005  # a rate that explains less is not printed


def step_rates_table(rates: pd.DataFrame, title: str, episodes: int) -> Table:
    """A row for each learner and layer, a column for each step: ``0.013 (94 %)``.

    If several runs have one label, such as several seeds, their means are shown.

    Args:
        rates: a line for each run, step and layer. Columns: `label` of the run, `step` from 1,
            `layer` ("" for all of them together), `rate`, `explained`.
        title: what the caption begins with.
        episodes: how many validation episodes were looked at.
    """
    steps = sorted(rates["step"].unique())
    rows = []
    for (label, layer), lines in rates.groupby(["label", "layer"], sort=False):
        of_step = lines.groupby("step")[["rate", "explained"]].mean()
        texts = [_text(*of_step.loc[s]) for s in steps if s in of_step.index]
        texts += [NONE] * (len(steps) - len(texts))
        rows.append([Cell(str(label)), Cell(str(layer) or ALL_LAYERS), *map(Cell, texts)])
    caption = (
        "the rate whose multiple of the support's cross-entropy gradient is nearest to each inner "
        "step, by least squares over the tasks, and in brackets how much of the step's square that "
        f"explains; {episodes} validation tasks. A loss or preconditioner that learned no more "
        "than a rate has 100 %. Momentum and weight decay leave less, of plain steps too."
    )
    columns = [Column("learner"), Column("layer"), *(Column(f"step {s}") for s in steps)]
    return Table(title, caption, columns, rows)


def _text(rate: float, explained: float) -> str:
    if pd.isna(rate) or pd.isna(explained):
        return NONE
    if explained < LEAST_EXPLAINED:
        return "(0 %)"
    return f"{rate:#.3g} ({100 * explained:.0f} %)"
