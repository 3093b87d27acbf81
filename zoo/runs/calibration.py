"""How far a learner's probabilities can be trusted, measured on validation episodes.

A temperature is fitted to the logits (Guo et al. 2017, arXiv 1706.04599): dividing them by it makes
the probability of a prediction the share of such predictions that are right. It changes no
prediction. What "none of these" costs is measured too: queries of classes outside the support are
put to the learner, and rejected where the largest probability is below a threshold.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from zoo.datasets.episodes.data_module import EpisodicDataModule, MetaBatches, PixelBatch
from zoo.episode import Episode, Examples
from zoo.learner import Learner
from zoo.methods.host import adapts_to_support_alone, logits_of_one_support, query_with_support
from zoo.runs.record import finite_or_none

EPISODES = 50  # of validation, that it is measured on
BINS = 15  # of the expected calibration error, of equal width
THRESHOLDS = (*(round(0.05 * n, 2) for n in range(20)), 0.98, 0.99, 0.999)  # of the largest one
TEMPERATURES = (0.01, 100.0)  # the range that is searched


class Calibration(NamedTuple):
    """What was measured on validation episodes."""

    temperature: float  # what logits are divided by
    ece: float  # expected calibration error with a temperature fitted on the other episodes
    ece_before: float  # without temperature
    accuracy: float  # share of the queries that are right
    queries: int
    episodes: int  # that they are of
    way: int  # of those
    shot: int
    rejection: list[tuple[float, ...]] | None  # see `rejection_curve`
    alone: "Calibration | None" = None  # of a transductive learner, each query by itself

    def as_json(self) -> dict[str, Any]:
        """As records and weights keep it."""
        found = self._asdict()
        if self.rejection is not None:
            found["rejection"] = [
                [finite_or_none(value) for value in row] for row in self.rejection
            ]
        found["alone"] = None if self.alone is None else self.alone.as_json()
        return found


def calibrate(learner: Learner, data: EpisodicDataModule) -> Calibration | None:
    """Measure a trained learner.

    None where there are too few validation episodes, or a logit is not a finite number.

    The temperature is fitted on all episodes; the error that is reported is of each half of them
    with the temperature of the other. A transductive learner is measured on whole episodes, and
    also on their queries one by one, as it predicts photos unless told otherwise.

    Args:
        learner: of classification, on the device where it is to compute.
        data: with validation episodes.
    """
    count = min(EPISODES, data.evaluation["val"])
    if "val" not in data.stores or count < 2:
        return None
    learner.eval()
    with torch.no_grad(), torch.random.fork_rng([]):
        if learner.embeds_alone:
            with learner.embedded() as network:
                features = data.embedded(network, learner.device, split="val", episodes=count)
                return measured(learner, features, count, whole_episode)
        together = measured(learner, data, count, whole_episode)
        if together and learner.transductive:
            return together._replace(alone=measured(learner, data, count, one_by_one))
    return together


def measured(
    learner: Learner, data: EpisodicDataModule, count: int, logits_of: "LogitsOf"
) -> Calibration | None:
    """See `calibrate`.

    Args:
        learner: in evaluation.
        data: with validation episodes.
        count: of them.
        logits_of: how queries are put to the learner.
    """
    known, labels, unknown = [], [], []
    pairs = episodes_and_strangers(data, count, learner.device)
    for number, (episode, outside) in enumerate(pairs):
        logits, y, others = logits_of(learner, episode, outside, number)
        known.append(logits)
        labels.append(y)
        unknown += others
    halves = [(torch.cat(known[half::2]), torch.cat(labels[half::2])) for half in (0, 1)]
    if not all(z.isfinite().all() for z, _ in halves):
        return None
    errors = [
        calibration_error(*halves[half], fit_temperature(*halves[1 - half])) for half in (0, 1)
    ]
    logits, y = torch.cat(known), torch.cat(labels)
    temperature = fit_temperature(logits, y)
    rejection = None
    if unknown:
        rejection = rejection_curve(logits / temperature, y, torch.cat(unknown) / temperature)
    return Calibration(
        temperature,
        sum(errors) / 2,
        calibration_error(logits, y, 1.0),
        float((logits.argmax(-1) == y).double().mean()),
        len(y),
        count,
        data.samplers["val"].way,
        data.samplers["val"].shot,
        rejection,
    )


# Of a learner, an episode, the same with queries of other classes, and the episode's number: logits
# (n, N) of queries, their labels (n,), and logits of queries of other classes, one tensor or none.
LogitsOf = Callable[[Learner, Episode, Episode | None, int], tuple[Tensor, Tensor, list[Tensor]]]


def whole_episode(
    learner: Learner, episode: Episode, outside: Episode | None, number: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """All queries at once, those of other classes likewise."""
    asked = [episode] if outside is None else [episode, outside]
    own, *others = logits_of_one_support(learner, asked)
    return own, episode.query.y[0], others


def one_by_one(
    learner: Learner, episode: Episode, outside: Episode | None, number: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The first query of each class and of each other class, see `query_with_support`.

    Of a learner that adapts anew for each query, which takes its time, one query alone, of another
    class in each episode.
    """
    shared = adapts_to_support_alone(learner)
    queries = len(episode.query.y[0]) // episode.way
    known = [queries * label for label in range(episode.way)]
    if not shared:
        known = [known[number % episode.way]]
    asked = [episode.query.x[:, place : place + 1] for place in known]
    if outside is not None and shared:
        asked += [*outside.query.x[:, ::queries].split(1, 1)]
    singles = (query_with_support(episode.support, x, episode.way) for x in asked)
    logits = torch.cat([part[:1] for part in logits_of_one_support(learner, singles)])
    others = logits[len(known) :]
    return logits[: len(known)], episode.query.y[0, known], [others] if len(others) else []


def episodes_and_strangers(
    data: EpisodicDataModule, count: int, device: torch.device
) -> Iterator[tuple[Episode, Episode | None]]:
    """The first validation episodes, one by one, each with queries of classes that it has not.

    Those are the queries of the episode before, without those of classes that are in both; None
    where there are none. Their labels are all 0.
    """
    classes = data.samplers["val"].indices(0, count).classes
    query = data.samplers["val"].query
    before: Tensor | None = None
    number = 0
    for batch in MetaBatches(data.stores["val"], data.samplers["val"], count, data.eval_batch):
        assert isinstance(batch, PixelBatch)
        for episode in single_episodes(data, batch, device):
            outside = None
            if before is not None:
                new = ~np.isin(classes[number - 1], classes[number])
                rows = torch.from_numpy(np.repeat(new, query)).to(before.device)
                if rows.any():
                    x = before[:, rows]
                    labels = torch.zeros(x.shape[:2], dtype=torch.int64, device=device)
                    outside = episode._replace(query=Examples(x, labels))
            yield episode, outside
            before, number = episode.query.x, number + 1


def single_episodes(
    data: EpisodicDataModule, batch: PixelBatch, device: torch.device
) -> Iterator[Episode]:
    """The episodes of a batch, each alone and as a learner takes it."""
    moved = batch._replace(x=batch.x.to(device), y=batch.y.to(device))
    episode = data.on_after_batch_transfer(moved, 0)
    for task in range(episode.tasks):
        part = slice(task, task + 1)
        support, query = (Examples(x[part], y[part]) for x, y in episode[:2])
        yield Episode(support, query, episode.way)


def fit_temperature(logits: Tensor, y: Tensor) -> float:
    """The temperature of the least cross-entropy: logits (n, N), y (n,)."""
    z = logits.double().cpu()
    labels = y.cpu()

    def cross_entropy(log_temperature: float) -> float:
        return float(F.cross_entropy(z / math.exp(log_temperature), labels))

    low, high = (math.log(end) for end in TEMPERATURES)
    return math.exp(minimize_scalar(cross_entropy, bounds=(low, high), method="bounded").x)


def calibration_error(logits: Tensor, y: Tensor, temperature: float) -> float:
    """The expected calibration error: |share that is right - mean probability|, bin by bin.

    Predictions are put into bins by their probability, and each bin counts by its size.
    """
    confidence, prediction = (logits.double() / temperature).softmax(-1).max(-1)
    confidences = confidence.cpu().numpy()
    right = (prediction == y).cpu().numpy().astype(np.float64)
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    error = 0.0
    for number in range(BINS):
        inside = bins == number
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidences[inside].mean())
    return float(error)


def rejection_curve(known: Tensor, y: Tensor, unknown: Tensor) -> list[tuple[float, ...]]:
    """What is gained and lost by a threshold of the largest probability.

    Args:
        known: calibrated logits of queries of the support's classes, (n, N).
        y: their labels, (n,).
        unknown: calibrated logits of queries of other classes, (m, N).

    Returns:
        For each threshold: itself, the share of known queries that are kept, the share of those
        that are right (nan where none is kept), and the share of unknown queries rejected.
    """
    confidence, prediction = (part.cpu().numpy() for part in known.softmax(-1).max(-1))
    strangers = unknown.softmax(-1).max(-1).values.cpu().numpy()
    right: NDArray[Any] = prediction == y.cpu().numpy()
    rows: list[tuple[float, ...]] = []
    for threshold in THRESHOLDS:
        kept = confidence >= threshold
        accuracy = float(right[kept].mean()) if kept.any() else math.nan
        rejected = float((strangers < threshold).mean())
        rows.append((threshold, float(kept.mean()), accuracy, rejected))
    return rows
