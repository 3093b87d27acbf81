"""A frame of numbers as Parquet, every column of one type. Needs pyarrow, which is optional."""

from io import BytesIO
from typing import Any

import pandas as pd
from pandas.api.types import infer_dtype

COLUMN_KINDS: dict[str, Any] = {
    "integer": "Int64", "floating": "Float64", "mixed-integer-float": "Float64",
    "boolean": "boolean",
}  # fmt: skip


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """What a Parquet file of this frame holds; the index and the attributes are left out.

    A column of objects becomes one of whole numbers, numbers or truth values where all that is
    in it is such, one of text otherwise, and an empty one stays without a type; each may hold
    missing values.

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
    kind = infer_dtype(column, skipna=True)
    if kind == "empty":
        return column.where(column.notna(), None)
    if kind in COLUMN_KINDS:
        return column.astype(COLUMN_KINDS[kind])
    return column.map(str, na_action="ignore").astype("string")
