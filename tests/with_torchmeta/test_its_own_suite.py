"""Torchmeta's own tests, and four scripts that use it as its documentation says, under the shim.

The tests come with the package: the wheel's are those of the source distribution, file for file.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.with_torchmeta import needs_torchmeta
from tests.with_torchmeta.folders import BUILDERS

SCRIPTS = Path(__file__).parent / "scripts"
ROOT = Path(__file__).parents[2]
# Sets that its helpers have and ZOO_DATA does not.
ABSENT = "tieredimagenet cub doublemnist triplemnist pascal5i letter plants bach".split()
RUN_SUITE = (
    "import sys, pytest, zoo.torchmeta\n"
    "sys.exit(pytest.main(['--pyargs', 'torchmeta.tests', '-q', '-o', 'addopts=', '-p',"
    " 'no:cacheprovider', '-W', 'ignore', '--rootdir', *sys.argv[1:]]))"
)
pytestmark = [pytest.mark.full, needs_torchmeta]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, data_folder) -> Path:
    """Where torchmeta's own code has put Omniglot, CIFAR-100 and mini-ImageNet."""
    import zoo.torchmeta  # noqa: F401

    out = tmp_path_factory.mktemp("torchmeta")
    for build in BUILDERS.values():
        build(data_folder, out)
    return out


def python(*words: str, cwd: Path, **environment: str) -> str:
    """What a Python process prints; it must succeed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TORCHMETA")}
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, env={**kept, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def counts(printed: str) -> dict[str, int]:
    """The numbers of pytest's last line: passed, skipped, ..."""
    return {word: int(n) for n, word in re.findall(r"(\d+) (\w+)", printed.splitlines()[-1])}


def test_what_it_tests_without_data_passes(tmp_path):
    found = counts(python("-c", RUN_SUITE, str(tmp_path), cwd=tmp_path))
    assert found["passed"] == 187 and found.keys() <= {"passed", "skipped"}


def test_what_it_tests_on_data_passes(tmp_path, folders):
    """Omniglot, mini-ImageNet, CIFAR-FS and FC100: 61 tests more."""
    words = ["-k", f"not ({' or '.join(ABSENT)})"]
    environment = {"TORCHMETA_DATA_FOLDER": str(folders)}
    found = counts(python("-c", RUN_SUITE, str(tmp_path), *words, cwd=tmp_path, **environment))
    assert found["passed"] == 187 + 61
    assert found.keys() <= {"passed", "skipped", "deselected"}


@pytest.mark.parametrize(
    ("script", "gain"), [("maml", 0.2), ("protonet", 0.03), ("matching", 0.08)]
)
def test_scripts_on_images_learn(script, gain, folders, tmp_path):
    """Accuracy on test tasks before and after: 0.21 and 0.61 for MAML here."""
    words = ["-m", "zoo.torchmeta", str(SCRIPTS / f"{script}.py"), str(folders)]
    before, after = [float(value) for value in python(*words, cwd=tmp_path).split()[1::2]]
    assert 0.1 < before < before + gain < after <= 1


def test_a_script_on_sine_waves_learns(tmp_path):
    words = ["-m", "zoo.torchmeta", str(SCRIPTS / "sinusoid.py")]
    before, after = [float(value) for value in python(*words, cwd=tmp_path).split()[1::2]]
    assert after < 0.8 * before and after < 3
