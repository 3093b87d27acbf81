"""`zoo plot`: what a trained run does, as a picture."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.datasets.benchmarks.test_completion import batch
from zoo.commands import main, plot
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.reports.figures.episodes import draw_completions
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace


def words(folder: Path, learner: str, benchmark: str, *more: str) -> list[str]:
    where = ["--results", str(folder / "results"), "--runs", str(folder / "runs")]
    size = ["--budget", "smoke", "--meta_batch", "2", "--test_episodes", "4", "--shot", "5"]
    shape = ["--train_shot", "4", "--train_query", "3", "--threads", "1"]
    return ["plot", learner, benchmark, *size, *shape, *where, *more]


@pytest.mark.parametrize("learner", ["cnp", "maml"])
@pytest.mark.parametrize("benchmark", ["gp", "harmonic", "completion"])
def test_it_trains_once_and_draws(learner, benchmark, tmp_path, capsys):
    path = tmp_path / "a.png"
    assert main(words(tmp_path, learner, benchmark, "-o", str(path), "--tasks", "3")) == 0
    out = capsys.readouterr().out
    assert str(path) in out and "0 done, 1 left" in out
    with Image.open(path) as image:
        assert min(image.size) > 400
        first = np.asarray(image.convert("RGB"))
    assert main(words(tmp_path, learner, benchmark, "-o", str(path), "--tasks", "3")) == 0
    assert "1 done, 0 left" in capsys.readouterr().out
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), first)


def run_of(folder: Path, **options) -> Run:
    workspace = Workspace(results=folder / "results", runs=folder / "runs", threads=1)
    flags = {"meta_batch": 2, "test_episodes": 4}
    return Run(RunRequest("cnp", "gp", budget="smoke", shot=5, flags=flags, **options), workspace)


def test_weights_that_are_gone_are_trained_again(tmp_path):
    run_of(tmp_path).execute(progress=False)
    weights = {n: p.clone() for n, p in run_of(tmp_path).trained(False).named_parameters()}
    (best,) = tmp_path.glob("runs/*/best.ckpt")
    fresh = run_of(tmp_path).learner
    assert any(not torch.equal(p, weights[name]) for name, p in fresh.named_parameters())
    best.unlink()
    (kept,) = tmp_path.glob("results/*.safetensors")
    kept.unlink()
    again = run_of(tmp_path).trained(False)
    assert best.exists() and not best.with_name("last.ckpt").exists()
    assert all(torch.equal(p, weights[name]) for name, p in again.named_parameters())


def test_what_is_drawn_is_what_the_learner_predicts(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(plot, "draw_fits", lambda fits, title: seen.extend(fits))
    run = run_of(tmp_path)
    learner = run.learner.eval()
    with torch.no_grad():
        plot.draw_functions(run, learner, 3)
        episode, _ = batch(find_benchmark("gp").open()["test"], 5, 100, 3)
        for t, fit in enumerate(seen):
            np.testing.assert_array_equal(fit.query[1], episode.query.y[t, :, 0])
            np.testing.assert_array_equal(fit.context[0], episode.support.x[t, :, 0])
            assert fit.curve.shape == (2, 400) and (np.diff(fit.curve[0]) > 0).all()
            x = torch.from_numpy(fit.curve[0]).expand(3, -1)[..., None]
            asked = episode._replace(query=episode.query._replace(x=x))
            mean, sd = learner.distribution(asked)
            np.testing.assert_allclose(fit.curve[1], mean[t, :, 0], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(fit.sd, sd[t, :, 0], rtol=1e-5)


def test_pixels_are_drawn_where_they_were_seen(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(plot, "draw_completions", lambda *parts: drawn.extend(parts))
    workspace = Workspace(results=tmp_path / "results", runs=tmp_path / "runs", threads=1)
    run = Run(RunRequest("cnp", "completion", budget="none", shot=5), workspace)
    with torch.no_grad():
        plot.draw_images(run, run.learner.eval(), 2)
    seen, mean, variance, shots, _ = drawn
    assert shots == [10, 100, 784] and mean.shape == seen.shape == (2, 3, 28, 28, 1)
    assert (~np.isnan(seen)).sum((2, 3, 4)).tolist() == [shots, shots]
    known = ~np.isnan(seen)
    assert np.array_equal(seen[known], np.broadcast_to(seen[:, 2:], seen.shape)[known])
    store = run.stores["test"].store
    _, indices = batch(run.stores["test"], 5, 784, 2)
    truth = store.images[indices.image].permute(0, 2, 3, 1).numpy() / 255
    np.testing.assert_allclose(seen[:, 2], truth, atol=1e-6)
    assert (variance >= 0.1**2).all()


def test_an_image_of_each_row_is_in_the_picture(tmp_path):
    seen = np.full((2, 2, 14, 14, 3), np.nan)
    seen[..., :3, :3, :] = (1.0, 0.0, 0.0)
    mean = np.full((2, 2, 14, 14, 3), (0.0, 1.0, 0.0))
    path = tmp_path / "a.png"
    draw_completions(seen, mean, np.ones_like(mean), [9, 196], "title").savefig(path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    for colour, count in (((255, 0, 0), 4 * 9), ((0, 255, 0), 4 * 196)):
        assert (pixels == colour).all(2).sum() == count * 100  # each pixel 10 by 10


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (
            ["cnp", "glyphs", "-o", "a.png"],
            "glyphs has no functions to draw; choose from",
        ),
        (["protonet", "gp", "-o", "a.png"], "protonet does no regression"),
        (["cnp", "gp", "-o", "a.docx"], "-o a.docx: expected a picture's ending"),
        (["cnp", "gp", "-o", "nowhere/a.png"], "there is no folder nowhere"),
        (["cnp", "gp", "-o", "a.png", "--tasks", "0"], "--tasks: '0': expected"),
        (["cnp", "gp", "-o", "a.png", "--min_sdd", "0.1"], "--min_sdd: did you mean 'min_sd'"),
        (["cnp", "gp", "-o", "a.png", "--way", "3"], "--way 3: gp is regression"),
        (["cnp", "gpp", "-o", "a.png"], "no benchmark 'gpp'"),
        (["cnp", "gp"], "the following arguments are required: -o"),
    ],
)
def test_mistakes_are_one_line(command, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["plot", *command]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert not list(tmp_path.iterdir())
