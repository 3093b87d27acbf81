"""Reptile (Nichol, Achiam & Schulman, 2018). https://arxiv.org/abs/1803.02999

Departures from the paper:

1. Test episodes have the benchmark's queries, as for every learner; theirs have one per class. So
   batch norm sees more queries at once when they are classified together.
2. In a test, minibatches go through the support in its given order, again and again; theirs are
   shuffled before every pass. So a test depends only on its episodes and the weights.
3. Where the support is smaller than a minibatch, we take all of it; they repeat examples.
4. The networks are MAML's, as the paper says; the authors' code has a linear layer on all 2x2
   pixels for Omniglot, and pools to 6x6 pixels for mini-ImageNet. Without Adam, `inner_lr` is for
   the mean loss; on images theirs is summed over the minibatch.
5. Weights start as PyTorch's do, and Adam's epsilon is where PyTorch has it.
6. We test the checkpoint that was best on validation; they test the last.
7. For sinusoids we have ReLU and random inputs; the authors' demonstration has tanh and evenly
   spaced inputs.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from zoo import Episode, Examples, Learner, Params, call, register
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.inner_loop import task_gradients
from zoo.networks.backbone import Classifier

BETA2, EPSILON = 0.999, 1e-8


@register("reptile")
class Reptile(Learner):
    """Move the initialisation towards the weights that training on each task ends with."""

    title = "Reptile"
    family = "gradient"
    outer_optimizer = torch.optim.SGD  # with `meta_loss`, its step is phi + epsilon mean(W - phi)
    sequential = True  # minibatches depend on the support's order
    fixed_way = True
    way_equivariant = False
    gradient_based = True
    regression = True
    second_moment: Tensor
    inner_updates: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        way: int,
        *,
        inner_lr: float = 1e-3,
        inner_steps: int = 8,
        inner_batch: int = 10,
        test_steps: int = 50,
        test_batch: int = 5,
        adam: bool = True,
        transductive: bool = True,
        outer_lr: float = 1.0,
    ) -> None:
        """Defaults are for mini-ImageNet, 5-way 1-shot; training has a `train_shot` of its own.

        Args:
            backbone: from images to D features.
            way: N, the same in training and test: the head has one logit per way.
            inner_lr: of the inner optimiser [Table 4].
            inner_steps: k, inner steps in training [Table 4].
            inner_batch: support examples per step, in training [Table 4].
            test_steps: inner steps in validation and test [Table 4].
            test_batch: support examples per step, in validation and test [Table 4].
            adam: Adam with beta1 = 0, whose second moments are carried from task to task [authors'
                code]; false is plain SGD [Algorithm 1].
            transductive: batch norm sees all queries together; false: each query alone with the
                support [section 6.1].
            outer_lr: epsilon, annealed linearly to 0 [Table 4].
        """
        counts = {
            "inner_steps": inner_steps,
            "inner_batch": inner_batch,
            "test_steps": test_steps,
            "test_batch": test_batch,
        }
        for name, count in counts.items():
            if count < 1:
                raise UsageError(f"{name} {count}: expected a number of at least 1")
        super().__init__(Classifier(backbone, way), way, outer_lr=outer_lr)
        self.inner_lr, self.adam = inner_lr, adam
        self.inner_steps, self.inner_batch = inner_steps, inner_batch
        self.test_steps, self.test_batch = test_steps, test_batch
        self.transductive = transductive and self.batch_norm == "batch"
        if adam:
            self.why_one_device = "its inner Adam carries moments from task to task"
        self.queries_alone = not transductive and self.batch_norm == "batch"
        self.register_buffer("second_moment", torch.zeros_like(self.phi().detach()))
        self.register_buffer("inner_updates", torch.zeros((), dtype=torch.int64))

    def forward(self, episode: Episode) -> Tensor:
        """Train on each support set from the stored moments, then predict: logits (T, N*Q, N)."""
        n = episode.support.x.shape[1]
        rows = minibatches(n, self.test_batch, self.test_steps, shuffle=False)
        w, _ = self.train_on(episode.support, rows)
        return self.predict(self.named(w), episode)

    def meta_loss(self, episode: Episode) -> Tensor:
        """Mean of |phi - W|^2 / 2, whose gradient is the mean of phi - W (Algorithm 2)."""
        weights = []
        for x, y in zip(*episode.support, strict=True):  # one by one: the moments are carried
            rows = minibatches(len(x), self.inner_batch, self.inner_steps, shuffle=True)
            w, v = self.train_on(Examples(x[None], y[None]), rows)
            self.second_moment.copy_(v[0])
            self.inner_updates += len(rows)
            weights.append(w)
        return (self.phi() - torch.cat(weights)).square().sum(-1).mean() / 2

    @torch.no_grad()
    def train_on(self, support: Examples, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Train from phi on each support set, a step for each minibatch.

        Args:
            support: x (T, n, *image), y (T, n).
            rows: which of the n examples are in each minibatch, (steps, size).

        Returns:
            Weights W and second moments, both (T, P).
        """
        x, y = support
        w = self.phi().expand(len(x), -1)
        v = self.second_moment.expand(len(x), -1)
        steps = self.inner_updates.double()  # kept as a tensor: reading its number stalls a GPU
        for batch in rows:
            steps = steps + 1
            minibatch = Examples(x[:, batch], y[:, batch])
            gradients = task_gradients(self.net, self.named(w), minibatch, task_loss)
            g = torch.cat([gradient.flatten(1) for gradient in gradients.values()], 1)
            if self.adam:
                v = BETA2 * v + (1 - BETA2) * g.square()
                g = g / ((v / (1 - BETA2**steps)).sqrt() + EPSILON)
            w = w - self.inner_lr * g
        return w, v

    def predict(self, theta: Params, episode: Episode) -> Tensor:
        """f_W(queries): logits (T, N*Q, N)."""
        support, query = episode.support.x, episode.query.x
        if not self.queries_alone:
            return call(self.net, theta, query)
        batches = [torch.cat([support, x], 1) for x in query.split(1, 1)]
        return torch.cat([call(self.net, theta, x)[:, -1:] for x in batches], 1)

    def phi(self) -> Tensor:
        """The initialisation, (P,)."""
        return parameters_to_vector(self.net.parameters())

    def named(self, w: Tensor) -> Params:
        """Weights (T, P) as parameters of the network, by name: (T, *shape) each."""
        names, parameters = zip(*self.net.named_parameters(), strict=True)
        parts = w.split([p.numel() for p in parameters], 1)
        shaped = [part.view(-1, *p.shape) for part, p in zip(parts, parameters, strict=True)]
        return dict(zip(names, shaped, strict=True))

    def anneal(self, progress: float) -> float:
        """Epsilon goes to 0 linearly."""
        return 1 - progress


def minibatches(n: int, size: int, steps: int, *, shuffle: bool) -> Tensor:
    """Which of n examples each step takes, going through all again and again: (steps, size)."""
    size = min(size, n)
    passes = math.ceil(steps * size / n)
    order = torch.cat([torch.randperm(n) if shuffle else torch.arange(n) for _ in range(passes)])
    return order[: steps * size].view(steps, size)
