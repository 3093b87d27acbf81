"""Hosts: learners whose forward has three parts, which a plug-in may ask for one by one."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo.episode import Episode, Examples
from zoo.learner import Learner
from zoo.methods.inner_loop import Params, call, expanded_parameters
from zoo.networks.backbone import batch_norm_context


class Host(Learner):
    """A learner that adapts a model to each support set, and predicts by it.

    What is adapted is a tensor with a leading T, or a dict of such, so that the models of other
    tasks can be put in the place of a task's own.
    """

    wrappable = True
    adapts_encoder = False  # whether a model has the backbone's parameters too

    def encode(self, episode: Episode) -> Episode:
        """What every model is given: the episode, or features (T, n, D) in place of its images."""
        return episode

    def begin(self, tasks: int) -> Params:
        """What adaptation starts from, the same of all T tasks: of gradient learners theta."""
        theta, precondition = (
            expanded_parameters(self.net, tasks),
            getattr(self, "precondition", None),
        )
        return precondition.start(theta) if precondition else theta

    def models(self, episode: Episode) -> Any:
        """What adaptation to each support set leaves, of an encoded episode."""
        raise NotImplementedError

    def predict(self, models: Any, episode: Episode) -> Tensor:
        """What T models say of the queries of T encoded tasks, each of its own: (T, N*Q, N)."""
        raise NotImplementedError

    def forward(self, episode: Episode) -> Tensor:
        """Encode, adapt to each support set, predict its queries: logits (T, N*Q, N)."""
        known = self.encode(episode)
        return self.predict(self.models(known), known)


def logits_of_one_support(learner: Learner, episodes: Iterable[Episode]) -> Iterator[Tensor]:
    """Logits (n, N) of the queries of each episode of one task, all with the same support.

    A host that adapts to the support's images alone adapts once. Call it without gradients, the
    learner in evaluation.
    """
    models = None
    for episode in episodes:
        if isinstance(learner, Host) and adapts_to_support_alone(learner):
            models = learner.models(episode) if models is None else models
            yield learner.predict(models, episode)[0]
        else:
            yield learner(episode)[0]


def adapts_to_support_alone(learner: Learner) -> bool:
    """Whether what adaptation leaves is the same whatever the queries are.

    What a host encodes may follow from the queries too, and then so does what it adapts.
    """
    return isinstance(learner, Host) and type(learner).encode is Host.encode


def query_with_support(support: Examples, x: Tensor, way: int) -> Episode:
    """A task with one query, first in a batch with the support's own images.

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


def taken(models: Any, tasks: Tensor) -> Any:
    """The models of those tasks, in their order."""
    if isinstance(models, Tensor):
        return models[tasks]
    return {name: p[tasks] for name, p in models.items()}


def embed(net: nn.Module, theta: Params, episode: Episode, batch_norm: str) -> Episode:
    """Features (T, n, D) by each task's parameters in place of images, each batch norm its own.

    Args:
        net: from images to D features.
        theta: its parameters, with a leading T.
        episode: of images.
        batch_norm: ``batch``, of support and query each, or ``support``.
    """
    (x, y), (asked, labels), way = episode
    if batch_norm != "support":
        z, z_asked = call(net, theta, x), call(net, theta, asked)
    else:
        with batch_norm_context(net, support_rows=x.shape[1]):
            both = call(net, theta, torch.cat([x, asked], 1))
        z, z_asked = both[:, : x.shape[1]], both[:, x.shape[1] :]
    return Episode(Examples(z, y), Examples(z_asked, labels), way)
