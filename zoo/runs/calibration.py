"""How far a learner's probabilities can be trusted, measured on validation episodes.

A temperature is fitted to the logits (Guo et al. 2017, arXiv 1706.04599): after dividing them by
it, of the predictions with a probability of 0.8 about 80 % are right. It changes no prediction.
What "none of these" costs is measured too: the learner is given queries of classes outside the
support, and queries are rejected if their largest probability is below a threshold.
"""

import math
from collections.abc import Callable, Iterable, Iterator
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
from zoo.methods.host import logits_of_one_support, models_ignore_queries, query_with_support
from zoo.runs.record import finite_or_none

EPISODES = 50  # validation episodes that are used
BINS = 15  # of equal width, for the expected calibration error
THRESHOLDS = (*(round(0.05 * n, 2) for n in range(20)), 0.98, 0.99, 0.999)  # of probabilities
TEMPERATURES = (0.01, 100.0)  # the range that is searched


class Calibration(NamedTuple):
    """What was measured on validation episodes."""

    temperature: float  # what logits are divided by
    ece: float  # expected calibration error with a temperature fitted on the other episodes
    ece_before: float  # expected calibration error without a temperature
    accuracy: float  # share of the queries that are right
    queries: int  # in all episodes
    episodes: int
    way: int
    shot: int
    rejection: list[tuple[float, ...]] | None  # see `rejection_curve`
    alone: "Calibration | None" = None  # of a transductive learner given one query at a time
    rejection_way: int | None = None  # N of the episodes of `rejection`

    def as_json(self) -> dict[str, Any]:
        """The form in which records and weights keep it."""
        content = self._asdict()
        if self.rejection is not None:
            content["rejection"] = [
                [finite_or_none(value) for value in row] for row in self.rejection
            ]
        content["alone"] = None if self.alone is None else self.alone.as_json()
        return content


def calibrate(learner: Learner, data: EpisodicDataModule) -> Calibration | None:
    """Measure a trained learner's probabilities.

    The temperature is fitted on all episodes. The reported error is that of each half of the
    episodes with the temperature fitted on the other half. A transductive learner is measured on
    whole episodes, and also on their queries one by one, which is how it predicts photos by
    default.

    Args:
        learner: of classification, on the device where it is to compute.
        data: with validation episodes.

    Returns:
        None if there are too few validation episodes, or a logit is not a finite number.
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
    """Measure a learner's probabilities in one way of giving it queries; see `calibrate`.

    Args:
        learner: in evaluation mode.
        data: with validation episodes.
        count: how many of them are used.
        logits_of: `whole_episode` or `one_by_one`.
    """
    pairs = episodes_and_strangers(data, count, learner.device)
    known, labels, unknown = collected(learner, pairs, logits_of)
    halves = [(torch.cat(known[half::2]), torch.cat(labels[half::2])) for half in (0, 1)]
    if not all(z.isfinite().all() for z, _ in halves):
        return None
    errors = [
        calibration_error(*halves[half], fit_temperature(*halves[1 - half])) for half in (0, 1)
    ]
    logits, y = torch.cat(known), torch.cat(labels)
    accuracy, queries = float((logits.argmax(-1) == y).double().mean()), len(y)
    before = calibration_error(logits, y, 1.0)
    temperature = fit_temperature(logits, y)
    way = rejection_way = data.samplers["val"].way
    rejection = None
    if not unknown and way > 2 and not learner.fixed_way:  # every episode has all classes
        rejection_way = way - 1
        known, labels, unknown = logits_without_one_class(learner, data, count, logits_of)
        logits, y = torch.cat(known), torch.cat(labels)
    if unknown:
        rejection = rejection_curve(logits / temperature, y, torch.cat(unknown) / temperature)
    return Calibration(
        temperature,
        sum(errors) / 2,
        before,
        accuracy,
        queries,
        count,
        way,
        data.samplers["val"].shot,
        rejection,
        rejection_way=rejection_way if rejection else None,
    )


# Logits of the queries whose class is in the support, and their labels, a tensor each for every
# episode; and a list of the logits of queries of other classes.
Collected = tuple[list[Tensor], list[Tensor], list[Tensor]]


def collected(
    learner: Learner, pairs: Iterable[tuple[Episode, Episode | None]], logits_of: "LogitsOf"
) -> Collected:
    """The logits of some episodes.

    Args:
        learner: in evaluation mode.
        pairs: episodes, each also with queries of other classes, or None if there are none.
        logits_of: `whole_episode` or `one_by_one`.
    """
    known: list[Tensor] = []
    labels: list[Tensor] = []
    unknown: list[Tensor] = []
    for number, (episode, outside) in enumerate(pairs):
        logits, y, others = logits_of(learner, episode, outside, number)
        known.append(logits)
        labels.append(y)
        unknown += others
    return known, labels, unknown


def logits_without_one_class(
    learner: Learner, data: EpisodicDataModule, count: int, logits_of: "LogitsOf"
) -> Collected:
    """The logits of validation episodes of which one class is taken out, each class in turn.

    If validation has only as many classes as an episode, there are no strangers otherwise.
    """
    wholes = enumerate(episodes_and_strangers(data, count, learner.device))
    pairs = (without_class(whole, number % whole.way) for number, (whole, _) in wholes)
    return collected(learner, pairs, logits_of)


def without_class(whole: Episode, left_out: int) -> tuple[Episode, Episode]:
    """An episode of one task without one of its classes, and the same with that class's queries.

    The labels of the latter are all 0.
    """

    def without(x: Tensor, y: Tensor) -> Examples:
        rows = y[0] != left_out
        labels = y[:, rows]
        return Examples(x[:, rows], labels - (labels > left_out).to(y.dtype))

    support, query = without(*whole.support), without(*whole.query)
    strangers = whole.query.x[:, whole.query.y[0] == left_out]
    labels = torch.zeros(strangers.shape[:2], dtype=torch.int64, device=strangers.device)
    episode = Episode(support, query, whole.way - 1)
    return episode, episode._replace(query=Examples(strangers, labels))


# Takes a learner, an episode, the same episode with queries of other classes (None if there are
# none), and the episode's number. Returns logits (n, N) of queries, their labels (n,), and a list
# of at most one tensor, the logits of queries of other classes.
LogitsOf = Callable[[Learner, Episode, Episode | None, int], tuple[Tensor, Tensor, list[Tensor]]]


def whole_episode(
    learner: Learner, episode: Episode, outside: Episode | None, number: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The logits of all queries at once, and of all queries of other classes at once."""
    episodes = [episode] if outside is None else [episode, outside]
    logits, *others = logits_of_one_support(learner, episodes)
    return logits, episode.query.y[0], others


def one_by_one(
    learner: Learner, episode: Episode, outside: Episode | None, number: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The logits of the first query of each class and of each other class, one query at a time.

    A learner that adapts anew for each query takes long. It is given one query of each episode, in
    turn of each class, and none of other classes. See `query_with_support`.
    """
    adapts_once = models_ignore_queries(learner)
    queries = len(episode.query.y[0]) // episode.way
    places = [queries * label for label in range(episode.way)]
    if not adapts_once:
        places = [places[number % episode.way]]
    images = [episode.query.x[:, place : place + 1] for place in places]
    if outside is not None and adapts_once:
        images += [*outside.query.x[:, ::queries].split(1, 1)]
    episodes = (query_with_support(episode.support, x, episode.way) for x in images)
    logits = torch.cat([part[:1] for part in logits_of_one_support(learner, episodes)])
    others = logits[len(places) :]
    return logits[: len(places)], episode.query.y[0, places], [others] if len(others) else []


def episodes_and_strangers(
    data: EpisodicDataModule, count: int, device: torch.device
) -> Iterator[tuple[Episode, Episode | None]]:
    """The first validation episodes, each also with queries of classes that it does not have.

    Those are the queries of the previous episode, except of classes that are in both; their labels
    are all 0.

    Yields:
        An episode, and the same with those queries, or None if there are none.
    """
    classes = data.samplers["val"].indices(0, count).classes
    query = data.samplers["val"].query
    previous: Tensor | None = None  # queries of the previous episode
    number = 0
    for batch in MetaBatches(data.stores["val"], data.samplers["val"], count, data.eval_batch):
        assert isinstance(batch, PixelBatch)
        for episode in single_episodes(data, batch, device):
            outside = None
            if previous is not None:
                is_other = ~np.isin(classes[number - 1], classes[number])
                rows = torch.from_numpy(np.repeat(is_other, query)).to(previous.device)
                if rows.any():
                    x = previous[:, rows]
                    labels = torch.zeros(x.shape[:2], dtype=torch.int64, device=device)
                    outside = episode._replace(query=Examples(x, labels))
            yield episode, outside
            previous = episode.query.x
            number += 1


def single_episodes(
    data: EpisodicDataModule, batch: PixelBatch, device: torch.device
) -> Iterator[Episode]:
    """The episodes of a batch one by one, each in the form that a learner takes."""
    moved = batch._replace(x=batch.x.to(device), y=batch.y.to(device))
    episode = data.on_after_batch_transfer(moved, 0)
    for task in range(episode.tasks):
        part = slice(task, task + 1)
        support, query = (Examples(x[part], y[part]) for x, y in episode[:2])
        yield Episode(support, query, episode.way)


def fit_temperature(logits: Tensor, y: Tensor) -> float:
    """The temperature with the least cross-entropy, from logits (n, N) and labels y (n,)."""
    z = logits.double().cpu()
    labels = y.cpu()

    def cross_entropy(log_temperature: float) -> float:
        return float(F.cross_entropy(z / math.exp(log_temperature), labels))

    low, high = (math.log(end) for end in TEMPERATURES)
    return math.exp(minimize_scalar(cross_entropy, bounds=(low, high), method="bounded").x)


def calibration_error(logits: Tensor, y: Tensor, temperature: float) -> float:
    """The expected calibration error: the mean over bins of |share right - mean probability|.

    Predictions are put into bins by their probability, and bins are weighted by their size.
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
    """What is gained and lost by rejecting queries whose largest probability is below a threshold.

    Args:
        known: calibrated logits of queries of the support's classes, (n, N).
        y: their labels, (n,).
        unknown: calibrated logits of queries of other classes, (m, N).

    Returns:
        A tuple for each threshold: the threshold, the share of known queries that are kept, the
        share of these that are right (nan if none is kept), and the share of unknown queries that
        are rejected.
    """
    confidence, prediction = (part.cpu().numpy() for part in known.softmax(-1).max(-1))
    unknown_confidence = unknown.softmax(-1).max(-1).values.cpu().numpy()
    right: NDArray[Any] = prediction == y.cpu().numpy()
    rows: list[tuple[float, ...]] = []
    for threshold in THRESHOLDS:
        kept = confidence >= threshold
        accuracy = float(right[kept].mean()) if kept.any() else math.nan
        rejected = float((unknown_confidence < threshold).mean())
        rows.append((threshold, float(kept.mean()), accuracy, rejected))
    return rows
