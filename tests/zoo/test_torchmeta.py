"""`import zoo.torchmeta`: without torchmeta a line says what to do, with it scripts run."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.with_torchmeta import needs_torchmeta

ROOT = Path(__file__).parents[2]
SCRIPT = """\
import sys
import beside
import torchmeta
print(__name__, sys.argv[1:], beside.WORD, torchmeta.__version__, "zoo" in sys.modules)
raise SystemExit(3)
"""


def python(*words, cwd=ROOT):
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_without_torchmeta_a_line_says_how_to_get_it():
    absent = "import sys, runpy; sys.modules['torchmeta'] = None; sys.argv = ['x', 'script.py'];"
    done = python("-c", f"{absent} runpy.run_module('zoo.torchmeta', run_name='__main__')")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "zoo.torchmeta: torchmeta is not installed: make torchmeta installs it; see "
        "docs/torchmeta.md"
    )


@needs_torchmeta
def test_a_script_runs_as_python_would_run_it(tmp_path):
    (tmp_path / "beside.py").write_text("WORD = 'found'\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = python("-m", "zoo.torchmeta", tmp_path / "script.py", "--a", "1")
    assert done.returncode == 3, done.stderr
    assert done.stdout == "__main__ ['--a', '1'] found 1.8.0 True\n"


@needs_torchmeta
@pytest.mark.full
@pytest.mark.parametrize(
    ("words", "text"),
    [([], "expected a script"), (["nothing.py"], "nothing.py: there is no such file")],
)
def test_what_is_no_script_is_said_in_a_line(words, text):
    done = python("-m", "zoo.torchmeta", *words)
    assert done.returncode == 2 and text in done.stderr and "Traceback" not in done.stderr


@needs_torchmeta
@pytest.mark.full
def test_only_three_things_are_changed_and_lightning_can_be_imported():
    code = (
        "import zoo.torchmeta, torch, torchmeta, torchvision, pytorch_lightning\n"
        "from torchmeta.utils.data import SubsetTask, ConcatTask\n"
        "for cls in (SubsetTask, ConcatTask): assert '__getitems__' in vars(cls)\n"
        "from torchvision.datasets.utils import _get_confirm_token\n"
        "try: _get_confirm_token(None)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "from torchmeta.datasets.helpers import omniglot\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("UsageError torchmeta 1.8.0 can no longer download from Google")
