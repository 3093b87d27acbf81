"""Every learner learns: it beats its own untrained network on glyphs."""

import pytest

from tests.conftest import in_full
from tests.runs.test_settings import NO_EPISODES
from zoo import learners
from zoo.commands.table import untrained_settings
from zoo.reports import records
from zoo.reports.estimates import compare
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace


@pytest.mark.slow
@pytest.mark.parametrize(
    "key",
    in_full(
        [key for key in learners.names() if key not in NO_EPISODES],
        *("protonet", "maml", "metanet", "cnp"),  # metric, gradient, memory, conditional
    ),
)
def test_it_learns_on_glyphs(key, tmp_path):
    """At least 10 points over its own untrained network, on the same episodes."""
    workspace = Workspace(results=tmp_path / "results", runs=tmp_path / "runs")
    flags = {"updates": {"mann": 700, "snail": 500}.get(key, 120)}
    flags |= {"validations": 2, "val_episodes": 20, "test_episodes": 100}
    trained = Run(RunRequest(key, "glyphs", flags=flags), workspace)
    untrained = Run(
        RunRequest(key, "glyphs", flags={**flags, **untrained_settings(trained)}),
        workspace=workspace,
    )
    for run in (untrained, trained):
        run.execute(progress=False)
    before, after = (
        records.episodes(workspace.results, run.name)["accuracy"] for run in (untrained, trained)
    )
    gain = compare(after.to_numpy()[None], before.to_numpy()[None], "accuracy").estimate
    assert gain.value >= 0.10 and gain.low > 0
