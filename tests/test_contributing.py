"""The example that CONTRIBUTING.md shows does what the page says."""

import re
import sys
from pathlib import Path

import pytest
import torch

from tests import test_every_learner as battery
from tests.conftest import episode_of
from zoo import learners
from zoo.backbones import build_backbone
from zoo.settings import constructor_defaults, documentation

PAGE = Path(__file__).parent.parent / "CONTRIBUTING.md"


@pytest.fixture
def example(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "cosine_mean.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(learners, "entries", dict(learners.entries))
    monkeypatch.setattr(learners, "_objects", dict(learners._objects))
    learners.scan("", [str(tmp_path)])
    yield learners.get("cosine_mean")
    del sys.modules["cosine_mean"]


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


def test_it_passes_the_battery(example, monkeypatch):
    learner = battery.build("cosine_mean")
    battery.test_tasks_do_not_mix_in_evaluation(learner)
    battery.test_no_query_label_is_seen(learner)
    battery.test_support_order_matters_only_to_sequential_learners(learner)
    battery.test_an_inductive_learner_classifies_queries_one_by_one(learner)
    battery.test_way_equivariant_learners_permute_with_the_labels(learner)
    battery.test_it_adapts_without_autograd(learner, torch.inference_mode)
    battery.test_features_stand_for_images_that_are_embedded_alone(learner)
    assert learner.embeds_alone


def test_its_settings_are_documented(example):
    assert constructor_defaults(example)["scale"] == (10.0, "constructor", "Table 1")
    assert "cosine" in documentation(example)["scale"]
