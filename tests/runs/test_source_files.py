"""A training goes on under other files of the zoo, marked, and under another plug-in not at all."""

import hashlib
import sys

import numpy as np
import pytest
import torch

import zoo.baselines.mann
import zoo.runs.checkpoints
import zoo.runs.run
import zoo.runs.stages
from tests.runs.test_damaged_files import TINY
from tests.runs.test_run import KilledError, kill_at, numbers, plan
from tests.runs.test_stages import NO_UPDATES
from zoo.networks.backbone import build_backbone
from zoo.plugin_files import LOADED_PLUGINS, load_plugin_file
from zoo.registry import learners
from zoo.runs.source_files import SourceFiles, changed_files, source_files

PLUGIN = '''"""Ours."""
from zoo import register
from zoo.baselines.matchingnet import MatchingNet

@register("ours")
class Ours(MatchingNet):
    """Ours."""
    def meta_loss(self, episode):
        return super().meta_loss(episode) * {factor}
'''


@pytest.fixture
def edited(registers, tmp_path):
    """Loads the plug-in, with a factor written into it, as a new process would."""

    def edit(factor):
        sys.modules.pop("plugin_ours", None)
        LOADED_PLUGINS.pop("plugin_ours", None)
        learners.entries.pop("ours", None)
        learners._objects.pop("ours", None)
        path = tmp_path / "ours.py"
        path.write_text(PLUGIN.format(factor=factor))
        load_plugin_file(path)

    return edit


def same(run, other):
    ours, theirs = numbers(run), numbers(other)
    return all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("left", ["a killed run", "a shorter run"])
def test_another_plugin_starts_anew(left, edited, stores, tmp_path, capsys):
    edited("-1.0")
    if left == "a killed run":
        with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):
            kill_at(patch, "on_validation_end", 1)
            plan(tmp_path, stores, "ours", flags=TINY).execute(progress=False)
    else:
        short = {**TINY, "updates": 2, "validations": 1}
        plan(tmp_path, stores, "ours", flags=short).execute(progress=False)
    edited("1.0")
    run, fresh = (plan(folder, stores, "ours", flags=TINY) for folder in (tmp_path, tmp_path / "b"))
    capsys.readouterr()
    record = run.execute(progress=False)
    assert "ckpt was made by another ours.py" in capsys.readouterr().err
    fresh.execute(progress=False)
    assert record["updates"]["executed_by_this_process"] == 6 and same(run, fresh)
    assert "other_files" not in record["environment"]


def test_a_test_that_another_plugin_began_begins_anew(
    edited, stores, tmp_path, monkeypatch, capsys
):
    """Even where the training comes out the same."""
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
    edited("1.0")
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_test_batch_end", 1)
        plan(tmp_path, stores, "ours", flags=TINY).execute(progress=False)
    edited("1.00")
    record = plan(tmp_path, stores, "ours", flags=TINY).execute(progress=False)
    said = capsys.readouterr().err
    assert "last.ckpt was made by another ours.py" in said
    assert "test.npz is of another test; the test begins anew" in said
    assert record["test_passes_begun"] == 2


def test_a_plugin_that_is_the_same_goes_on(edited, stores, tmp_path):
    for updates in (2, 4):
        edited("1.0")
        flags = {**TINY, "updates": updates, "validations": updates // 2}
        record = plan(tmp_path, stores, "ours", flags=flags).execute(progress=False)
        assert record["updates"]["executed_by_this_process"] == 2


def test_other_files_of_ours_go_on_and_are_named(stores, tmp_path, monkeypatch):
    """Twice changed: the record names both changes."""
    file = "baselines/matchingnet.py"
    real = plan(tmp_path, stores, "matchingnet", flags=TINY).sources
    for then, count in (("first", 1), ("second", 2)):
        other = SourceFiles({}, {**real.own, file: then})
        with monkeypatch.context() as patch, pytest.raises(KilledError):
            patch.setattr(zoo.runs.run, "source_files", lambda things, other=other: other)
            kill_at(patch, "on_validation_end", count)
            plan(tmp_path, stores, "matchingnet", flags=TINY).execute(progress=False)
    run = plan(tmp_path, stores, "matchingnet", flags=TINY)
    record = run.execute(progress=False)
    assert record["updates"]["executed_by_this_process"] == 0
    changes = [{"file": file, "then": then, "now": real.own[file]} for then in ("first", "second")]
    assert record["environment"]["other_files"] == changes


def test_the_files_of_a_learner_are_those_of_its_classes_and_their_parts():
    net = build_backbone("conv4_strided[channels=8]", (1, 28, 28))
    found = source_files(learners.get("mann")(net, 5).modules())
    names = {"baselines/mann.py", "baselines/mann_memory.py", "baselines/mann_labels.py"}
    assert names <= found.own.keys() and "networks/layers.py" in found.own
    assert not found.plugins and not any(name.startswith("runs/") for name in found.own)
    content = open(zoo.baselines.mann.__file__, "rb").read()
    assert found.own["baselines/mann.py"] == hashlib.sha256(content).hexdigest()


def test_a_file_that_came_or_went_is_a_change():
    then, now = SourceFiles({}, {"a": "1", "b": "2"}), SourceFiles({}, {"b": "2", "c": "3"})
    assert changed_files([then._asdict()], now) == [
        {"file": "a", "then": "1", "now": None},
        {"file": "c", "then": None, "now": "3"},
    ]


def test_the_stage_of_another_plugin_is_trained_anew(stores, tmp_path, monkeypatch, capsys):
    """And of other files of ours it is taken, and the record names them."""

    def staged(sources):
        with monkeypatch.context() as patch:
            patch.setattr(zoo.runs.stages, "source_files", lambda things: sources)
            run = plan(tmp_path, stores, "pretrained", flags={**NO_UPDATES, "test_episodes": 2})
            for old in (tmp_path / "results").glob("*.json"):
                old.unlink()
            return run.execute(progress=False), (run.stages[0].folder / "weights.ckpt").stat()

    first, at = staged(SourceFiles({"ours.py": "1"}, {"a.py": "1"}))
    assert "other_files" not in first["environment"]
    second, then = staged(SourceFiles({"ours.py": "1"}, {"a.py": "2"}))
    assert then.st_mtime_ns == at.st_mtime_ns, "not trained again"
    change = {"file": "a.py", "then": "1", "now": "2"}
    assert second["environment"]["other_files"] == [change]
    assert "was made by another" not in capsys.readouterr().out
    third, then = staged(SourceFiles({"ours.py": "2"}, {"a.py": "2"}))
    assert then.st_mtime_ns != at.st_mtime_ns
    assert "was made by another ours.py; the stage is trained anew" in capsys.readouterr().out
    assert "other_files" not in third["environment"]
    assert torch.equal(
        *(torch.tensor(each["metrics"]["accuracy"]["mean"]) for each in (first, third))
    )
