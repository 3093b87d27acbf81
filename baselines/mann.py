"""Memory-Augmented Neural Networks (Santoro et al., ICML 2016). https://arxiv.org/abs/1605.06065

Departures from the paper:

1. `protocol=standard` is ours: the network reads the support, and takes one more step to read the
   last label. Each query, without a label, reads from a copy of that state and writes nothing. It
   trains in the same way.
2. The order of the examples under protocol `instances`, and the strings, come from a hash of the
   examples.
3. The n least-used rows are exactly n; eq. 6 takes all rows that are equally little used. All of
   them are erased; the paper's text says one. A memory starts at zero.
4. Every head writes its key to the same n rows (eq. 7, 8), so 128 rows hold 32 writes; alpha is
   one learned number. How heads differ is not printed; `own_rows` is how public code has it
   (mann_memory.py).
5. Weights start by Xavier's rule. Training images are not turned or shifted. Fifteen ways have 150
   examples, not 100. Under `standard`, only the strings of an episode's classes are candidates.
   The variance in regression is ours.

After 216,000 sequences of Omniglot, accuracy on a fifth instance is 88.6 % (printed: 94.9), and
still rises.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import Episode, register
from zoo.backbone_contract import features_of
from zoo.baselines.mann_labels import (
    LABELS,
    Numbers,
    all_examples,
    by_instance,
    encoded,
    key_of,
    shuffled,
)
from zoo.baselines.mann_memory import LRUA, State
from zoo.errors import UsageError
from zoo.losses import task_loss
from zoo.methods.embedding import EmbeddingLearner
from zoo.networks.backbone import Backbone
from zoo.networks.layers import pointwise
from zoo.networks.mlp import MLP
from zoo.variants import hint

PROTOCOLS = ("standard", "instances")


@register("mann")
class MANN(EmbeddingLearner):
    """Read examples and, one step later, their labels; write them to a memory and look them up."""

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
            way: N, the same in training and test (with strings it may differ); in regression, the
                number of outputs.
            protocol: ``standard``: support, then queries; ``instances``: ten of each class in one
                sequence, scored by how often the class has appeared [section 4.1].
            labels: ``one_hot``, ``strings``, ``numbers``; null for numbers on mlp, else one_hot.
            controller: cells of the LSTM [github tristandeleu/ntm-one-shot].
            rows: of the memory [the same]; it holds the last rows / heads writes.
            width: numbers in a row [the same].
            heads: how many read, and how many rows a step writes [the same].
            decay: gamma, of the usage [the same; the paper's supplement may have 0.99].
            own_rows: whether each head writes to a row of its own [the same].
            adam: whether to use Adam [the same], not RMSProp with 0.95 and momentum 0.9
                [TensorFlow's].
            outer_lr: of the optimiser; the default is for RMSProp [TensorFlow re-implementations].
        """
        labels = labels or ("numbers" if isinstance(backbone, MLP) else "one_hot")
        if protocol not in PROTOCOLS:
            raise UsageError(f"protocol {protocol}: {hint(protocol, PROTOCOLS)}")
        if labels not in LABELS:
            raise UsageError(f"labels {labels}: {hint(labels, LABELS)}")
        if labels == "numbers" and protocol == "instances":
            raise UsageError("protocol instances: is of classes, not of labels=numbers")
        super().__init__(backbone, way, batch_norm="running", outer_lr=outer_lr)
        self.protocol = protocol
        self.labels = LABELS[labels](way)
        inputs = features_of(backbone) + self.labels.inputs
        self.memory = LRUA(inputs, controller, rows, width, heads, decay, own_rows)
        self.head = nn.Linear(self.memory.features, self.labels.outputs)
        if not adam:
            self.outer_optimizer = partial(torch.optim.RMSprop, alpha=0.95, momentum=0.9)
        self.fixed_way = labels != "strings"
        if protocol == "instances" or labels == "strings":  # these need a hash of the images
            self.embeds_alone = False
        self.judged_by = "accuracy" if protocol == "standard" else "accuracy@instance5"

    def check_episodes(self, way: int, shot: int, query: int) -> None:
        """Protocol `instances` has ten examples of each class."""
        if self.protocol == "instances" and (shot, query) != (9, 1):
            raise UsageError(
                f"protocol instances takes ten examples of each class, not {shot} + {query}: "
                "use --shot 9 --query 1, in training too"
            )

    def forward(self, episode: Episode) -> Tensor:
        """Read the support, then look each query up: logits (T, N*Q, N), or means (T, Q, N)."""
        answers, key, _ = self.standard(episode)
        return self.labels.predict(answers[:, episode.support.x.shape[1] :], key, episode.way)

    def standard(self, episode: Episode) -> tuple[Tensor, Tensor, Tensor]:
        """Protocol `standard`.

        Returns:
            Answers to each support example as it was read, then to each query (T, n, outputs); the
            episodes' keys (T,); y (T, n).
        """
        y, key = all_examples(episode).y, key_of(episode.support.x)
        z, z_query = self.embed(episode)
        read, state = self.read(z, episode.support.y, key)
        peeked = self.memory.peek(F.pad(z_query, (0, self.labels.inputs)), state)
        return self.head(torch.cat([read, peeked], 1)), key, y

    def instances(self, episode: Episode) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Protocol `instances`: all examples in one sequence.

        Returns:
            Answers to each example as it was read, (T, n, outputs); keys (T,); y (T, n); and which
            example stood at each step (T, n).
        """
        (x, y), order, key = shuffled(episode)
        outputs, _ = self.read(pointwise(self.net, x), y, key)
        return self.head(outputs), key, y, order

    def read(self, z: Tensor, y: Tensor, key: Tensor) -> tuple[Tensor, State]:
        """Read examples, each beside the label of the one before it.

        One more step has the last label, and no example.

        Returns:
            [h_t, r_t] of each example's step, (T, n, C + H*W), and the last state.
        """
        label = F.pad(encoded(self.labels, y, key).to(z), (0, 0, 1, 0))
        outputs, state = self.memory(torch.cat([F.pad(z, (0, 0, 0, 1)), label], -1))
        return outputs[:, :-1], state

    def meta_loss(self, episode: Episode) -> Tensor:
        """The loss of the answers to all examples (section 2)."""
        if self.protocol == "standard":
            answers, key, y = self.standard(episode)
        else:
            answers, key, y, _ = self.instances(episode)
        return self.labels.loss(answers, key, y).mean()

    def evaluate(self, episode: Episode) -> tuple[dict[str, Tensor], Tensor]:
        """Under protocol `instances` accuracy@instance1, ...; in regression also nll."""
        rows = episode.support.y.shape[1]
        if isinstance(self.labels, Numbers):
            answers, key, y = self.standard(episode)
            mean = self.labels.predict(answers[:, rows:], key, episode.way)
            nll = self.labels.loss(answers, key, y)[:, rows:].mean(1)
            return {"mse": task_loss(mean, episode.query.y), "nll": nll}, mean
        if self.protocol == "standard":
            return super().evaluate(episode)
        answers, key, y, order = self.instances(episode)
        metrics = by_instance(self.labels.right(answers, key, y), y, episode.way)
        metrics["nll"] = self.labels.loss(answers, key, y).mean(1)
        predicted = self.labels.predict(answers, key, episode.way).argmax(-1)
        query_steps = order.argsort(1)[:, rows:]
        return metrics, predicted.gather(1, query_steps)
