"""The tutorial: run a notebook's cells, and write what they print and draw into it.

``python -m tests.pages.notebook`` does so with docs/tutorial.ipynb. The cells are plain Python and
run here in one process, one after the other, so that the tests need no Jupyter.
"""

import base64
import contextlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(notebook: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Run the code cells; yields the outputs of each, as the notebook format has them."""
    matplotlib.use("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells(notebook), 1):
        printed = io.StringIO()
        code = compile("".join(cell["source"]), f"{TUTORIAL.name}, cell {number}", "exec")
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(code, names)
        outputs: list[dict[str, Any]] = []
        if printed.getvalue():
            text = printed.getvalue().splitlines(keepends=True)
            outputs.append({"name": "stdout", "output_type": "stream", "text": text})
        yield outputs + [as_output(picture) for picture in drawn()]


def drawn() -> Iterator[bytes]:
    """The open figures as PNG; closes them."""
    from matplotlib import pyplot

    for number in pyplot.get_fignums():
        picture = io.BytesIO()
        pyplot.figure(number).savefig(picture, dpi=110, metadata={"Software": None})
        yield picture.getvalue()
        pyplot.close(number)


def as_output(picture: bytes) -> dict[str, Any]:
    data = {"image/png": base64.b64encode(picture).decode(), "text/plain": ["<Figure>"]}
    return {"data": data, "metadata": {}, "output_type": "display_data"}


def read() -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(TUTORIAL.read_text(encoding="utf-8"))
    return notebook


def write() -> None:
    """Run the tutorial in an empty folder and put its outputs into its file."""
    notebook = read()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.environ.pop("ZOO_DATA", None)
        outputs = list(execute(notebook))
    for number, (cell, gave) in enumerate(zip(code_cells(notebook), outputs, strict=True), 1):
        cell |= {"execution_count": number, "outputs": gave}
    text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    TUTORIAL.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
