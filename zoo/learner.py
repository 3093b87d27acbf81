"""The contract every learner keeps: a meta-batch of episodes in, query logits out."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from zoo.batch_norm import set_batch_norm
from zoo.episode import Episode
from zoo.errors import UsageError
from zoo.losses import task_cross_entropy, task_loss
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
    host_key = ""  # of a plug-in, the learner whose rows of settings.yaml it takes too
    version: int = 1  # raised when the same settings give other numbers than before
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
        return task_loss(self(episode), episode.query.y).mean()

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
        """What the outer learning rate is multiplied by when `progress` in [0, 1] is done."""
        return 1.0

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
        loss = self.meta_loss(batch)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=batch.tasks)
        return loss

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
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda u: self.anneal(u / updates))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]
