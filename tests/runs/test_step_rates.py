"""The rates that explain inner steps: known answers, and the command."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from tests.conftest import episode_of
from zoo.baselines.maml import MAML
from zoo.baselines.npbml import NPBML
from zoo.baselines.protonet import ProtoNet
from zoo.commands import main
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone
from zoo.reports.tables.step_rates import step_rates_table
from zoo.runs.step_rates import StepRates, step_rates

IMAGE = (1, 16, 16)


def watched(learner, tasks=3):
    """The rates of a learner's steps on some random tasks, by step and layer."""
    rates = StepRates()
    learner.inner_optimizer = replace(learner.inner_optimizer, watch=rates.add)
    with torch.no_grad():
        learner.eval()(episode_of(3, 2, 2, tasks=tasks, image=IMAGE))
    return rates.frame().set_index(["step", "layer"])


def conv4():
    torch.manual_seed(0)
    return build_backbone("conv4_strided[channels=4]", IMAGE)


def test_plain_steps_are_explained_by_their_rate():
    rates = watched(MAML(conv4(), 3, inner_lr=0.07, inner_steps=2, test_steps=3))
    assert set(rates.index.get_level_values("step")) == {1, 2, 3}
    assert rates["rate"].to_numpy() == pytest.approx(0.07, rel=1e-3)
    assert rates["explained"].to_numpy() == pytest.approx(1, rel=1e-4)


def test_a_rate_of_each_layer_is_found():
    learner = MAML(conv4(), 3, inner_lr=0.1, preconditioner="layer_rates")
    with torch.no_grad():
        for n, rate in enumerate(learner.precondition.parameters()):
            rate.mul_(n + 2)
    rates = watched(learner)
    layers = rates[rates.index.get_level_values("layer") != ""]
    assert layers["explained"].min() > 0.99 and rates.loc[(1, ""), "explained"] <= 1
    assert layers["rate"].max() > 0.15


def test_a_learned_loss_without_scale_keeps_the_rate_of_plain_steps():
    """Its steps are longer, at right angles; so the rate stays and explains less."""
    options = {"film": False, "warp": False, "momentum": 0.0, "weight_decay": 0.0, "inner_lr": 0.1}

    def rates(**more):
        torch.manual_seed(1)
        learner = NPBML(conv4(), 3, **{**options, "loss": "support", **more})
        for name, p in learner.named_parameters():
            if name.startswith("losses"):
                torch.nn.init.normal_(p, 0, 0.5)
        return watched(learner)

    free, learned = rates(scale_free=True), rates()
    head = (1, "head")  # the encoder's gradient is zero where all logits are equal
    assert free.loc[head, "rate"] == pytest.approx(0.1, rel=1e-3)
    assert free.loc[head, "explained"] < 0.999
    assert learned.loc[head, "rate"] != pytest.approx(0.1, rel=1e-2)


def test_a_learner_without_an_inner_loop_is_refused():
    with pytest.raises(UsageError, match="ProtoNet has no inner loop"):
        step_rates(ProtoNet(conv4(), 3), None, 3)


def test_the_table_says_nothing_of_a_rate_that_explains_nothing():
    lines = [("MAML", 1, "", 0.1, 1.0), ("MAML", 2, "", 0.05, 0.5), ("MAML", 1, "head", 9e4, 0.001),
             ("MAML", 2, "head", math.nan, math.nan)]  # fmt: skip
    rates = pd.DataFrame(lines, columns=["label", "step", "layer", "rate", "explained"])
    table = step_rates_table(rates, "Rates", 7)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["MAML", "all", "0.100 (100 %)", "0.0500 (50 %)"],
        ["MAML", "head", "(0 %)", "–"],
    ]
    assert "7 validation tasks" in table.caption


def test_the_command(tmp_path, capsys):
    where = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    run = ["run", "maml", "glyphs", "--budget", "smoke", "--inner_lr", "0.3", "--updates", "0"]
    assert main([*run, *where]) == 0
    capsys.readouterr()
    assert main(["rates", "maml", "--episodes", "2", *where]) == 0
    out = capsys.readouterr().out
    assert "0.300 (100 %)" in out and "2 validation tasks" in out
    assert list((tmp_path / "results").glob("rates-maml-*.html"))
    assert main(["rates", "nothing", *where]) == 2
