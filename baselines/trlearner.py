"""TRLearner (Wang et al. 2024). https://arxiv.org/abs/2409.08474

A reconstruction: we could not get the paper's equations, only its abstracts and a summary. From
those we know the parts. The relation of two tasks is a cosine weighted by learned heads, averaged
over the heads. A consistency term makes the models of related tasks agree, and is added to the loss
of a host. Eq. 4-6 are from memory, in the form of D3G's (Yao et al., ICLR 2024, arXiv 2302.02609),
whose wording the paper shares.

Departures from the paper, as far as it is known:

1. A task's representation g is the mean of its support's features, in regression each times its y.
   It is a constant to the outer loop, so L_TR teaches the relations and the models, not g. The mean
   over the meta-batch is subtracted first: features after a ReLU are never negative, so that
   otherwise all relations of image tasks would be near 1, whatever the heads.
2. Centred relations of T tasks are -1/(T-1) on average, so m_ij / sum_k m_ik cannot be a weight.
   The weights are a softmax of 10 m_ij over the R most related tasks. So each task has a term, and
   less related tasks count less. The relation of two tasks alone is always -1: each then has all
   the weight in the other's term, and no relation is learned.
3. The number of heads, the term's weight and R are not known; 0.5 is D3G's weight.
4. The predictions of other tasks' models are averaged as logits.
5. In classification another task has other classes. `say=aligned` pairs their classes with ours by
   the cosines of class means. `say=encoders` puts our adapted head on their adapted encoder, for
   hosts that adapt one; for ProtoNet and ANIL that would be the host's own prediction. The default
   is encoders where possible.
6. `drawn=hardest` stands for how the adaptive sampler draws a task's meta-data.

The term is the host's own loss, of other models' predictions, so it has the host's scale:
`zoo check trlearner` requires the norm of its weighted gradient to be 1/20 to 1 times the host's,
on networks for 28x28, 32x32 and 84x84 images and on functions. Version 1 had squared distances to
our prototypes in the place of our head, which drowned the host; divided by D they were too weak at
84x84.
"""

from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from zoo import Episode, Params, call, register
from zoo.backbone_contract import features_of
from zoo.baselines.maml import MAML
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.embedding import prototypes
from zoo.methods.host import models_of
from zoo.methods.learner_plugin import PlugIn
from zoo.methods.task_scores import hardest
from zoo.networks.backbone import batch_norm_context
from zoo.networks.layers import cosines

SAY = ("aligned", "encoders")
DRAWN = ("all", "hardest")
SHARPNESS = 10.0  # factor in the softmax over relations, as cosine classifiers have it


class Related(PlugIn):
    """Makes a host's models of related tasks agree."""

    title = "TRLearner"
    remark = "TRLearner: a reconstruction, its paper's equations could not be had"
    without = ("multi_step",)  # a setting of hosts that is refused here
    version = 2
    net: Any

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        host: str = "maml",
        weight: float = 0.5,
        heads: int = 4,
        others: int | None = 4,
        say: str | None = None,
        drawn: str = "all",
        **settings: Any,
    ) -> None:
        """It also takes all settings of its host.

        Args:
            backbone: from images to D features.
            way: N, as the host has it.
            host: the learner that it is added to.
            weight: lambda, of the consistency term [0.5 in D3G].
            heads: of the similarity [not known].
            others: R, how many of the most related tasks predict each task's queries; null for all.
                If there is only one, as with two tasks per update, it has all the weight, and no
                relation is learned [not known].
            say: how a related task's model predicts this task's queries: aligned uses the whole
                model, with its classes matched to this task's; encoders uses its adapted encoder
                with this task's head; null for encoders if the host adapts its encoder, else
                aligned [not known].
            drawn: which support examples are averaged to represent a task: all, or the hardest half
                of each class [not known].
            **settings: of the host.
        """
        if not say:
            say = "encoders" if self.adapts_encoder else "aligned"
        if say not in SAY:
            raise UsageError(f"say {say}: choose from {', '.join(SAY)}")
        if drawn not in DRAWN:
            raise UsageError(f"drawn {drawn}: choose from {', '.join(DRAWN)}")
        if say == "encoders" and not self.adapts_encoder:
            raise UsageError(f"say encoders: {self.host_key} adapts no encoder; leave it out")
        if heads < 1 or (others is not None and others < 1):
            raise UsageError(f"heads {heads}, others {others}: expected at least 1")
        super().__init__(backbone, way, **settings)
        self.weight, self.others, self.say, self.drawn = weight, others, say, drawn
        self.relations = TaskRelations(features_of(backbone), heads)
        self.joint_tasks = True
        self.why_one_device = "it relates all tasks of a meta-batch"
        self.why_it_syncs = "SciPy pairs classes" if say == "aligned" else ""

    def loss_terms(self, episode: Episode) -> dict[str, Tensor]:
        """The host's loss and lambda L_TR, each averaged over the tasks (eq. 6)."""
        if episode.tasks < 2:
            raise UsageError("TRLearner relates tasks: --meta_batch must be at least 2")
        encoded = self.encode(episode)
        models = self.models(encoded)
        host_loss = task_loss(self.predict(models, encoded), episode.query.y)
        term = self.consistency(models, encoded, episode)
        return {"host": host_loss.mean(), "consistency": self.weight * term.mean()}

    def consistency(self, models: Any, encoded: Episode, episode: Episode) -> Tensor:
        """L_TR, the loss of what related models predict for a task's queries (eq. 5): (T,).

        The prediction is the mean of their logits, weighted by how related they are.
        """
        y, way = episode.support.y, episode.way
        features = self.features(encoded, episode)
        relations = self.relations(self.represent(features, y, way))
        others, weights = strongest(relations, self.others)
        of_classes = not y.is_floating_point()
        means = prototypes(features, y, way) if of_classes and self.say == "aligned" else None
        average = torch.zeros(())
        # For each task (T,) the r-th most related one, and how related it is.
        for other, weight in zip(others.T, weights.T, strict=True):
            their_models = models_of(other, models)
            if of_classes and self.say == "encoders":
                their_models |= head_parameters(models)
            logits = self.predict(their_models, encoded)
            if means is not None:  # put their ways in the order of this task's
                ways = aligned(means, means[other]).unsqueeze(1)
                logits = logits.take_along_dim(ways, 2)
            average = average + weight.view(-1, 1, 1) * logits
        return task_loss(average, episode.query.y)

    def features(self, encoded: Episode, episode: Episode) -> Tensor:
        """The support's features before adaptation, as constants: (T, N*K, D)."""
        if encoded is not episode:  # the host has replaced the images by features
            return encoded.support.x.detach()
        net, x = self.net.backbone, episode.support.x
        with torch.no_grad(), batch_norm_context(net, support_rows=x.shape[1], track=False):
            return call(net, backbone_parameters(self.begin(len(x))), x)

    def represent(self, z: Tensor, y: Tensor, way: int) -> Tensor:
        """g, each task's representation: features (T, N*K, D) -> (T, D)."""
        if y.is_floating_point():
            if self.drawn == "hardest":
                raise UsageError("drawn hardest: is for classes; in regression leave it out")
            return (z * y.mean(-1, keepdim=True)).mean(1)
        if self.drawn == "hardest":
            z = hardest(z, y, way)
        return z.mean(1)


def backbone_parameters(theta: Params) -> Params:
    """The parameters of a network's backbone, under the backbone's own names."""
    prefix = "backbone."
    return {name.removeprefix(prefix): p for name, p in theta.items() if name.startswith(prefix)}


def head_parameters(theta: Params) -> Params:
    """The parameters of a network that are not its backbone's."""
    return {name: p for name, p in theta.items() if not name.startswith("backbone.")}


@register("trlearner")
class TRLearner(Related, MAML):
    """Make the models of related tasks agree: a plug-in for other learners, reconstructed."""


class TaskRelations(nn.Module):
    """How related tasks are: cosines of weighted representations, averaged over heads."""

    def __init__(self, features: int, heads: int) -> None:
        """Draw the heads' weights, without changing the state of torch's random numbers.

        Args:
            features: D.
            heads: number of weightings.
        """
        super().__init__()
        with torch.random.fork_rng([]):
            self.weights = nn.Parameter(torch.randn(heads, features))

    def forward(self, g: Tensor) -> Tensor:
        """m_ij, the mean over heads of cos(w_k * g_i, w_k * g_j), g centred: (T, D) -> (T, T)."""
        weighted = (g - g.mean(0)) * self.weights.unsqueeze(1)  # (heads, T, D)
        return cosines(weighted, weighted).mean(0)


def strongest(relations: Tensor, count: int | None) -> tuple[Tensor, Tensor]:
    """The tasks that each task is most related to, and their weights, a softmax over them.

    Args:
        relations: (T, T).
        count: R, how many other tasks at most; None for all.

    Returns:
        Numbers of tasks (T, R); and weights (T, R) that add up to 1.
    """
    tasks = len(relations)
    itself = torch.eye(tasks, dtype=torch.bool, device=relations.device)
    others = relations.masked_fill(itself, -torch.inf)
    most = tasks - 1 if count is None else min(count, tasks - 1)
    values, numbers = others.topk(most)
    return numbers, (SHARPNESS * values).softmax(-1)


def aligned(ours: Tensor, theirs: Tensor) -> Tensor:
    """Pair each of our classes with one of theirs, so that the sum of cosines is largest.

    Args:
        ours: class means (T, N, D).
        theirs: class means of another task each (T, N, D).

    Returns:
        A permutation of the ways for each task, (T, N).
    """
    # SciPy refuses nan. Where there is one, the loss will be nan too, which is noticed.
    table = cosines(ours, theirs).detach().nan_to_num().cpu().numpy()
    pairs = np.stack([linear_sum_assignment(t, maximize=True)[1] for t in table])
    return torch.from_numpy(pairs).to(ours.device)
