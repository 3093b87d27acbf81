"""Hosts: learners whose forward has three parts, which a plug-in may call one by one."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo.episode import Episode, Examples
from zoo.learner import Learner
from zoo.methods.inner_loop import Params, call, expanded_parameters
from zoo.networks.backbone import batch_norm_context


class Host(Learner):
    """A learner that adapts a model to each support set, and predicts the queries with it.

    The models of T tasks are a tensor with a leading T, or a dict of such tensors, so that a task
    can also be predicted with another task's model.
    """

    wrappable = True
    adapts_encoder = False  # whether the backbone's parameters are part of a model

    def encode(self, episode: Episode) -> Episode:
        """What the models read: the episode, perhaps with features (T, n, D) for its images."""
        return episode

    def begin(self, tasks: int) -> Params:
        """The parameters that adaptation starts from, with a leading T, the same for all tasks."""
        theta = expanded_parameters(self.net, tasks)
        precondition = getattr(self, "precondition", None)
        return precondition.start(theta) if precondition else theta

    def models(self, episode: Episode) -> Any:
        """Adapt a model to each support set of an encoded episode."""
        raise NotImplementedError

    def predict(self, models: Any, episode: Episode) -> Tensor:
        """Predict each task's queries, encoded, by its model: (T, N*Q, N)."""
        raise NotImplementedError

    def forward(self, episode: Episode) -> Tensor:
        """Encode, adapt to each support set, predict its queries: logits (T, N*Q, N)."""
        encoded = self.encode(episode)
        return self.predict(self.models(encoded), encoded)


def logits_of_one_support(learner: Learner, episodes: Iterable[Episode]) -> Iterator[Tensor]:
    """Logits (n, N) for each episode of one task, where all episodes have the same support.

    A host that encodes nothing adapts to the support once. Call this without gradients, with the
    learner in evaluation mode.
    """
    models = None
    for episode in episodes:
        if isinstance(learner, Host) and models_ignore_queries(learner):
            models = learner.models(episode) if models is None else models
            yield learner.predict(models, episode)[0]
        else:
            yield learner(episode)[0]


def models_ignore_queries(learner: Learner) -> bool:
    """Whether the adapted models are the same whatever the queries are.

    An encoder may look at the queries too, and then the adapted models depend on them.
    """
    return isinstance(learner, Host) and type(learner).encode is Host.encode


def query_with_support(support: Examples, x: Tensor, way: int) -> Episode:
    """A task with one query, followed in its batch by the support's own images.

    A learner whose batch norm takes its statistics from the queries finds next to none in a single
    image: MAML then predicts by chance. The support's images give it some, and no query's logits
    depend on another query.

    Args:
        support: (1, N*K, *image) and (1, N*K).
        x: the query, (1, 1, *image).
        way: N.
    """
    label = torch.zeros_like(support.y[:, :1])
    queries = Examples(torch.cat([x, support.x], 1), torch.cat([label, support.y], 1))
    return Episode(support, queries, way)


def models_of(tasks: Tensor, models: Any) -> Any:
    """The models of some tasks, in the order of `tasks` (m,)."""
    if isinstance(models, Tensor):
        return models[tasks]
    return {name: p[tasks] for name, p in models.items()}


def embed(net: nn.Module, theta: Params, episode: Episode, batch_norm: str) -> Episode:
    """Replace an episode's images by features (T, n, D), each task with its own batch statistics.

    Args:
        net: from images to D features.
        theta: its parameters, with a leading T.
        episode: of images.
        batch_norm: ``batch`` normalises support and query each by itself; ``support`` both by the
            support's statistics.
    """
    support, query, way = episode
    if batch_norm != "support":
        z_support, z_query = call(net, theta, support.x), call(net, theta, query.x)
    else:
        rows = support.x.shape[1]
        with batch_norm_context(net, support_rows=rows):
            z = call(net, theta, torch.cat([support.x, query.x], 1))
        z_support, z_query = z[:, :rows], z[:, rows:]
    return Episode(Examples(z_support, support.y), Examples(z_query, query.y), way)
