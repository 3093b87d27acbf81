"""The example that CONTRIBUTING.md shows does what the page says."""

import re
from pathlib import Path

import pytest
import torch

from tests.commands.test_command_line import TINY, folders
from tests.conftest import episode_of
from zoo import learners
from zoo.commands import main
from zoo.networks.backbone import build_backbone
from zoo.plugin_files import load_plugin_file
from zoo.runs.settings import constructor_defaults, documentation

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture
def path(registers, tmp_path) -> Path:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    path = tmp_path / "cosine_mean.py"
    path.write_text(code)
    return path


@pytest.fixture
def example(path):
    load_plugin_file(path)
    return learners.get("cosine_mean")


def test_the_example_learns(example):
    torch.manual_seed(0)
    learner = example(build_backbone("conv4_strided[channels=8]", (1, 28, 28)), 5)
    batch = episode_of()
    optimizer = torch.optim.Adam(learner.parameters(), 1e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        losses.append(learner.meta_loss(batch))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_it_passes_the_check_as_a_plugin(path, capsys):
    assert main(["check", "cosine_mean", "--plugin", str(path)]) == 0
    out = capsys.readouterr().out
    assert "0 fail" in out and "holds features of single images" in out
    assert "holds other numbers for the classes" in out


def test_it_runs_as_a_plugin(path, tmp_path, capsys):
    words = ["run", "cosine_mean", "glyphs", "--plugin", str(path), *TINY, *folders(tmp_path)]
    assert main(words) == 0
    assert "accuracy" in capsys.readouterr().out


def test_its_settings_are_documented(example):
    assert constructor_defaults(example)["scale"] == (10.0, "constructor", "Table 1")
    assert "cosine" in documentation(example)["scale"]
