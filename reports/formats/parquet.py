"""A frame of numbers as Parquet, every column of one type. Needs pyarrow, which is optional."""

from io import BytesIO
from typing import Any

import pandas as pd
from pandas.api.types import infer_dtype

# By what pandas infers a column of objects to be, its type in Parquet; text for all else.
COLUMN_TYPES: dict[str, Any] = {
    "integer": "Int64",
    "floating": "Float64",
    "mixed-integer-float": "Float64",
    "boolean": "boolean",
}


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """The frame as a Parquet file, without its index and attributes.

    A column of objects becomes one of integers, floats or booleans where all its values are, else
    one of text; an empty column has no type. Each may have missing values.

    Raises:
        ModuleNotFoundError: pyarrow is not installed; says how to install it.
    """
    try:
        import pyarrow  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "Parquet needs pyarrow, which is not installed: .venv/bin/pip install pyarrow"
        ) from None
    columns = {name: _typed(frame[name]) for name in frame.columns}
    file = BytesIO()
    pd.DataFrame(columns, index=frame.index).to_parquet(file, engine="pyarrow", index=False)
    return file.getvalue()


def _typed(column: pd.Series) -> pd.Series:
    if column.dtype != object:
        return column
    inferred = infer_dtype(column, skipna=True)
    if inferred == "empty":
        return column.where(column.notna(), None)
    if inferred in COLUMN_TYPES:
        return column.astype(COLUMN_TYPES[inferred])
    return column.map(str, na_action="ignore").astype("string")
