"""Regression tasks made of scikit-learn's digits: a table for each pixel, to be told from others.

    python -m tests.support.digit_tables OUT

In a table a row is a digit of `sklearn.datasets.load_digits` (1,797 of 8x8 pixels, from 0 to 16).
Inputs are the eight pixels around the table's pixel (missing where they lie beyond the border), the
mean of the image, and the digit as a word; outputs are the pixel and, of the same digit, the one
below it. A table has each second to fifth digit, so tables differ in size. Pixels that hardly ever
change, and those of the last row, make no table. Pixels are split at random, with seed 0: half for
training, a sixth for validation and a third for the test.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

AROUND = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1) if (row, column) != (0, 0)]
BELOW = (1, 0)  # an output, so no input
LEAST_DEVIATION = 1.5


def write(folder: Path) -> list[Path]:
    """Write the tables into train/, val/ and test/ of a folder; returns their paths."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    padded = np.pad(digits.images, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    paths = []
    places = [
        (row, column)
        for row in range(7)
        for column in range(8)
        if digits.images[:, row, column].std() > LEAST_DEVIATION
        and digits.images[:, row + 1, column].std() > LEAST_DEVIATION
    ]
    order = np.random.default_rng(0).permutation(len(places))
    for number, (row, column) in enumerate(places[place] for place in order):
        frame = pd.DataFrame(
            {
                f"pixel {down:+d} {right:+d}": padded[:, row + 1 + down, column + 1 + right]
                for down, right in AROUND
                if (down, right) != BELOW
            }
        )
        frame["brightness"] = digits.images.mean((1, 2))
        frame["digit"] = [f"a {digit}" for digit in digits.target]
        frame["target_here"] = digits.images[:, row, column]
        frame["target_below"] = digits.images[:, row + 1, column]
        split = ("train", "train", "test", "train", "val", "test")[number % 6]
        path = folder / split / f"row {row} column {column}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.iloc[:: 2 + number % 4].to_csv(path, index=False)
        paths.append(path)
    return paths


if __name__ == "__main__":
    print(f"{len(write(Path(sys.argv[1])))} tables in {sys.argv[1]}")
