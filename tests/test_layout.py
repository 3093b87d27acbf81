"""The floor plan: who may import whom, and how long a file may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import datasets
from zoo import learners

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "zoo": {"zoo"},
    "reports": {"reports"},
    "datasets": {"zoo", "datasets"},
    "baselines": {"zoo", "baselines"},
}
COMPOSITION_ROOTS = {
    f"zoo/{name}.py"
    for name in (
        "place",
        "staging",
        "choosing",
        "study",
        "sweep",
        "plan",
        "experiment",
        "jobs",
        "comparison",
        "ablation",
        "papers",
        "paper_files",
        "plots",
        "gaps",
        "printing",
    )
} | {f"zoo/{name}.py" for name in ("data_commands", "learner_commands", "__main__")}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_the_import_rule(package):
    assert modules(package)
    for path in modules(package):
        if path.relative_to(ROOT).as_posix() not in COMPOSITION_ROOTS:
            ours = {name.split(".")[0] for name in imported(path)} & MAY_IMPORT.keys()
            assert ours <= MAY_IMPORT[package], path


def test_nobody_imports_a_composition_root():
    roots = {path.removesuffix(".py").replace("/", ".") for path in COMPOSITION_ROOTS}
    for package in MAY_IMPORT:
        for path in modules(package):
            if path.relative_to(ROOT).as_posix() not in COMPOSITION_ROOTS:
                assert not imported(path) & roots, path


def test_reports_need_no_torch():
    for path in modules("reports"):
        assert not {name.split(".")[0] for name in imported(path)} & {"torch", "pytorch_lightning"}


def test_datasets_is_ours():
    """Hugging Face's `datasets` shares our folder's name; run from the checkout, ours wins."""
    assert Path(datasets.__file__).parent == ROOT / "datasets"


def test_listing_imports_nothing_heavy():
    code = (
        "import sys; from zoo.__main__ import main; main(['list']);"
        "bad = {'torch', 'numpy', 'pytorch_lightning', 'pandas'} & set(sys.modules);"
        "assert not bad, bad"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == learners.names()


def test_files_are_short():
    long = [p for package in MAY_IMPORT for p in modules(package) if length(p) > 300]
    assert not long


def length(path: Path) -> int:
    return len(path.read_text().splitlines())
