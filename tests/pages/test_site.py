"""The docs as a site: what Sphinx makes of them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import zoo

ROOT = Path(__file__).parents[2]


@pytest.mark.full
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="Sphinx is not installed: make docs installs it")
    words = ["-q", "-W", "--keep-going", "-b", "html", str(ROOT / "docs"), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "api.html").read_text(encoding="utf-8")
    for name in zoo.__all__:
        assert f'id="zoo.{name}"' in reference, name
    assert "A learner with fresh weights and its episodes" in reference  # a docstring


def test_the_reference_has_every_public_name():
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\.\. (?:auto|py:)\w+:: (?:zoo\.)?(\w+)", text, re.MULTILINE))
    assert {*zoo.__all__} - listed == set()
