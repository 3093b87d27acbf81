"""What learners share that meta-learn a rule of learning: few numbers, used by every weight.

A task's network starts from random numbers, and the rule alone changes them as the support is
shown. So nothing that is learned depends on the size of the images or on the number of ways.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.episode import Episode
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.embedding import EmbeddingLearner

Rule = Mapping[
    str, Tensor
]  # a rule's numbers by name: one rule for all tasks (1, ...), or (T, ...)
Network = Sequence[Tensor]  # the numbers of the tasks' networks: (T, ...) each
TINY = 1e-8  # of a variance: features of one value stay finite


class Draw:
    """Random numbers: new ones where a rule is learned, always the same where it is used.

    So what `forward` returns depends on the episode alone, and the rule is learned for any start.
    """

    def __init__(self, like: Tensor, fresh: bool) -> None:
        """Choose who draws.

        Args:
            like: a tensor of the type and device of those to be drawn.
            fresh: whether torch's own generator draws; else one with a seed of ours.
        """
        self.like = like
        self.generator = None if fresh else torch.Generator().manual_seed(0)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform numbers from -1 to 1."""
        return self._filled(shape, lambda x, g: x.uniform_(-1, 1, generator=g))

    def normal(self, *shape: int) -> Tensor:
        """Normal numbers, cut off at two standard deviations."""
        return self._filled(shape, lambda x, g: nn.init.trunc_normal_(x, generator=g))

    def _filled(self, shape: tuple[int, ...], fill: Callable[..., Tensor]) -> Tensor:
        """Filled in single precision, so that a learner of another precision draws the same."""
        if self.generator is None:
            return fill(self.like.new_empty(shape, dtype=torch.float32), None).to(self.like)
        return fill(torch.empty(shape, dtype=torch.float32), self.generator).to(self.like)


class LearnedRule(EmbeddingLearner):
    """A learner of a rule: `start` makes the networks of tasks, `answers` teaches and asks them."""

    family = "learned rule"
    way_equivariant = False  # a class has random numbers of its own to start from
    recent_loss: Tensor

    def __init__(
        self,
        net: nn.Module,
        way: int,
        rules: Sequence[nn.Module],
        *,
        evolution: bool,
        noise: float,
        batch_norm: str,
        outer_lr: float,
    ) -> None:
        """Keep the rule and how it is learned.

        Args:
            net: from images to D features, which enter the tasks' networks.
            way: N of the test episodes.
            rules: one, or several that are learned side by side; their parameters are the numbers.
                The one with the least loss in training, by a moving average, is tested.
            evolution: learn by evolution strategies, instead of backpropagation through an episode.
            noise: standard deviation of the population's rules, under `evolution`.
            batch_norm: ``batch``, ``running`` or ``support``.
            outer_lr: of the outer loop's Adam.

        Raises:
            UsageError: the noise is not positive, or under `evolution` the net learns too.
        """
        if not noise > 0:
            raise UsageError(f"noise {noise}: expected a number above 0")
        if evolution and any(p.requires_grad for p in net.parameters()):
            raise UsageError(
                "evolution=true: a population differs in the rule alone, so the backbone must have "
                "nothing to learn: use backbone=pixels14, or evolution=false"
            )
        super().__init__(net, way, batch_norm=batch_norm, outer_lr=outer_lr)
        self.rules, self.evolution, self.noise = nn.ModuleList(rules), evolution, noise
        self.register_buffer("recent_loss", torch.zeros(len(rules)))  # of each rule

    def start(self, tasks: int, features: int, way: int, random: Draw) -> Network:
        """The networks of some tasks before the first example.

        Args:
            tasks: T.
            features: D.
            way: N.
            random: draws the random numbers in them.
        """
        raise NotImplementedError

    def answers(
        self, rule: Rule, network: Network, support: Tensor, y: Tensor, query: Tensor, way: int
    ) -> tuple[Tensor, Tensor | None]:
        """Teach each task's network its support by a rule, then ask it for the queries.

        Args:
            rule: one for all tasks, or one for each.
            network: from `start`.
            support: features (T, N*K, D).
            y: labels (T, N*K).
            query: features (T, N*Q, D).
            way: N.

        Returns:
            Logits of the queries (T, N*Q, N); and those of the support (T, N*K, N), each given
            before its label was shown, or None if they are not to enter the loss.
        """
        raise NotImplementedError

    def task_losses(self, logits: Tensor, y: Tensor) -> Tensor:
        """The loss of each task: (T, n, N), (T, n) -> (T,)."""
        return task_loss(logits, y)

    def inputs(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """Features of support and query; each example's have mean 0 and variance 1.

        (T, N*K, D) and (T, N*Q, D). So a rule meets the same sizes whatever network made them.
        """
        support, query = (F.layer_norm(z, z.shape[-1:], eps=TINY) for z in self.embed(episode))
        return support, query

    def forward(self, episode: Episode) -> Tensor:
        """Show each task's network the support, then ask it for the queries: (T, N*Q, N)."""
        x, query = self.inputs(episode)
        started = self.start(1, x.shape[-1], episode.way, Draw(x, fresh=False))
        network = [part.expand(episode.tasks, *part.shape[1:]) for part in started]
        best = self.recent_loss.argmin().view(1)
        rule = {name: numbers.index_select(0, best) for name, numbers in self.numbers().items()}
        return self.answers(rule, network, x, episode.support.y, query, episode.way)[0]

    def numbers(self) -> dict[str, Tensor]:
        """The numbers of all R rules by name, (R, ...)."""
        each = [dict(rule.named_parameters()) for rule in self.rules]
        return {name: torch.stack([rule[name] for rule in each]) for name in each[0]}

    def meta_loss(self, episode: Episode) -> Tensor:
        """The mean loss of tasks and rules; its gradient is backpropagation's or evolution's."""
        x, query = self.inputs(episode)
        (_, y), (_, wanted) = episode.support, episode.query
        network = self.start(episode.tasks, x.shape[-1], episode.way, Draw(x, fresh=True))

        def losses(rules: Rule) -> Tensor:
            """The loss of every task under each of C rules, (C, T or 1, ...) -> (C, T)."""
            copies = len(next(iter(rules.values())))
            shown, told, asked, right = (repeated(each, copies) for each in (x, y, query, wanted))
            started = [repeated(part, copies) for part in network]
            rule = {name: numbers.flatten(0, 1) for name, numbers in rules.items()}
            logits, before = self.answers(rule, started, shown, told, asked, episode.way)
            if before is not None:
                logits, right = torch.cat([before, logits], 1), torch.cat([told, right], 1)
            return self.task_losses(logits, right).unflatten(0, (copies, -1))

        if self.evolution:
            of_rules, loss = evolved_loss(losses, self.numbers(), episode.tasks, self.noise)
        else:
            tasks = episode.tasks if len(self.rules) > 1 else 1
            found = losses(
                {
                    name: numbers.unsqueeze(1).expand(-1, tasks, *numbers.shape[1:])
                    for name, numbers in self.numbers().items()
                }
            )
            of_rules, loss = found.detach().mean(1), found.mean()
        if self.training:
            self.recent_loss.lerp_(of_rules.nan_to_num(torch.inf).to(self.recent_loss), 0.05)
        return loss


def repeated(x: Tensor, copies: int) -> Tensor:
    """All tasks, then all of them again: (T, ...) -> (copies * T, ...)."""
    return x if copies == 1 else torch.cat([x] * copies)


def evolved_loss(
    losses: Callable[[Rule], Tensor], means: Mapping[str, Tensor], pairs: int, noise: float
) -> tuple[Tensor, Tensor]:
    """The loss of a population, whose gradient is that of antithetic evolution strategies.

    The gradient is the mean over pairs of epsilon (L(p + epsilon) - L(p - epsilon)) / (2 noise^2),
    with epsilon from a normal distribution, as in VSML's code. All members are computed in one
    pass, which keeps no graph.

    Args:
        losses: of every member, (C, pairs, ...) -> (C, pairs).
        means: the numbers p of R rules, (R, ...); each rule has a population of its own.
        pairs: how many epsilons are drawn for a rule.
        noise: their standard deviation.

    Returns:
        The mean loss of each rule's population (R,), and the scalar that has the gradient.
    """
    with torch.no_grad():
        steps, members = {}, {}
        for name, p in means.items():
            steps[name] = noise * p.new_empty(len(p), pairs, *p.shape[1:]).normal_()
            members[name] = torch.cat([p.unsqueeze(1) + steps[name], p.unsqueeze(1) - steps[name]])
        plus, minus = losses(members).chunk(2)
        weights = (plus - minus) / (2 * noise**2 * pairs * len(plus))
        gradients = {
            name: (weights.view(*weights.shape, *[1] * (step.dim() - 2)) * step).sum(1)
            for name, step in steps.items()
        }
        of_rules = (plus + minus).mean(1) / 2
    along = torch.stack([(p * gradients[name]).sum() for name, p in means.items()]).sum()
    return of_rules, of_rules.mean() + along - along.detach()
