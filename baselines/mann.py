"""Memory-Augmented Neural Networks (Santoro et al., ICML 2016). https://arxiv.org/abs/1605.06065

Departures from the paper:

1. `protocol=standard` is not the paper's: the support set is read in order, then each query reads
   a copy of the state behind it and writes nothing. It trains on one sequence of offset labels with
   a loss at every step, as the paper does, but the support set comes first.
2. The order of a sequence follows from a hash of its examples, strings from one of the support.
3. The n least-used rows are exactly n, where eq. 6 takes all that are equally little used. All of
   them are erased; the text has one. A memory starts at zero.
4. Every head writes its key to all n rows (eq. 7, 8): the paper does not say how heads differ.
   `own_rows` takes the choices of the code that circulates (zoo/lrua.py).
5. Weights start by Xavier's rule; training images are not turned or shifted a little; sequences
   of fifteen ways have 150 examples, not 100.
6. Regression reads a network's features of x; the form of its variance is ours.
"""

import torch
from torch import Tensor, nn

from zoo import Episode, Learner, register
from zoo.backbones import Backbone
from zoo.errors import UsageError
from zoo.lrua import LRUA, State
from zoo.registry import hint
from zoo.sequences import LABELS, Numbers, by_instance, key_of, offset, shuffled

PROTOCOLS = ("standard", "instances")
INSTANCES = 10  # of each class in a sequence of protocol `instances`


@register("mann")
class MANN(Learner):
    """Read examples and, one step late, their labels; write them to a memory and look them up."""

    title = "MANN"
    family = "memory"
    sequential = True
    way_equivariant = False
    regression = True

    def __init__(
        self,
        backbone: Backbone,
        way: int,
        *,
        protocol: str = "standard",
        labels: str | None = None,
        controller: int = 200,
        rows: int = 128,
        width: int = 40,
        heads: int = 4,
        decay: float = 0.95,
        own_rows: bool = False,
        adam: bool = False,
        outer_lr: float = 1e-4,
    ) -> None:
        """The paper has no mini-ImageNet; defaults are those of its Omniglot.

        Args:
            backbone: from images to D features; pixels20 is the paper's [section 4.2].
            way: N, the same in training and test, but with strings; in regression outputs.
            protocol: ``standard``; ``instances``: by a class's appearance in it [section 4.1].
            labels: ``one_hot``, ``strings``, ``numbers``; null for what fits `way` [section 4.2].
            controller: cells of the LSTM [section 4.2].
            rows: of the memory [section 4.2].
            width: numbers in a row [section 4.2].
            heads: that read, and the rows written at a step [section 4.2].
            decay: gamma, of the usage [section 3.2; the supplement may have 0.99].
            own_rows: each head writes a row of its own [github tristandeleu/ntm-one-shot].
            adam: Adam, not RMSProp of decay 0.95 and momentum 0.9 [TensorFlow re-implementations].
            outer_lr: of the optimiser [TensorFlow re-implementations].
        """
        labels = labels or ("numbers" if way == 1 else "one_hot")
        for name, value, known in (("protocol", protocol, PROTOCOLS), ("labels", labels, LABELS)):
            if value not in known:
                raise UsageError(f"{name} {value}: {hint(value, known)}")
        if labels == "numbers" and protocol == "instances":
            raise UsageError("protocol instances: is of classes, not of labels=numbers")
        super().__init__(backbone, way, batch_norm="running", outer_lr=outer_lr)
        self.labels = LABELS[labels](way)
        inputs = backbone.features + self.labels.inputs
        self.memory = LRUA(inputs, controller, rows, width, heads, decay, own_rows)
        self.head = nn.Linear(self.memory.features, self.labels.outputs)
        self.protocol, self.adam = protocol, adam
        self.fixed_way = labels != "strings"
        self.joint_tasks = self.batch_norm == "running"  # one batch norm over the meta-batch
        self.embeds_alone = protocol == "standard" and labels != "strings"  # else hashes images
        self.judged_by = "accuracy" if protocol == "standard" else "accuracy@instance5"

    def check_episodes(self, way: int, shot: int, query: int) -> None:
        """Protocol `instances` has ten examples of each class."""
        if self.protocol == "instances" and (shot, query) != (INSTANCES - 1, 1):
            raise UsageError(
                f"protocol instances takes sequences of {INSTANCES} examples of each class, not "
                f"{shot} + {query}: use --shot {INSTANCES - 1} --query 1, in training too"
            )

    def forward(self, episode: Episode) -> Tensor:
        """Read the support, then look each query up: logits (T, N*Q, N), or means (T, Q, N)."""
        return self.labels.predict(*self.answer(episode), episode.way)

    def answer(self, episode: Episode) -> tuple[Tensor, Tensor]:
        """What is said of each query behind the support (T, N*Q, outputs), and the key (T,)."""
        (x, y), key = episode.support, key_of(episode.support.x)
        z, z_query = self.embed(torch.cat([x, episode.query.x], 1)).tensor_split([x.shape[1]], 1)
        _, state, label = self.read(z, y, key)
        last = label[:, -1:].expand(-1, z_query.shape[1], -1)
        return self.head(self.memory.peek(torch.cat([z_query, last], -1), state)), key

    def sequence(self, episode: Episode) -> tuple[Tensor, ...]:
        """What is said at each step (T, n, outputs), the key, what is right, and the order."""
        (x, y), order = shuffled(episode, support_first=self.protocol == "standard")
        key = key_of(episode.support.x)
        return self.head(self.read(self.embed(x), y, key)[0]), key, y, order

    def embed(self, x: Tensor) -> Tensor:
        """(T, n, *image) -> (T, n, D)."""
        return self.net(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def read(self, z: Tensor, y: Tensor, key: Tensor) -> tuple[Tensor, State, Tensor]:
        """Each example beside the label of the one before it: [h_t, r_t], last state, labels."""
        if y.is_floating_point() != isinstance(self.labels, Numbers):
            raise UsageError("labels: numbers are for regression, one_hot and strings for classes")
        label = self.labels.encode(y, key).to(z)
        return *self.memory(torch.cat([z, offset(label)], -1)), label

    def meta_loss(self, episode: Episode) -> Tensor:
        """Of every step of one sequence of all examples (section 2)."""
        answer, key, y, _ = self.sequence(episode)
        return self.labels.loss(answer, key, y).mean()

    def evaluate(self, episode: Episode) -> tuple[dict[str, Tensor], Tensor]:
        """With protocol `instances` accuracy@instance1, ...; in regression nll too."""
        if self.protocol == "standard":
            metrics, prediction = super().evaluate(episode)
            if isinstance(self.labels, Numbers):
                metrics["nll"] = self.labels.loss(*self.answer(episode), episode.query.y).mean(1)
            return metrics, prediction
        answer, key, y, order = self.sequence(episode)
        metrics = by_instance(self.labels.right(answer, key, y), y, episode.way)
        metrics["nll"] = self.labels.loss(answer, key, y).mean(1)
        said = self.labels.predict(answer, key, episode.way).argmax(-1)
        return metrics, said.gather(1, order.argsort(1)[:, episode.support.y.shape[1] :])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """RMSProp or Adam, at one rate."""
        if self.adam:
            return torch.optim.Adam(self.parameters(), self.outer_lr)
        return torch.optim.RMSprop(self.parameters(), self.outer_lr, alpha=0.95, momentum=0.9)
