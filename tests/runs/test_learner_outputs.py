"""What a learner returns is refused in a line if its shape or range is wrong."""

from types import SimpleNamespace

import pytest
import torch

from tests.conftest import episode_of
from tests.runs.test_damaged_files import SHORT
from tests.runs.test_run import plan
from zoo.baselines.matchingnet import MatchingNet
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone
from zoo.plugin_files import load_plugin_file
from zoo.runs import checkpoints
from zoo.runs.make_runs import execute, make_run

BACKBONE = "conv4_strided[channels=4]"
HEAD = '''"""A learner of ours."""
import torch
from zoo import register
from zoo.baselines.matchingnet import MatchingNet

@register("ours")
class Ours(MatchingNet):
    """Ours."""
'''
FORWARD = (
    HEAD
    + """
    def forward(self, episode):
        logits = super().forward(episode)
        return torch.cat([logits, logits[..., :1] - 9], -1)
"""
)
EVALUATE = (
    HEAD
    + """
    def evaluate(self, episode):
        metrics, prediction = super().evaluate(episode)
        return {**metrics, "accuracy": %s}, prediction
"""
)
RAISES = (
    HEAD
    + """
    def meta_loss(self, episode):
        raise RuntimeError("boom")
"""
)
WRONG = {
    FORWARD: "`forward` in {} returned logits of shape (2, 15, 6), expected (2, 15, 5)",
    EVALUATE
    % 'metrics["accuracy"][:1]': "`evaluate` in {} returned accuracy of shape (1,), expected (4,)",
    EVALUATE % 'metrics["accuracy"] * 200 + 2': "`evaluate` in {} returned accuracy",
}


@pytest.mark.parametrize(("content", "said"), WRONG.items(), ids=("forward", "length", "range"))
def test_it_is_refused_in_single_runs_and_in_tables(
    content, said, registers, stores, tmp_path, capsys
):
    path = tmp_path / "ours.py"
    path.write_text(content)
    load_plugin_file(path)
    flags = {**SHORT, "micro_batch": 2}
    ours, other = (plan(tmp_path, stores, name, flags=flags) for name in ("ours", "matchingnet"))
    expected = f"ours: {said.format(path)}"
    with pytest.raises(UsageError) as error:
        make_run(ours, alone=True)
    assert str(error.value).startswith(expected) and "\n" not in str(error.value)
    assert execute([plan(tmp_path, stores, "ours", flags=flags), other]) == 1
    assert f"  skipped: {expected}" in capsys.readouterr().err
    assert other.record()["status"] == "done" and ours.record() is None


def test_an_error_of_a_plugin_is_a_line_with_file_and_line(registers, stores, tmp_path, capsys):
    path = tmp_path / "ours.py"
    path.write_text(RAISES)
    load_plugin_file(path)
    run = plan(tmp_path, stores, "ours", flags=SHORT)
    assert not make_run(run, alone=True)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"  broke: {path}: RuntimeError: boom (line 11); {run.error_path} says why"
    assert "Traceback" in run.error_path.read_text()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda m, p: m, "returned a dict, expected a pair"),
        (lambda m, p: (p, m), "returned a tuple, expected a pair"),
        (lambda m, p: ({}, p), "returned no metrics, expected accuracy among them"),
        (lambda m, p: ({"nll": m["nll"]}, p), "returned nll, expected accuracy among them"),
        (lambda m, p: ({**m, "nll": m["nll"].mean()}, p), r"returned nll of shape \(\), expected"),
        (lambda m, p: ({**m, "nll": 0.5}, p), r"returned nll of shape float, expected \(2,\)"),
        (lambda m, p: (m, p[:, 1:]), r"predictions of shape \(2, 14\), expected \(2, 15\)"),
        (lambda m, p: (m, p[..., None]), r"predictions of shape \(2, 15, 1\), expected \(2, 15\)"),
    ],
)
def test_every_step_refuses_what_evaluate_returns(returned, said):
    class Ours(MatchingNet):
        def evaluate(self, episode):
            return returned(*super().evaluate(episode))

    learner = Ours(build_backbone(BACKBONE, (1, 28, 28)), 5).eval()
    episode = episode_of(tasks=2, way=5, shot=1, query=3, image=(1, 28, 28))
    for step in (learner.validation_step, learner.test_step):
        with pytest.raises(UsageError, match=rf"^Ours: `evaluate` in {__file__} .*{said}"):
            step(episode, 0)


def test_predictions_of_numbers_have_the_shape_of_y():
    class Ours(MatchingNet):
        regression = True

        def forward(self, episode):
            return episode.query.y[..., :0]

    learner = Ours(build_backbone(BACKBONE, (1, 28, 28)), 5)
    episode = episode_of(tasks=2, way=5, shot=1, query=3, image=(1, 28, 28))
    numbers = episode._replace(query=episode.query._replace(y=torch.zeros(2, 15, 1)))
    for method in (learner.meta_loss, learner.evaluate, learner.probabilities):
        with pytest.raises(UsageError, match=r"of shape \(2, 15, 0\), expected \(2, 15, 1\)"):
            method(
                numbers
                if method != learner.probabilities
                else numbers._replace(support=episode.support._replace(y=torch.zeros(2, 5, 1)))
            )


@pytest.mark.parametrize(
    ("accuracy", "prediction", "said"),
    [
        (1.5, 0, r"returned accuracy 1\.5, expected a share in \[0, 1\]"),
        (-0.5, 0, r"returned accuracy -0\.5, expected"),
        (0.5, 5, "predicted 5, expected labels from 0 to 4"),
        (0.5, -1, "predicted -1, expected labels from 0 to 4"),
        (0.5, 0.5, r"predicted 0\.5, expected labels from 0 to 4"),
        (float("nan"), 4, None),  # a test that failed, which its record says
        (1.0, 4, None),
    ],
)
def test_values_of_a_test_are_refused(accuracy, prediction, said):
    learner = MatchingNet(build_backbone(BACKBONE, (1, 28, 28)), 5)
    episode = episode_of(tasks=2, way=5, shot=1, query=3, image=(1, 28, 28))
    outputs = {
        "accuracy": torch.full((2,), accuracy),
        "prediction": torch.full((2, 15), prediction),
    }
    recorder = checkpoints.TestRecorder()

    def record():
        recorder.on_test_batch_end(SimpleNamespace(world_size=1), learner, outputs, episode, 0)

    if said is None:
        record()
        assert len(recorder) == 2
    else:
        with pytest.raises(UsageError, match=f"^matchingnet: `evaluate` in .*{said}"):
            record()
        assert len(recorder) == 0
