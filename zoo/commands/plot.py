"""The command ``zoo plot``: draws what a trained run predicts of functions or of images' pixels."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from zoo.commands.picture_files import check_picture_path, save_figure
from zoo.commands.run import plan_run
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.datasets.benchmarks.completion import ImagesAsFunctions
from zoo.datasets.episodes.hash_random import key_of
from zoo.datasets.episodes.sampler import EVALUATION_SEED
from zoo.episode import Episode, Examples
from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.registry import benchmarks
from zoo.reports.figures.episodes import Fit, draw_completions, draw_fits
from zoo.runs.make_runs import execute
from zoo.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVE_POINTS = 400  # inputs at which a curve is predicted
PIXELS_SHOWN = (10, 100, 1000)  # numbers of pixels that are given; all of them come last


def plot_command(options: argparse.Namespace) -> int:
    """``zoo plot``: train the run if its weights are not there, and draw test tasks into a file."""
    path: Path = options.output.expanduser()
    ending = path.suffix[1:].lower()
    check_picture_path(path, ending)
    if options.tasks < 1:
        raise UsageError(f"--tasks {options.tasks}: expected a number of at least 1")
    benchmark = find_benchmark(options.benchmark)
    if not benchmark.regression or benchmark.tables:
        drawn = (each for each in map(find_benchmark, benchmarks.names()) if not each.tables)
        keys = ", ".join(each.key for each in drawn if each.regression)
        raise UsageError(f"{benchmark.variant} has no functions to draw; choose from {keys}")
    run = plan_run(options)
    draw = draw_images if isinstance(run.stores["test"], ImagesAsFunctions) else draw_functions
    if execute([run]):
        return 1
    learner = run.trained(progress=sys.stdout.isatty())
    with torch.no_grad():
        save_figure(draw(run, learner, options.tasks), path, ending)
    return 0


def draw_functions(run: Run, learner: Learner, tasks: int) -> "Figure":
    """Draw the first test tasks: support, queries, and the predicted curve."""
    episode = first_test_tasks(run, run.request.shot, run["query"], tasks)
    x = torch.cat([episode.support.x, episode.query.x], 1)  # (T, n, 1)
    steps = torch.linspace(0, 1, CURVE_POINTS)[:, None]
    grid = torch.lerp(x.amin(1, keepdim=True), x.amax(1, keepdim=True), steps)
    mean, sd = mean_and_sd(learner, episode, grid)
    context, query, curve = (
        torch.cat([part.x, part.y], -1).mT.numpy()  # (T, 2, n)
        for part in (episode.support, episode.query, Examples(grid, mean))
    )
    deviation = [None] * tasks if sd is None else sd[..., 0].numpy()
    fits = list(map(Fit, context, query, curve, deviation))
    return draw_fits(fits, plot_title(run))


def draw_images(run: Run, learner: Learner, tasks: int) -> "Figure":
    """Draw the first test images, each predicted from more and more of its pixels."""
    store: Any = run.stores["test"]
    height, width = store.store.images.shape[2:]
    pixels = height * width
    shots = [*(shot for shot in PIXELS_SHOWN if shot < pixels), pixels]
    columns = []
    for shot in shots:
        episode = first_test_tasks(run, shot, pixels, tasks)
        mean, sd = mean_and_sd(learner, episode, episode.query.x)
        seen = torch.full_like(episode.query.y, torch.nan)
        places = (episode.support.x * torch.tensor([height - 1, width - 1])).round().long()
        at = places[..., :1] * width + places[..., 1:]
        seen.scatter_(1, at.expand_as(episode.support.y), episode.support.y)
        columns.append([seen, mean] if sd is None else [seen, mean, sd.square()])
    rows = [
        torch.stack(parts, 1).unflatten(2, (height, width)).numpy()
        for parts in zip(*columns, strict=True)
    ]  # each (T, columns, H, W, C)
    variance = rows[2] if len(rows) > 2 else None
    return draw_completions(rows[0], rows[1], variance, shots, plot_title(run))


def plot_title(run: Run) -> str:
    """The title of a figure: what a reader must know of the run."""
    request = run.request
    overrides = run.title.removeprefix(request.learner)
    words = [f"{run.cls.title}{overrides} on {request.benchmark}", f"{request.shot}-shot"]
    words += [f"budget {request.budget}", f"{run['updates']} updates", f"seed {run.seed}"]
    return ", ".join(words)


def first_test_tasks(run: Run, shot: int, query: int, tasks: int) -> Episode:
    """The first test tasks of a run, with the given numbers of support and query points."""
    store: Any = run.stores["test"]
    sampler = store.sampler(run.way, shot, query, key_of("test", EVALUATION_SEED), "test")
    return store.meta_batch(sampler, sampler.indices(0, tasks))


def mean_and_sd(learner: Learner, episode: Episode, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """The predicted mean at x (T, n, *input), and the standard deviation if the learner has one."""
    blank = torch.zeros(*x.shape[:2], episode.way)
    episode = episode._replace(query=Examples(x, blank))
    distribution = getattr(learner, "distribution", None)
    return distribution(episode) if distribution else (learner(episode), None)
