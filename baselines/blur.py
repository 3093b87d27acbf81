"""BLUR (Sandler et al., ICML 2021). https://arxiv.org/abs/2104.04657

Departures from the paper, of which we read the abstract and the authors' code
(github google-research/blur, ``blur.py``, ``genome_util.py``, ``blur_meta.py`` and its notebook):

1. The paper has no few-shot tasks. Here the whole support is the batch of every step, as with the
   code's `fixed_batches`, and its labels are +1 for the example's class and -1 for the others.
   Each example's features have mean 0 and variance 1 when they enter.
2. The loss is the cross-entropy of the prediction times `scale`; `loss=mse` is the code's.
3. The update of a synapse is the mean over the batch, where the code has the sum, so that one
   genome serves any number of shots.
4. Synapses start from uniform numbers of at most 1 / sqrt(inputs): new ones for each task in
   training, always the same in a test. The code's are of at most 1, with 1 / sqrt(neurons) as an
   option, and its notebook draws them once.
5. Six random genomes are learned side by side, as the notebook learns several; the one whose loss
   in training is least, by a moving average, is tested. On glyphs about half of all genomes stay
   at chance.
6. The paper also names CMA-ES; `evolution` is the simpler strategy of VSML.
7. We left out what the code has besides: genomes of each layer, Oja's term, saturation and
   normalisation of synapses, steps without feedback.

On glyphs 500 updates (`zoo run blur glyphs`, seeds 0, 1 and 2) give 66.1, 65.8 and 64.1 %; seed 0
untrained has 19.5, nearest pixels 60.2.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo import register
from zoo.baselines.blur_network import (
    BACKPROPAGATION,
    BIDIRECTIONAL,
    Genome,
    backward_pass,
    first_synapses,
    forward_pass,
    gradient_genome,
    update_synapses,
)
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.learned_rule import Draw, LearnedRule, Network, Rule
from zoo.networks.backbone import Backbone


@register("blur")
class BLUR(LearnedRule):
    """Learn a few numbers that say how neurons and synapses of several states change each other."""

    title = "BLUR"

    def __init__(
        self,
        backbone: Backbone,
        way: int,
        *,
        genome: str = "random",
        species: int = 6,
        states: int = 2,
        hidden: int = 32,
        depth: int = 1,
        steps: int = 4,
        rate: float = 1e-3,
        loss: str = "cross_entropy",
        scale: float = 10.0,
        evolution: bool = False,
        noise: float = 0.05,
        clip: float | None = 1.0,
        batch_norm: str = "running",
        outer_lr: float = 1e-3,
    ) -> None:
        """The paper has no mini-ImageNet; defaults are those of its notebook, where it has them.

        Args:
            backbone: from images to D features; pixels14 gives the network the pixels.
            way: N of the test episodes; training may have another.
            genome: ``random``; or ``gradient``, that of gradient descent on the same network: it
                has sigmoids, one state of each synapse for both directions, and the derivative of
                the loss fed back in place of the label.
            species: genomes that are learned side by side; that of the least loss is tested
                [notebook].
            states: k, of each neuron and synapse [notebook].
            hidden: neurons of a hidden layer [notebook: 20].
            depth: hidden layers [notebook].
            steps: how often the support is shown, with an update of the synapses each time
                [notebook].
            rate: of these updates; a random genome starts with its negative [genome_util.py].
            loss: ``cross_entropy``, or ``mse`` from labels of 1 and -1 [blur_meta.py].
            scale: logits are predictions times this, under ``cross_entropy`` [ours].
            evolution: learn by evolution strategies, with a pair of genomes a task, instead of
                backpropagation through the steps [the paper has CMA-ES].
            noise: standard deviation of these genomes [VSML's code].
            clip: the outer gradient is clipped to this norm; null for never [ours].
            batch_norm: of the backbone: ``batch``, ``running`` or ``support``.
            outer_lr: of Adam [notebook].
        """
        if genome not in ("random", "gradient"):
            raise UsageError(f"genome {genome}: choose from random, gradient")
        if loss not in ("cross_entropy", "mse"):
            raise UsageError(f"loss {loss}: choose from cross_entropy, mse")
        if states < 2:
            raise UsageError(f"states {states}: expected at least 2, for the signal and feedback")
        if genome == "gradient" and states != 2:
            raise UsageError(f"states {states}: the genome of gradient descent has 2")
        at_least = {"species": (species, 1), "hidden": (hidden, 1), "depth": (depth, 0)}
        for name, (number, least) in {**at_least, "steps": (steps, 0)}.items():
            if number < least:
                raise UsageError(f"{name} {number}: expected a number of at least {least}")
        by_gradient = genome == "gradient"
        rules = [
            gradient_genome(rate) if by_gradient else Genome(states, -rate) for _ in range(species)
        ]
        super().__init__(
            backbone,
            way,
            rules,
            evolution=evolution,
            noise=noise,
            batch_norm=batch_norm,
            outer_lr=outer_lr,
        )
        self.dynamics = BACKPROPAGATION if by_gradient else BIDIRECTIONAL
        self.feeds_error = by_gradient
        self.states, self.layers, self.steps = states, [hidden] * depth, steps
        self.loss, self.scale, self.clip_norm = loss, scale, clip

    def start(self, tasks: int, features: int, way: int, random: Draw) -> Network:
        """Random synapses, forward and backward of each layer."""
        sizes = [features, *self.layers, way]
        return first_synapses(sizes, self.states, self.dynamics.symmetric, tasks, random)

    def answers(
        self, rule: Rule, network: Network, support: Tensor, y: Tensor, query: Tensor, way: int
    ) -> tuple[Tensor, None]:
        """Show the support `steps` times, then predict the queries: (T, N*Q, N)."""
        for _ in range(self.steps):
            neurons = forward_pass(rule, self.dynamics, network, support)
            neurons[-1] = self.told(neurons[-1], y)
            neurons = backward_pass(rule, self.dynamics, network, neurons)
            network = update_synapses(rule, self.dynamics, network, neurons)
        return self.logits(forward_pass(rule, self.dynamics, network, query)[-1]), None

    def told(self, last: Tensor, y: Tensor) -> Tensor:
        """The last layer as feedback leaves it, (T, k, n, N).

        State 0 is its prediction, state 1 the labels or the derivative of the loss.
        """
        prediction = last[:, 0]
        if not self.feeds_error:
            feedback = signs(y, prediction)
        elif self.loss == "mse":
            feedback = prediction - signs(y, prediction)
        else:
            right = F.one_hot(y, prediction.shape[-1]).to(prediction)
            feedback = self.scale * ((self.scale * prediction).softmax(-1) - right)
        return torch.cat([torch.stack([prediction, feedback], 1), torch.zeros_like(last[:, 2:])], 1)

    def logits(self, last: Tensor) -> Tensor:
        """State 0 of the last layer, under ``cross_entropy`` times `scale`."""
        return last[:, 0] * (self.scale if self.loss == "cross_entropy" else 1)

    def task_losses(self, logits: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy, or the squared distance from the labels, of each task: (T,)."""
        return task_loss(logits, signs(y, logits) if self.loss == "mse" else y)


def signs(y: Tensor, like: Tensor) -> Tensor:
    """Labels as +1 for the class and -1 for every other: (T, n) -> (T, n, N)."""
    return 2 * F.one_hot(y, like.shape[-1]).to(like) - 1
