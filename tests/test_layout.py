"""The floor plan: which folder may import which, and what else keeps the rooms apart."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import zoo
from zoo.registry import learners

ROOT = Path(__file__).parent.parent
PACKAGES = ("zoo", "baselines", "datasets", "reports")
DATASETS = {"datasets/episodes", "datasets/readers", "datasets/splits", "datasets/checking"}
RUNNING = {
    "zoo", "zoo/networks", "zoo/methods", "datasets/benchmarks", "datasets/episodes",
    "datasets/fetching", "reports",
}  # fmt: skip
# Folder -> the folders that its files may import, besides their own. `zoo` is the contract.
MAY_IMPORT = {
    "zoo": set(),
    "zoo/networks": {"zoo"},
    "zoo/methods": {"zoo", "zoo/networks"},
    "baselines": {"zoo", "zoo/networks", "zoo/methods"},
    "datasets/splits": set(),
    "datasets/readers": {"zoo", "datasets/splits"},
    "datasets/episodes": {"zoo", "datasets/readers"},
    "datasets/checking": {"zoo", "datasets/episodes", "datasets/readers"},
    "datasets/fetching": {"zoo", "datasets/readers"},
    "datasets/benchmarks": {"zoo", *DATASETS, "datasets/fetching"},
    "datasets": {"zoo", *DATASETS, "datasets/fetching", "datasets/benchmarks"},
    "reports": set(),
    "reports/formats": {"reports"},
    "reports/tables": {"reports", "reports/formats"},
    "reports/figures": {"reports", "reports/tables"},
    "zoo/runs": RUNNING,
    "zoo/conformance": {"zoo", "zoo/networks", "zoo/methods", "zoo/runs"},
    "zoo/commands": {
        *RUNNING, *DATASETS, "datasets", "zoo/runs", "zoo/conformance", "reports/formats",
        "reports/tables", "reports/figures",
    },
}  # fmt: skip

# Files of which one file of another folder alone makes use, and why they stand where they do.
USED_ONCE = {
    "datasets/checking/survey.py": "counts what a reader finds; beside the other checks",
    "datasets/episodes/adaptive_sampler.py": "a way of sampling, beside the others",
    "datasets/episodes/superclass_sampler.py": "a way of sampling, beside the others",
    "datasets/episodes/image_batches.py": "the data module of stages, beside the episodes'",
    "datasets/episodes/torchmeta_batches.py": "our episodes in another form, beside them",
    "datasets/readers/ren_cache.py": "a form that is read, beside the others",
    "datasets/readers/torchmeta_hdf5.py": "a form that is read, beside the others",
    "zoo/methods/learner_plugin.py": "for whoever writes a plug-in on learners",
    "zoo/networks/conv5.py": "a registered backbone",
    "datasets/benchmarks/own_photos.py": "a set of images, if not of a benchmark",
    "zoo/networks/resnet12.py": "a registered backbone",
}
FACES = {ROOT / "zoo" / "__init__.py", ROOT / "zoo" / "__main__.py"}  # hand names on, no more


def files(package: str) -> list[Path]:
    """Its files, each once: the three folders are linked into `zoo`."""
    found = sorted((ROOT / package).rglob("*.py"))
    return [path for path in found if not any(p.is_symlink() for p in path.parents)]


def every_file() -> list[Path]:
    return [path for package in PACKAGES for path in files(package)]


def folder_of(path: Path) -> str:
    return path.parent.relative_to(ROOT).as_posix()


def module_names() -> dict[str, Path]:
    """The name that each file is imported by."""
    found = {}
    for path in every_file():
        parts = path.relative_to(ROOT).with_suffix("").parts
        parts = parts if parts[0] == "zoo" else ("zoo", *parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = module_names()
HANDED_ON = {f"zoo.{name}": module for name, module in zoo._HOME.items()}  # from zoo import adapt


def imported(path: Path) -> set[Path]:
    """The files that a file imports, inside functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [HANDED_ON.get(name, name) for name in inner]
            names = [name for name in names if name in MODULES]
            if len(names) < len(inner):
                names.append(node.module)
        found |= {MODULES[name] for name in names if name in MODULES}
    return found - {path}


def public_names(path: Path) -> set[str]:
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}


def test_the_plan_names_every_folder_and_has_no_circle():
    assert {folder_of(path) for path in every_file()} == MAY_IMPORT.keys()
    below: dict[str, set[str]] = {}
    left = dict(MAY_IMPORT)
    while left:
        ground = [folder for folder, others in left.items() if others <= below.keys()]
        assert ground, f"these folders import each other in a circle: {sorted(left)}"
        below |= {folder: left.pop(folder) for folder in ground}


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_a_folder_imports_what_lies_below_it(folder):
    wrong = [
        f"{path.relative_to(ROOT)} imports {other.relative_to(ROOT)}"
        for path in every_file()
        if folder_of(path) == folder and path not in FACES
        for other in sorted(imported(path))
        if folder_of(other) not in {folder, *MAY_IMPORT[folder]}
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_public_name_stands_in_two_files(package):
    where = defaultdict(list)
    for path in files(package):
        for name in public_names(path):
            where[name].append(path.relative_to(ROOT).as_posix())
    twice = {name: paths for name, paths in where.items() if len(paths) > 1}
    assert not twice


def test_a_file_stands_beside_its_only_user():
    """But for what a command alone uses: that is for users of Python too."""
    users = defaultdict(set)
    for path in every_file():
        if path not in FACES:
            for other in imported(path):
                users[other].add(path)
    alone = {
        path.relative_to(ROOT).as_posix()
        for path, own in users.items()
        if len(own) == 1
        and {folder_of(user) for user in own}.isdisjoint({folder_of(path), "zoo/commands"})
    }
    assert alone == USED_ONCE.keys()


def test_a_part_of_one_learner_is_imported_by_it_alone():
    """baselines/mann_memory.py is a part of baselines/mann.py."""
    keys = set(learners.names())
    for path in files("baselines"):
        if path.stem not in keys and path.stem != "__init__":
            users = {user.stem for user in files("baselines") if path in imported(user)}
            owner = path.stem.partition("_")[0]
            assert users, f"nobody imports {path.name}"
            assert all(user.partition("_")[0] == owner for user in users), path.name


def test_reports_need_no_torch():
    for path in files("reports"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])]
            roots = {name.split(".")[0] for name in [*names, getattr(node, "module", None) or ""]}
            assert roots.isdisjoint({"torch", "pytorch_lightning"}), path


@pytest.mark.parametrize(
    ("words", "also"),
    [(["list"], "numpy"), (["list", "benchmarks"], "numpy"), (["run", "--help"], "numpy"),
     (["doctor", "."], "pytorch_lightning")],
)  # fmt: skip
def test_light_commands_import_nothing_heavy(words, also):
    code = (
        f"import sys; from zoo.commands import main; main({words});"
        f"bad = {{'torch', 'pandas', 'matplotlib', '{also}'}} & set(sys.modules);"
        "assert not bad, bad"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_list_names_every_learner():
    command = [sys.executable, "-m", "zoo", "list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == learners.names()


def test_the_three_folders_are_linked_into_the_package():
    for name in PACKAGES[1:]:
        link = ROOT / "zoo" / name
        assert link.is_symlink() and link.readlink() == Path("..") / name
        assert not (ROOT / name / "__init__.py").exists(), (
            f"{name}/__init__.py: with it, `import {name}` in the checkout would find our folder "
            "before a package of that name (Hugging Face's datasets)"
        )
