"""Sound learners, and deliberately broken ones (nobody, 2030). https://arxiv.org/abs/0000.00000

Departures from the paper: there is none. In `breaks` a broken learner names first the check that
must catch it, then other checks that fail with it.
"""

import os
import random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, Examples, Learner
from zoo.losses import task_loss


class Sound(Learner):
    """Classify by the nearest class mean; in regression, average with weights by distance."""

    title = "Sound"
    family = "metric"
    regression = True
    breaks: tuple[str, ...] = ()

    def __init__(self, backbone: nn.Module, way: int, *, outer_lr: float = 1e-3) -> None:
        """Nobody's defaults.

        Args:
            backbone: from images to D features.
            way: N of the test episodes.
            outer_lr: of Adam.
        """
        super().__init__(backbone, way, batch_norm="running", outer_lr=outer_lr)
        self.joint_tasks = self.batch_norm == "running"
        self.prepare()

    def prepare(self) -> None:
        """Add to the learner what a broken one needs."""

    def forward(self, episode: Episode) -> Tensor:
        x = torch.cat([episode.support.x, episode.query.x], dim=1)
        z = self.embed(x)
        rows = episode.support.x.shape[1]
        return self.classify(z[:, :rows], z[:, rows:], episode)

    def embed(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def classify(self, support: Tensor, query: Tensor, episode: Episode) -> Tensor:
        y = episode.support.y
        if y.is_floating_point():
            return torch.cdist(query, support).neg().softmax(-1) @ y
        members = F.one_hot(y, episode.way).to(support).mT
        return -torch.cdist(query, members @ support / members.sum(-1, keepdim=True))


class OneByOne(Sound):
    """Sound, without batch norm over tasks."""

    def __init__(self, backbone: nn.Module, way: int, *, outer_lr: float = 1e-3) -> None:
        """Nobody's defaults.

        Args:
            backbone: from images to D features.
            way: N of the test episodes.
            outer_lr: of Adam.
        """
        net = nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(40), nn.Linear(40, 6))
        super().__init__(net, way, outer_lr=outer_lr)
        self.embeds_alone = any(p.dim() == 4 for p in backbone.parameters())  # images


class Fixed(OneByOne):
    """Sound, without parameters."""

    regression = False

    def __init__(self, backbone: nn.Module, way: int, *, outer_lr: float = 1e-3) -> None:
        """Nobody's defaults.

        Args:
            backbone: not used.
            way: N of the test episodes.
            outer_lr: not used.
        """
        Learner.__init__(self, nn.Flatten(), way, outer_lr=outer_lr)
        self.embeds_alone = True


class Adding(Sound):
    """Sound, and adds the loss on mirrored images."""

    weight = 0.3

    def loss_terms(self, episode):
        return {"host": self.loss(episode), "mirrored": self.weight * self.added(episode)}

    def loss(self, episode):
        return task_loss(self(episode), episode.query.y).mean()

    def added(self, episode):
        support, query, way = episode
        mirrored = [Examples(part.x.flip(-1), part.y) for part in (support, query)]
        return self.loss(Episode(*mirrored, way))


class Untitled(Sound):
    """No title."""

    title = ""
    breaks = ("file_says_what_it_is",)


class Undocumented(Sound):
    """A setting of which nothing is said."""

    breaks = ("settings_are_documented",)

    def __init__(self, backbone: nn.Module, way: int, *, outer_lr: float = 1e-3) -> None:
        """Nobody's defaults."""
        super().__init__(backbone, way, outer_lr=outer_lr)


class AlwaysFive(Sound):
    """Always predicts five ways, or one output, however many there are."""

    breaks = ("shapes",)

    def classify(self, support, query, episode):
        prediction = super().classify(support, query, episode)
        if episode.query.y.is_floating_point():
            return prediction[..., :1]
        return F.pad(prediction, (0, 5 - episode.way)) if episode.way < 5 else prediction


class Unused(Sound):
    """A parameter that no gradient reaches."""

    breaks = ("gradients_reach",)

    def prepare(self):
        self.spare = nn.Parameter(torch.ones(3))


class Summed(OneByOne):
    """Its loss is the sum over tasks."""

    breaks = ("loss_is_mean_over_tasks",)

    def meta_loss(self, episode):
        return super().meta_loss(episode) * episode.tasks


class Mixing(Sound):
    """Its logits grow with the number of tasks."""

    breaks = ("tasks_do_not_mix",)

    def classify(self, support, query, episode):
        logits = super().classify(support, query, episode)
        return logits if self.training else logits * episode.tasks


class Peeking(Sound):
    """Each query's logits depend on its own label."""

    breaks = ("no_query_label_is_seen",)

    def classify(self, support, query, episode):
        y = episode.query.y if episode.query.y.dim() == 3 else episode.query.y[..., None]
        return super().classify(support, query, episode) * (1 + y)


class PeekingInTests(Sound):
    """In a test it predicts the query labels it is given."""

    breaks = ("no_query_label_is_seen",)

    def evaluate(self, episode):
        return super().evaluate(episode)[0], episode.query.y


class Ordered(Sound):
    """The first example of the support counts double."""

    breaks = ("support_order",)

    def classify(self, support, query, episode):
        weights = support.new_ones(support.shape[1], 1)
        weights[0] = 2
        return super().classify(support * weights, query, episode)


class Blind(Sound):
    """Looks at the queries alone."""

    way_equivariant = False
    breaks = ("support_is_used",)

    def classify(self, support, query, episode):
        return query[..., : episode.way]


class Drawing(Sound):
    """Adds random numbers to the queries' features, also in evaluation."""

    breaks = (
        "same_predictions_again",
        "loss_is_mean_over_tasks",
        "tasks_do_not_mix",
        "support_order",
        "transductive_as_it_says",
        "relabelled_ways",
        "double_precision",
        "metrics_are_right",
        "resumes",
    )

    def classify(self, support, query, episode):
        return super().classify(support, query + torch.randn_like(query), episode)


class SecretlyTransductive(Sound):
    """Centres the queries, and does not say so."""

    breaks = ("transductive_as_it_says",)

    def classify(self, support, query, episode):
        return super().classify(support, query - query.mean(1, keepdim=True), episode)


class SaysTransductive(Sound):
    """Says that it is transductive, and is not."""

    transductive = True
    breaks = ("transductive_as_it_says",)


class Biased(Sound):
    """Likes the last way best."""

    regression = False
    breaks = ("relabelled_ways",)

    def classify(self, support, query, episode):
        likes = torch.arange(episode.way, device=query.device)
        return super().classify(support, query, episode) + likes


class NeedsAutograd(Sound):
    """Takes a gradient without switching autograd on."""

    breaks = ("without_autograd", "resumes")

    def classify(self, support, query, episode):
        (gradient,) = torch.autograd.grad(query.square().sum(), query, create_graph=True)
        return super().classify(support, query, episode) + 0 * gradient.mean()


class Counting(Sound):
    """Counts its tests in a buffer."""

    breaks = ("evaluation_changes_nothing",)

    def prepare(self):
        self.register_buffer("tests", torch.zeros(()))

    def evaluate(self, episode):
        self.tests += 1
        return super().evaluate(episode)


class AskingForNumbers(Sound):
    """Waits for a number from the device."""

    breaks = ("stays_on_device",)

    def classify(self, support, query, episode):
        prediction = super().classify(support, query, episode)
        if prediction.isnan().sum().item():
            raise RuntimeError("a prediction is nan")
        return prediction


class OnTheCPU(Sound):
    """Makes a tensor on the CPU, wherever the learner is."""

    breaks = ("stays_on_device",)

    def classify(self, support, query, episode):
        prediction = super().classify(support, query, episode)
        return prediction + torch.zeros(prediction.shape[-1])


class Single(Sound):
    """Turns everything into 32-bit numbers."""

    breaks = ("double_precision",)

    def classify(self, support, query, episode):
        return super().classify(support.float(), query.float(), episode)


class OfAnotherType(Sound):
    """Computes something else in 64 bits."""

    breaks = ("double_precision",)

    def classify(self, support, query, episode):
        scale = 0.5 if query.dtype == torch.float64 else 1.0
        return scale * super().classify(support, query, episode)


class Squaring(OneByOne):
    """Squares images before embedding them, and squares features too where it is given those."""

    regression = False
    breaks = ("features_for_images",)

    def embed(self, x):
        return super().embed(x.square())


class Doubled(Sound):
    """Records all metrics but the accuracy doubled."""

    breaks = ("metrics_are_right",)

    def evaluate(self, episode):
        metrics, prediction = super().evaluate(episode)
        return {
            name: value if name == "accuracy" else 2 * value for name, value in metrics.items()
        }, prediction


class Forgetful(Sound):
    """Draws a number at its start that is not in its state."""

    breaks = ("weights_survive",)

    def prepare(self):
        self.shift = torch.rand(())

    def classify(self, support, query, episode):
        return super().classify(support, query * self.shift, episode)


class Unseeded(Sound):
    """Its initial weights are drawn from the system's random numbers."""

    breaks = ("follows_from_seed", "resumes", "double_precision")

    def prepare(self):
        with torch.no_grad():
            for p in self.parameters():
                p *= 1 + int.from_bytes(os.urandom(4), "big") / 2**40


class Hoarding(Sound):
    """Keeps every loss."""

    breaks = ("memory_does_not_grow",)

    def prepare(self):
        self.losses = []

    def meta_loss(self, episode):
        self.losses.append(super().meta_loss(episode))
        return self.losses[-1]


class Growing(Hoarding):
    """Keeps one tensor, longer at each update."""

    def prepare(self):
        self.seen = torch.zeros(0)

    def meta_loss(self, episode):
        x = episode.support.x.flatten()
        self.seen = torch.cat([self.seen.to(x), x])
        return Sound.meta_loss(self, episode)


class Gambling(Sound):
    """Draws from Python's random numbers, which no checkpoint has."""

    breaks = ("resumes",)

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * random.random()


class Raising(Sound):
    """Cannot do a single shot."""

    breaks = ("shapes",)

    def classify(self, support, query, episode):
        if not episode.query.y.is_floating_point() and support.shape[1] == episode.way:
            raise RuntimeError("a single shot\nis too few")
        return super().classify(support, query, episode)


class Drowning(Adding):
    """What it adds is a cross-entropy of squared distances summed over all features."""

    regression = False
    breaks = ("added_losses",)

    def added(self, episode):
        x = torch.cat([episode.support.x, episode.query.x], dim=1).flip(-1)
        z, rows = self.embed(x), episode.support.x.shape[1]
        logits = -self.classify(z[:, :rows], z[:, rows:], episode).square()
        return task_loss(logits, episode.query.y).mean()


class Whispering(Adding):
    """What it adds weighs next to nothing."""

    weight = 1e-3
    breaks = ("added_losses",)


class Unsummed(Adding):
    """Its meta-loss leaves out what `loss_terms` adds."""

    breaks = ("added_losses",)

    def meta_loss(self, episode):
        return self.loss(episode)


SOUND = [Sound, OneByOne, Adding, Fixed]
BROKEN = [
    cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, Sound) and cls.breaks
]
