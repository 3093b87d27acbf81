"""The wheel, and the zoo as it is installed: from an empty folder, the checkout out of reach."""

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from tarfile import TarFile

import pytest

from zoo.origin import code_hash
from zoo.registry import learners

ROOT = Path(__file__).parent.parent
LINKED = ("baselines", "datasets", "reports")
NO_PIP = importlib.util.find_spec("pip") is None or importlib.util.find_spec("setuptools") is None
pytestmark = pytest.mark.skipif(NO_PIP, reason="needs pip and setuptools")


def run(*words: str, cwd: Path, **environment: str) -> str:
    """What a command prints; it must succeed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words, cwd=cwd, env={**kept, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def ours() -> list[str]:
    """Files of the checkout that are to be installed, by their names there."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", "zoo", *LINKED]
    names = run(*words, cwd=ROOT).splitlines()
    return [name for name in names if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the checkout to build in, links kept, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    packing = [*ours(), *(f"zoo/{name}" for name in LINKED)]
    packing += ["setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"]
    packing += ["tests/test_install.py"]
    with TarFile.open(folder / "copy.tar", "w") as tar:
        for name in packing:
            tar.add(ROOT / name, name)
    with TarFile.open(folder / "copy.tar") as tar:
        tar.extractall(folder / "checkout", filter="data")
    return folder / "checkout"


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    """The wheel, built where a build before left a file that is gone from the checkout."""
    stale = source / "build" / "lib" / "zoo" / "stale.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    folder = tmp_path_factory.mktemp("wheel")
    words = ["pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    run(sys.executable, "-m", *words, cwd=source)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """A folder that the wheel is installed into; what it needs is that of this environment."""
    folder = tmp_path_factory.mktemp("site")
    words = ["pip", "install", "--no-deps", "--no-compile", "--target", str(folder), str(wheel)]
    run(sys.executable, "-m", *words, cwd=folder)
    return folder


def test_the_wheel_has_each_file_once_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        contents = {name: packed.read(name) for name in names}
    code = [name for name in names if ".dist-info/" not in name]
    wanted = {name if name.startswith("zoo/") else f"zoo/{name}": name for name in ours()}
    assert sorted(code) == sorted(wanted)
    assert {name: (ROOT / wanted[name]).read_bytes() for name in code} == {
        name: contents[name] for name in code
    }
    assert 0.5e6 < wheel.stat().st_size < 3e6


def test_a_source_distribution_gives_the_same_wheel(source, wheel, tmp_path):
    """setuptools is called as `python -m build` calls it."""
    code = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    make = [sys.executable, "-c", code]
    packed = run(*make, "build_sdist", str(tmp_path), cwd=source).splitlines()[-1]
    with TarFile.open(tmp_path / packed) as tar:
        names = [member.name.partition("/")[2] for member in tar.getmembers() if member.isfile()]
        tar.extractall(tmp_path, filter="data")
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith(("tests/", "results/", *LINKED))]
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    again = tmp_path / run(*make, "build_wheel", str(tmp_path), cwd=folder).splitlines()[-1]
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


def test_the_command_works_from_any_folder(site, tmp_path):
    command = str(site / "bin" / "zoo")
    out = run(command, "list", cwd=tmp_path, PYTHONPATH=str(site))
    names = [line.split()[0] for line in out.splitlines()]
    assert names and set(names) <= set(learners.names())
    out = run(command, "new-learner", "mine", cwd=tmp_path, PYTHONPATH=str(site))
    assert "zoo check mine --plugin mine.py" in out
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_a_run_and_the_docs_example_from_an_empty_folder(site, tmp_path):
    """The copy lies in another repository, as in a .venv; that one's commit is not ours."""
    run("git", "init", "--quiet", cwd=site)
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    example = page.partition("```python\n")[2].partition("```")[0]
    example = example.replace("updates=200", "updates=2")
    code = (
        "import zoo\nprint(zoo.__file__, zoo.__version__)\n"
        f"{example}\nassert trainer.global_step == 2\n"
        "from zoo.commands import main\n"
        "raise SystemExit(main(['run', 'protonet', 'glyphs', '--budget', 'smoke']))"
    )
    out = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(site))
    file, version = out.splitlines()[0].split()
    assert Path(file) == site / "zoo" / "__init__.py"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "results", "runs"]
    (path,) = (tmp_path / "results").glob("protonet-*.json")
    made_with = json.loads(path.read_text())["environment"]
    assert (made_with["commit"], made_with["dirty"]) == (None, None)
    assert (made_with["zoo"], made_with["code"]) == (version, code_hash(site / "zoo"))
    assert made_with["code"] == code_hash()  # that of the checkout it was built from


# One process for both, in each order; a tiny model is trained for a step from a Dataset.
TOGETHER = """
import sys
if sys.argv[1] == "ours first":
    import zoo.datasets.doctor
import datasets, transformers
import zoo, zoo.baselines.protonet, zoo.datasets.doctor, zoo.reports.records
assert datasets.Dataset and zoo.datasets.doctor.__name__ == "zoo.datasets.doctor"
rows = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3, 4]], "labels": [0, 1]})
config = transformers.BertConfig(
    vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
)
model = transformers.BertForSequenceClassification(config)
options = transformers.TrainingArguments(sys.argv[2], max_steps=1, report_to=[], use_cpu=True)
transformers.Trainer(model, options, train_dataset=rows).train()
print(datasets.__file__, zoo.__file__, sep="\\n")
"""


def is_installed(distribution: str) -> bool:
    """Whether pip knows it; in the checkout a folder called datasets proves nothing."""
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.full
@pytest.mark.skipif(
    not all(map(is_installed, ("datasets", "transformers", "accelerate"))),
    reason="needs Hugging Face's datasets, transformers and accelerate",
)
@pytest.mark.parametrize("order", ["ours first", "theirs first"])
@pytest.mark.parametrize("where", ["checkout", "installed"])
def test_hugging_faces_packages_work_beside_ours(where, order, request, tmp_path):
    folder = ROOT if where == "checkout" else request.getfixturevalue("site")
    words = [sys.executable, "-c", TOGETHER, order, str(tmp_path / "out")]
    out = run(
        *words,
        cwd=ROOT if where == "checkout" else tmp_path,
        PYTHONPATH=str(folder),
        HF_HUB_OFFLINE="1",
    )
    theirs, ours_at = map(Path, out.splitlines()[-2:])
    assert not theirs.is_relative_to(ROOT / "datasets") and theirs.name == "__init__.py"
    assert ours_at == folder / "zoo" / "__init__.py"
