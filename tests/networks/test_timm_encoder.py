"""The plug-in of docs/plugins: a frozen encoder of timm, here with random weights."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.support.other_networks import Residual
from zoo.commands import main

PLUGIN = Path(__file__).parents[2] / "docs" / "plugins" / "timm_encoder.py"
pytestmark = pytest.mark.usefixtures("registers")


class Model(Residual):
    """Stands for a model of timm: it takes colour alone."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__((3, 16, 16))


def timm_or_what_stands_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def create_model(name: str, pretrained: bool, num_classes: int) -> nn.Module:
        assert (name, num_classes) == ("resnet18", 0) and not pretrained
        made.append(name)
        return Model()

    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))


@pytest.mark.parametrize("learner", ["pretrained", "finetune"])
def test_it_is_a_reference_row(learner, tmp_path, monkeypatch, capsys):
    """Nearest class mean, and a linear head: the encoder stays as it was made."""
    timm_or_what_stands_for_it(monkeypatch)
    variant = f"{learner}[backbone=timm_resnet18_random[side=16],pretrained_from=null]"
    words = ["run", variant, "glyphs", "--test_episodes", "8", "--plugin", str(PLUGIN)]
    where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    assert main([*words, *where, "--threads", "1"]) == 0
    (path,) = (tmp_path / "results").glob("*.json")
    record = json.loads(path.read_text())
    assert record["learned_parameters"] == 0 and record["updates"]["total"] == 0
    assert [plugin["file"] for plugin in record["environment"]["plugins"]] == [PLUGIN.name]


def test_its_images_are_of_three_channels_and_one_size(monkeypatch):
    from zoo.networks.backbone import build_backbone
    from zoo.plugin_files import load_plugin_file

    timm_or_what_stands_for_it(monkeypatch)
    load_plugin_file(PLUGIN)
    net = build_backbone("timm_resnet18_random[side=16]", (1, 28, 28)).eval()
    grey = torch.rand(2, 1, 28, 28)
    torch.testing.assert_close(net(grey), net(grey.repeat(1, 3, 1, 1)))
    assert not any(p.requires_grad for p in net.parameters())


def test_without_timm_it_says_so(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "timm", None)
    words = ["run", "pretrained[backbone=timm_resnet18,pretrained_from=null]", "glyphs"]
    assert main([*words, "--plugin", str(PLUGIN)]) == 2
    assert "timm is not installed; pip install timm" in capsys.readouterr().err
