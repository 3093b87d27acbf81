"""TRLearner (Wang et al. 2024). https://arxiv.org/abs/2409.08474

A reconstruction: the paper's equations could not be had, only its abstracts and a summary. Known
from those are the parts: relations are cosines weighted by learned heads, averaged over the heads;
a consistency term holds the models of related tasks to agree; it is added to a host. Eq. 4-6 here
are as they are remembered, in the form of those of D3G (Yao et al., ICLR 2024, arXiv 2302.02609),
whose words the paper shares.

Departures from the paper, as far as it is known:

1. A task's representation g is the mean of its support's features, in regression each times its y;
   it is a constant to the outer loop, so L_TR teaches the relations and the models, not g. The mean
   over the meta-batch is taken from it first: behind a ReLU no feature is negative, and without
   that all relations of image tasks are near 1, whatever the heads.
2. Centred relations of T tasks are -1/(T-1) on average, so m_ij / sum_k m_ik is no weight. The
   weights are a softmax of 10 m_ij over the R most related tasks. So each task has a term, and the
   less related tasks count less. Of two tasks the relation is always -1: each has the whole say in
   the other, and no relation is learned.
3. Heads, weight, and how many other tasks have a say are not known; 0.5 is D3G's weight.
4. What other tasks' models say is averaged as logits.
5. In classification another task's labels are others. `say=aligned`: their classes are paired with
   ours by the cosine of class means. `say=encoders`: our adapted head on top of their adapted
   encoder, for hosts that adapt one; of ProtoNet and ANIL it would be the host's own prediction.
   The default is encoders where it can be.
6. `drawn=hardest` is for the adaptive sampler's draw of a task's meta-data.

The term is the host's own loss of other models, so it is on the host's scale: `zoo check trlearner`
holds the norm of its weighted gradient to 1/20 to 1 times the host's, on networks of 28x28, 32x32
and 84x84 images and on functions. Squared distances to our prototypes in the place of our head, as
version 1 had them, drowned the host; divided by D they were too weak at 84x84.
"""

from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from zoo import Episode, Params, call, register
from zoo.baselines.maml import MAML
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.embedding import prototypes
from zoo.methods.host import models_of
from zoo.methods.learner_plugin import PlugIn
from zoo.methods.task_scores import hardest
from zoo.networks.backbone import batch_norm_context, features_of
from zoo.networks.layers import cosines

SAY, DRAWN = ("aligned", "encoders"), ("all", "hardest")
SHARPNESS = 10.0  # of the softmax over relations, as classifiers by cosine have it


class Related(PlugIn):
    """A host whose models are held to agree with those of related tasks."""

    title = "TRLearner"
    remark = "TRLearner: a reconstruction, its paper's equations could not be had"
    without = ("multi_step",)
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
        """Beside these, it takes all settings of its host.

        Args:
            backbone: from images to D features.
            way: N, as the host has it.
            host: the learner that it is a plug-in of.
            weight: lambda, of the consistency term [0.5 in D3G].
            heads: of the similarity [not known].
            others: how many tasks have a say in each, the most related; null for all; of one, so of
                two tasks an update, it has all the weight, and no relation is learned [not known].
            say: how others classify: aligned, their classes paired with ours; encoders, theirs with
                our head; null for encoders of hosts that adapt one, else aligned [not known].
            drawn: what represents a task: all of its support, or the hardest half of each class
                [not known].
            **settings: of the host.
        """
        say = say or ("encoders" if self.adapts_encoder else "aligned")
        for name, value, known in (("say", say, SAY), ("drawn", drawn, DRAWN)):
            if value not in known:
                raise UsageError(f"{name} {value}: choose from {', '.join(known)}")
        if say == "encoders" and not self.adapts_encoder:
            raise UsageError(f"say encoders: {self.host_key} adapts no encoder; leave it out")
        if heads < 1 or (others is not None and others < 1):
            raise UsageError(f"heads {heads}, others {others}: expected at least 1")
        super().__init__(backbone, way, **settings)
        self.weight, self.others, self.say, self.drawn = weight, others, say, drawn
        self.relations = TaskRelations(features_of(backbone), heads)
        self.joint_tasks = True
        self.why_one_device = "it relates all tasks of a meta-batch"
        self.why_it_waits = "SciPy pairs classes" if say == "aligned" else ""

    def loss_terms(self, episode: Episode) -> dict[str, Tensor]:
        """The host's loss and lambda L_TR, each averaged over the tasks (eq. 6)."""
        if episode.tasks < 2:
            raise UsageError("TRLearner relates tasks: --meta_batch must be at least 2")
        known = self.encode(episode)
        models = self.models(known)
        own = task_loss(self.predict(models, known), episode.query.y)
        term = self.consistency(models, known, episode)
        return {"host": own.mean(), "consistency": self.weight * term.mean()}

    def consistency(self, models: Any, known: Episode, episode: Episode) -> Tensor:
        """L_TR, the loss of what related tasks' models say of each task's queries (eq. 5): (T,)."""
        (_, y), way = episode.support, episode.way
        z, classes = self.features(known, episode), not y.is_floating_point()
        others, weights = strongest(self.relations(self.represent(z, y, way)), self.others)
        means = prototypes(z, y, way) if classes and self.say == "aligned" else None
        said = torch.zeros(())
        for j, m in zip(others.T, weights.T, strict=True):
            theirs = models_of(j, models)
            if classes and self.say == "encoders":
                theirs |= of_head(models)
            logits = self.predict(theirs, known)
            if means is not None:  # their ways in the order of ours
                ways = aligned(means, means[j]).unsqueeze(1)
                logits = logits.take_along_dim(ways, 2)
            said = said + m.view(-1, 1, 1) * logits
        return task_loss(said, episode.query.y)

    def features(self, known: Episode, episode: Episode) -> Tensor:
        """Of the support, by what the outer loop learned, as constants: (T, N*K, D)."""
        if known is not episode:
            return known.support.x.detach()
        net, x = self.net.backbone, episode.support.x
        with torch.no_grad(), batch_norm_context(net, support_rows=x.shape[1], track=False):
            return call(net, of_backbone(self.begin(len(x))), x)

    def represent(self, z: Tensor, y: Tensor, way: int) -> Tensor:
        """g, what each task is known by: features (T, N*K, D) -> (T, D)."""
        if y.is_floating_point():
            if self.drawn == "hardest":
                raise UsageError("drawn hardest: is for classes; in regression leave it out")
            return (z * y.mean(-1, keepdim=True)).mean(1)
        return (hardest(z, y, way) if self.drawn == "hardest" else z).mean(1)


def of_backbone(theta: Params) -> Params:
    """Of a network's parameters those of its backbone, under its own names."""
    start = "backbone."
    return {name.removeprefix(start): p for name, p in theta.items() if name.startswith(start)}


def of_head(theta: Params) -> Params:
    """Of a network's parameters those that are not its backbone's."""
    return {name: p for name, p in theta.items() if not name.startswith("backbone.")}


@register("trlearner")
class TRLearner(Related, MAML):
    """Hold the models of related tasks to agree: a reconstruction, a plug-in on other learners."""


class TaskRelations(nn.Module):
    """A similarity of tasks, the mean over heads of weighted cosines."""

    def __init__(self, features: int, heads: int) -> None:
        """Draw the heads' weights; the random numbers of others stay as they were.

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
    """The other tasks that each is most related to, and by what weight: a softmax over them.

    Args:
        relations: (T, T).
        count: R, how many others at most; None for all.

    Returns:
        Numbers of tasks (T, R); and weights (T, R) that add up to 1.
    """
    tasks = len(relations)
    itself = torch.eye(tasks, dtype=torch.bool, device=relations.device)
    others = relations.masked_fill(itself, -torch.inf)
    found, tasks_found = others.topk(min(tasks if count is None else count, tasks - 1))
    return tasks_found, (SHARPNESS * found).softmax(-1)


def aligned(ours: Tensor, theirs: Tensor) -> Tensor:
    """Which of their classes stands for each of ours: the pairing of the largest summed cosine.

    Args:
        ours: class means (T, N, D).
        theirs: class means of another task each (T, N, D).

    Returns:
        A permutation of the ways for each task, (T, N).
    """
    table = cosines(ours, theirs).detach().nan_to_num().cpu().numpy()  # of nan the loss tells
    pairs = np.stack([linear_sum_assignment(t, maximize=True)[1] for t in table])
    return torch.from_numpy(pairs).to(ours.device)
