"""The contract every learner keeps: a meta-batch of episodes in, query logits out."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from zoo.batch_norm import set_batch_norm
from zoo.episode import Episode
from zoo.errors import UsageError
from zoo.losses import compare_gradients, task_cross_entropy, task_loss
from zoo.stage import Stage

TRAITS = {
    "transductive": "a query's logits may depend on the other queries",
    "sequential": "the order of the support set matters",
    "fixed_way": "trained and tested at one way",
    "joint_tasks": "needs all tasks of a meta-batch at once",
    "way_equivariant": "relabelling the ways permutes the logits",
    "gradient_based": "adapts by gradient steps on its weights",
    "regression": "does regression tasks too",
    "wrappable": "TRLearner may host it",
    "embeds_alone": "in evaluation, `net` embeds an image whatever the other images are",
}
OUTER_DECAYS = ("paper", "cosine")


class Learner(pl.LightningModule):
    """A meta-learner.

    A baseline writes `forward`, and overrides `meta_loss` only where its paper's outer objective
    is not the query cross-entropy. Training, evaluation, logging and the outer-loop optimiser are
    inherited. Its constructor is ``(backbone, way, *, <the paper's hyperparameters>, outer_lr)``.

    The attributes below are *traits*, properties of the configured learner: the common tests hold
    it to them, tables show them. See `TRAITS` for their meaning.
    """

    title = ""  # how tables call it
    outer_optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam
    outer_decay = "paper"  # of OUTER_DECAYS: how the outer learning rate falls
    family = ""  # metric, gradient, memory, ...: what kind of learner it is
    judged_by = "accuracy"  # the metric that validation chooses by; in regression mse
    transductive: bool = False
    sequential: bool = False
    fixed_way: bool = False
    joint_tasks: bool = False
    way_equivariant: bool = True
    gradient_based: bool = False
    regression: bool = False
    wrappable: bool = False
    embeds_alone: bool = False
    copies: tuple[nn.Module, ...] = ()  # of the backbone, that start from its pre-training too
    remark = ""  # what tables must say of its numbers
    asks_numbers = ""  # why an update or a test waits for numbers from the device, if it must
    host_key = ""  # of a plug-in, the learner whose rows of settings.yaml it takes too
    version: int = 1  # raised when the same settings give other numbers than before
    length_matters: bool = False  # whether a step follows from how many there will be
    added_later: Mapping[str, Any] = {}  # settings newer than some records: the value those had

    def __init__(
        self, net: nn.Module, way: int, *, batch_norm: str = "batch", outer_lr: float = 1e-3
    ) -> None:
        """Keep the network and what the outer loop needs.

        Args:
            net: what the outer loop learns: the backbone, with a head where there is one.
            way: N of the test episodes; in regression the number of outputs.
            batch_norm: ``batch``, ``running`` or ``support`` (see zoo.batch_norm.BatchNorm).
            outer_lr: learning rate of the outer loop's optimiser.
        """
        super().__init__()
        self.net = net
        self.way = way
        # A network without batch norm has no mode of it, and is inductive by itself.
        self.batch_norm = batch_norm if set_batch_norm(net, batch_norm) else "none"
        self.outer_lr = outer_lr

    @classmethod
    def as_asked(cls, overrides: Mapping[str, Any]) -> type["Learner"]:
        """The class that a variant means: this one, unless an override chooses another."""
        return cls

    def forward(self, episode: Episode) -> Tensor:
        """Adapt to each support set and predict its query set: logits (T, N*Q, N).

        In regression: what is predicted of each query, (T, Q, N).
        """
        raise NotImplementedError

    def meta_loss(self, episode: Episode) -> Tensor:
        """The outer-loop objective, averaged over the meta-batch: a scalar."""
        return torch.stack([*self.loss_terms(episode).values()]).sum()

    def loss_terms(self, episode: Episode) -> dict[str, Tensor]:
        """The terms of the outer-loop objective by name, weighted and averaged: scalars.

        ``host`` is the first. A learner that adds others to it overrides this method and leaves
        `meta_loss` alone; its log then shows how they pull beside each other.
        """
        return {"host": task_loss(self(episode), episode.query.y).mean()}

    def evaluate(self, episode: Episode) -> tuple[dict[str, Tensor], Tensor]:
        """What a test records: metrics {name: (T,)}, and what is predicted of each query.

        Returns:
            ``accuracy`` in [0, 1] and ``nll``, the mean cross-entropy in nats; predictions
            (T, N*Q). In regression ``mse``, the mean squared error; predictions (T, Q, N).
        """
        logits = self(episode)
        if episode.query.y.is_floating_point():
            return {"mse": task_loss(logits, episode.query.y)}, logits
        prediction = logits.argmax(-1)
        return {
            "accuracy": (prediction == episode.query.y).float().mean(-1),
            "nll": task_cross_entropy(logits, episode.query.y),
        }, prediction

    @contextmanager
    def embedded(self) -> Iterator[nn.Module]:
        """Inside this block, take episodes of features (T, n, D) in place of images.

        So an image that many episodes share is embedded once.

        Yields:
            The network that makes the features, in evaluation: (n, *image) -> (n, D).

        Raises:
            UsageError: the features of an image depend on the other images of its episode.
        """
        if not self.embeds_alone:
            raise UsageError(
                f"{self.title} with batch_norm={self.batch_norm}: the features of an image depend "
                "on the other images of its episode; test it on images, not on features"
            )
        net, self.net = self.net, nn.Identity()
        try:
            yield net.eval()
        finally:
            self.net = net.to(self.device).train(self.training)  # as the rest of the learner

    def check_episodes(self, way: int, shot: int, query: int) -> None:
        """Refuse, before training starts, episodes of a shape that this learner cannot take.

        Raises:
            UsageError: names the setting to change.
        """

    def stages(self) -> list[Stage]:
        """What must be trained before meta-training, in this order, beside the pre-training.

        Each gives its weights to a part of this learner before the next one is trained; the
        backbone, where `pretrained_from` says so, has its own before the first.
        """
        return []

    def anneal(self, progress: float) -> float:
        """What the outer learning rate is multiplied by when `progress` in [0, 1] is done.

        As the paper has it; a run may ask for another decay instead (`outer_decay`).
        """
        return 1.0

    def outer_rate(self, progress: float) -> float:
        """What the outer learning rate is multiplied by in this run: see `anneal`."""
        if self.outer_decay == "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        return self.anneal(progress)

    def size(self, learned: bool = False) -> int:
        """How many parameters it has, or learns in episodes; `copies` are not counted."""
        copied = {id(p) for part in self.copies for p in part.parameters()}
        kept = [p for p in self.parameters() if id(p) not in copied]
        return sum(p.numel() for p in kept if p.requires_grad or not learned)

    def traits(self) -> dict[str, bool]:
        """The traits of this learner as configured."""
        return {name: bool(getattr(self, name)) for name in TRAITS}

    def training_step(self, batch: Episode, batch_idx: int) -> Tensor:
        """One micro-batch of the outer loop."""
        terms = self.loss_terms(batch) if self.adds_losses else {"host": self.meta_loss(batch)}
        loss = torch.stack([*terms.values()]).sum()
        if len(terms) > 1:
            self.log_terms(terms, batch.tasks)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=batch.tasks)
        return loss

    @property
    def adds_losses(self) -> bool:
        """Whether its class has `loss_terms` of its own."""
        return type(self).loss_terms is not Learner.loss_terms

    def log_terms(self, terms: Mapping[str, Tensor], tasks: int) -> None:
        """Log the host's loss and what is added to it and, where a line is written, how they pull.

        ``train/gradient_ratio`` is the norm of the added terms' gradient over that of the host's,
        ``train/gradient_cosine`` the cosine of the two. They cost two backward passes, so they are
        computed in every `log_every_n_steps`-th update only.
        """
        host = terms["host"]
        added = torch.stack([term for name, term in terms.items() if name != "host"]).sum()
        values = {"host_loss": host.detach(), "added_loss": added.detach()}
        trainer: Any = self._trainer
        if trainer and (self.global_step + 1) % trainer.log_every_n_steps == 0:
            ratio, cosine = compare_gradients(host, added, self.parameters())
            values |= {"gradient_ratio": ratio, "gradient_cosine": cosine}
        self.log_dict({f"train/{name}": v for name, v in values.items()}, batch_size=tasks)

    def validation_step(self, batch: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Metrics of meta-validation episodes, each (T,)."""
        metrics, _ = self.evaluate(batch)
        means = {f"val/{name}": value.mean() for name, value in metrics.items()}
        self.log_dict(means, prog_bar=True, batch_size=batch.tasks)
        return metrics

    def test_step(self, batch: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Metrics of meta-test episodes, each (T,), and ``prediction`` of each query."""
        metrics, prediction = self.evaluate(batch)
        return {**metrics, "prediction": prediction}

    def configure_optimizers(self) -> Any:
        """The outer optimiser on every parameter, its rate annealed over the budget's updates."""
        optimizer = self.outer_optimizer(self.parameters(), lr=self.outer_lr)
        updates = max(1, self.trainer.max_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda u: self.outer_rate(u / updates)
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
