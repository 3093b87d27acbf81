"""Tasks of a regression that diverge: counted, kept out of the curve, and avoided by the choice."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from zoo import Episode, Examples
from zoo.runs import checkpoints
from zoo.runs.checkpoints import CheckpointKeeper
from zoo.runs.divergence import TaskErrors, Validated, diverged


def test_ten_times_the_error_of_who_predicts_zero():
    """Over all tasks: a small sine wave missed by an ordinary error did not diverge."""
    mean_square = np.array([0.01, 3.99])  # of a mean of 2
    assert diverged(np.array([19.9, 1.0]), mean_square).tolist() == [False, False]
    assert diverged(np.array([20.1, math.nan]), mean_square).tolist() == [True, True]
    assert diverged(np.array([math.inf, 0.0]), mean_square).tolist() == [True, False]


def batch_of(mse, y=1.0):
    """What a step returns of tasks of these errors, and the tasks: y of one query each."""
    outputs = torch.full((len(mse), 1, 1), y)
    part = Examples(outputs, outputs)
    return {"mse": torch.tensor(mse)}, Episode(part, part, 1)


def validated(*batches) -> Validated:
    errors = TaskErrors()
    for batch in batches:
        errors.add(*batch_of(batch))
    return errors.validated()


def test_the_mean_is_of_the_others_and_the_median_of_all():
    found = validated([0.5, 1.0, 1e30], [2.5])
    assert found == (pytest.approx(4 / 3), 1.75, 0.25)
    assert validated([0.5, 1.0, math.nan]) == (0.75, 1.0, pytest.approx(1 / 3))
    nothing = validated([math.nan, math.nan])
    assert math.isnan(nothing.mean) and nothing.median == math.inf and nothing.diverged == 1


def test_fewer_diverged_tasks_first_and_then_the_lower_median():
    in_order = [
        Validated(1.0, 0.1, 0.5),
        Validated(1.0, math.inf, 0.25),
        Validated(1.0, 3.0, 0.25),
        Validated(9.0, 2.0, 0.25),
        Validated(9.0, 4.0, 0.0),
    ]
    assert sorted(in_order, key=lambda found: found.score) == in_order


def test_one_diverged_task_of_thousands_does_not_decide():
    """Weights that have hardly learned make none diverge, and would win."""
    few, none = Validated(0.4, 0.2, 3 / 2000), Validated(2.3, 1.4, 0.0)
    assert few.score > none.score > Validated(0.4, 0.2, 11 / 2000).score


class Fit:
    """A keeper, and a training that it believes to see."""

    def __init__(self, folder, **options):
        self.keeper = CheckpointKeeper(folder, "val/mse", None, regression=True, **options)
        self.learner = nn.Linear(1, 1)

    def validate(self, update, *batches):
        """A validation in these batches; the weights say of which update they are."""
        trainer = SimpleNamespace(
            global_step=update,
            callback_metrics={"val/mse": torch.tensor(math.nan)},
            world_size=1,
            strategy=SimpleNamespace(barrier=lambda: None),
            save_checkpoint=lambda path: torch.save({}, path),
        )
        nn.init.constant_(self.learner.weight, update)
        self.keeper.on_validation_start(trainer, self.learner)
        for i, batch in enumerate(batches):
            self.keeper.on_validation_batch_end(trainer, self.learner, *batch_of(batch), i)
        self.keeper.on_validation_end(trainer, self.learner)

    def kept(self):
        """Of which update the best weights are, as the keeper says and as they are."""
        weights = torch.load(self.keeper.folder / "best.ckpt", weights_only=True)
        assert self.keeper.best[0] == weights["weight"].item()
        return self.keeper.best[0]


def test_the_checkpoint_with_fewer_diverged_tasks_is_kept(tmp_path):
    fit = Fit(tmp_path)
    fit.validate(1, [0.1, 0.1, 0.1], [50.0])
    assert fit.kept() == 1
    fit.validate(2, [0.9, 0.9], [0.9, 5.0])
    assert fit.kept() == 2
    fit.validate(3, [0.1, 0.1, 0.1, math.nan])  # a lower median, but one task diverged
    assert fit.kept() == 2
    fit.validate(4, [0.7, 0.7, 0.7, 9.0])  # a higher mean, but a lower median
    assert fit.kept() == 4
    means = [0.1, 1.925, 0.1, 2.775]
    assert [value for _, value in fit.keeper.curve] == pytest.approx(means)
    assert fit.keeper.tasks_validated("diverged") == [0.25, 0, 0.25, 0]
    assert fit.keeper.tasks_validated("median") == pytest.approx([0.1, 0.9, 0.1, 0.7])


def test_a_resumed_keeper_goes_on(tmp_path):
    fit = Fit(tmp_path)
    fit.validate(1, [0.5, 0.5])
    torch.save(fit.keeper.state_dict(), tmp_path / "state")
    again = Fit(tmp_path)
    again.keeper.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    again.validate(2, [0.6, 0.6])
    assert again.kept() == 1 and again.keeper.tasks_validated("median") == pytest.approx([0.5, 0.6])


def test_a_checkpoint_from_before_is_gone_on_with(tmp_path):
    """What diverged then is not known: the first validation that knows it is the best so far."""
    fit = Fit(tmp_path)
    fit.validate(1, [0.5, 0.5])
    state = fit.keeper.state_dict()
    del state["of_tasks"]
    again = Fit(tmp_path)
    again.keeper.load_state_dict(state)
    again.validate(2, [0.6, 70.0])
    assert again.kept() == 2
    assert again.keeper.curve == [(1, 0.5), (2, pytest.approx(0.6))]
    assert again.keeper.tasks_validated("diverged") == [None, 0.5]


def test_the_share_of_a_test_is_known_when_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.runs.checkpoints.SECONDS_BETWEEN_SAVES", -1.0)
    for expected in (0.5, 0.75):
        recorder = checkpoints.TestRecorder(tmp_path)
        outputs, batch = batch_of([0.5, 90.0] if expected == 0.5 else [math.nan, 11.0])
        outputs["prediction"] = torch.zeros(2, 1, 1)
        recorder.on_test_batch_end(SimpleNamespace(world_size=1), None, outputs, batch, 0)
        assert recorder.diverged() == expected
        assert recorder.results().keys() == {"mse", "prediction"}


def test_a_test_begun_by_earlier_code_begins_anew(tmp_path, capsys):
    """It has no checksum, and a test is soon made again."""
    np.savez(tmp_path / "test.npz", mse=np.ones(2), prediction=np.zeros((2, 1, 1)))
    assert len(checkpoints.TestRecorder(tmp_path)) == 0 and not [*tmp_path.iterdir()]
    assert "test.npz has no checksum; the test begins anew" in capsys.readouterr().err
