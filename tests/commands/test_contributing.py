"""The examples that CONTRIBUTING.md shows do what the page says."""

import re
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.commands.test_command_line import TINY, folders
from tests.conftest import episode_of
from zoo import learners
from zoo.commands import main
from zoo.conformance import Maker
from zoo.networks.backbone import build_backbone
from zoo.plugin_files import load_plugin_file
from zoo.runs.settings import constructor_defaults, documentation

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
KEYS = ["cosine_mean", "sign_steps"]


@pytest.fixture
def examples(registers, tmp_path) -> dict[str, Path]:
    """The page's blocks of Python, each in a file of its own, by the key that it registers."""
    paths = {}
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (key,) = re.findall(r'@register\("(\w+)"\)', code)
        paths[key] = tmp_path / f"{key}.py"
        paths[key].write_text(code)
    return paths


@pytest.fixture
def example(examples):
    """Makes the class of an example."""

    def load(key: str) -> type:
        load_plugin_file(examples[key])
        return learners.get(key)

    return load


def test_these_are_the_examples(examples):
    assert list(examples) == KEYS


@pytest.mark.parametrize(
    ("key", "rate", "updates"), [("cosine_mean", 1e-2, 15), ("sign_steps", 3e-3, 25)]
)
def test_an_example_learns(example, key, rate, updates):
    torch.manual_seed(0)
    learner = example(key)(build_backbone("conv4_strided[channels=8]", (1, 28, 28)), 5)
    batch = episode_of()
    optimizer = torch.optim.Adam(learner.parameters(), rate)
    losses = []
    for _ in range(updates):
        optimizer.zero_grad()
        losses.append(learner.meta_loss(batch))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("key", "holds"),
    [
        ("cosine_mean", ["features of single images", "other numbers for the classes"]),
        pytest.param(
            "sign_steps",
            ["the loss of several tasks is the mean", "an update and a test never ask"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_it_passes_the_check_as_a_plugin(examples, key, holds, capsys):
    assert main(["check", key, "--plugin", str(examples[key])]) == 0
    out = capsys.readouterr().out
    assert "0 fail" in out and all(f"holds {title}" in out for title in holds)


def test_the_inner_loop_is_checked_in_every_mode(examples, capsys, monkeypatch):
    monkeypatch.setattr("zoo.commands.learners.BATTERY", [])
    assert main(["check", "sign_steps", "--plugin", str(examples["sign_steps"])]) == 0
    modes = "sign_steps, sign_steps[batch_norm=support], sign_steps on regression"
    assert f"as {modes}:" in capsys.readouterr().out


@pytest.mark.parametrize("key", KEYS)
def test_it_runs_as_a_plugin(examples, key, tmp_path, capsys):
    words = ["run", key, "glyphs", "--plugin", str(examples[key]), *TINY, *folders(tmp_path)]
    assert main(words) == 0
    assert "accuracy" in capsys.readouterr().out


def test_it_predicts_as_a_plugin(examples, tmp_path, capsys):
    """Weights of a plug-in's learner need its file again, and say so."""
    plugin = ["--plugin", str(examples["cosine_mean"])]
    assert main(["run", "cosine_mean", "glyphs", *plugin, *TINY, *folders(tmp_path)]) == 0
    for name, grey in (("a/1", 0), ("a/2", 20), ("b/1", 200), ("b/2", 220)):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), grey).save(tmp_path / "photos" / f"{name}.png")
    photos = str(tmp_path / "photos")
    words = ["predict", "cosine_mean", "--support", photos, "--query", photos]
    words += folders(tmp_path)[:2]
    for known in (learners.entries, learners._objects):  # as in a new process
        del known["cosine_mean"]
    del sys.modules["plugin_cosine_mean"]
    capsys.readouterr()
    assert main(words) == 2
    assert "name the file that defines it with --plugin FILE" in capsys.readouterr().err
    assert main([*words, *plugin]) == 0
    assert "4 photos, 2 classes with 2 support photos each" in capsys.readouterr().out


def test_their_settings_are_documented(example):
    assert constructor_defaults(example("cosine_mean"))["scale"] == (10.0, "constructor", "Table 1")
    assert "cosine" in documentation(example("cosine_mean"))["scale"]
    assert constructor_defaults(example("sign_steps"))["steps"] == (5, "constructor", "Table 1")


def test_the_steps_have_their_exact_gradient(example):
    """Of the start and the rates, as the page says: compared with small differences."""
    example("sign_steps")
    make = Maker("sign_steps", {"rate": 0.003})
    learner, batch = make().double(), make.episode().to(torch.float64)
    learner.meta_loss(batch).backward()
    for p in (learner.rates, learner.net.head.bias):
        there = []
        for shift in (1e-7, -2e-7):
            with torch.no_grad():
                p[1] += shift
                there.append(learner.meta_loss(batch))
        slope = (there[0] - there[1]) / 2e-7
        torch.testing.assert_close(p.grad[1], slope, rtol=1e-4, atol=1e-6)
        with torch.no_grad():
            p[1] += 1e-7
