"""The tutorial runs, and prints and draws what it shows."""

from pathlib import Path
from typing import Any

from tests.pages.notebook import code_cells, execute, read
from tests.pages.same_output import same_output


def text_of(outputs: list[dict[str, Any]]) -> str:
    return "".join(line for each in outputs for line in each.get("text", []))


def figures_of(outputs: list[dict[str, Any]]) -> int:
    return sum("image/png" in each.get("data", {}) for each in outputs)


def test_the_tutorial_gives_what_it_shows(tmp_path: Path, monkeypatch):
    """`make outputs` writes it anew. It trains a learner: a few seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ZOO_DATA", raising=False)
    notebook = read()
    for cell, given in zip(code_cells(notebook), execute(notebook), strict=True):
        shown = cell["outputs"]
        assert same_output(text_of(shown), text_of(given)), text_of(given)
        assert figures_of(shown) == figures_of(given)
    assert sum(figures_of(cell["outputs"]) for cell in code_cells(notebook)) >= 2
    assert not list(tmp_path.iterdir()), "it leaves files behind"
