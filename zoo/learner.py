"""The contract every learner keeps: a meta-batch of episodes in, query logits out."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from zoo.backbone_contract import check_features, check_initialised
from zoo.batch_norm import set_batch_norm
from zoo.checkpoint_files import read_checkpoint
from zoo.constructor_arguments import constructor_arguments, constructor_names
from zoo.episode import Episode
from zoo.errors import UsageError
from zoo.learner_outputs import check_evaluation, check_predictions
from zoo.losses import compare_gradients, task_cross_entropy, task_loss
from zoo.micro_batches import loss_in_parts
from zoo.pixels import normalised_pixels
from zoo.precision import FLOAT32, check_precision, set_precision
from zoo.processes import process_count
from zoo.registry import backbone_of
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
CLIP_ALGORITHMS = ("norm", "value")  # of Lightning's Trainer
PRECISIONS = ("32-true", "64-true")  # of Lightning's Trainer


class Learner(pl.LightningModule):
    """A meta-learner.

    A baseline writes `forward`, and overrides `meta_loss` only where its paper's outer objective
    is not the query cross-entropy. Training, evaluation, logging and the outer-loop optimiser are
    inherited. Its constructor is ``(backbone, way, *, <the paper's hyperparameters>, outer_lr)``;
    what it was given is kept as Lightning's ``hparams``, in every checkpoint too.

    It trains and is tested by any Lightning Trainer, on batches that are Episodes: a batch is a
    meta-batch, an optimiser step an update.

    The class attributes below describe a learner. Those that are named in `TRAITS` are its
    *traits*, which an instance may set as its settings have it. The conformance checks test that
    the traits are true, and `zoo list` shows them.
    """

    registered_as: str  # its key, set by the decorator `register`
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
    uses_inputs: bool = True  # else it is a reference that predicts from the outputs alone
    # Whether a table that names no learners has it only if the inputs are rows of tables.
    only_for_tabular_data: bool = False
    embeds_alone: bool = False
    uneven_support: bool = False  # classes of a support set may differ in how many images they have
    # Modules besides `net` that get the pre-trained weights too, as NPBML's second encoder does.
    backbone_copies: tuple[nn.Module, ...] = ()
    remark = ""  # a footnote that tables must put on its numbers
    only_by_name: bool = False  # a table or sweep that names no learners leaves it out
    why_it_syncs = ""  # why an update or a test must copy numbers from a GPU to the CPU, if so
    host_key = ""  # key of its host (TRLearner); the host's rows of settings apply to it too
    version: int = 1  # increase it when a change of the code changes the numbers
    signed_settings: Sequence[str] = ()  # numbers that may be negative; all others may not
    length_matters: bool = False  # whether an update depends on the planned number of updates
    why_one_device: str = ""  # why processes cannot share a meta-batch, if they cannot
    clip_norm: float | None = None  # the outer gradient is clipped to this norm
    clip_value: float | None = None  # each of its elements is clipped to +- this
    # Called with the learner: trains its stages, or loads them where they were trained before.
    train_stages: Callable[..., Any] | None = None
    stages_trained: bool = False  # whether it has the weights of its stages
    # A backbone that `build_backbone` did not make, until it is checked on the first images.
    _given_network: tuple[nn.Module, ...] = ()
    # For settings that older records lack: the value that their runs had.
    added_later: Mapping[str, Any] = {}

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
        self._keep_settings()
        self.net = net
        self.way = way
        # A network without batch norm needs no mode: no query's logits depend on other queries.
        self.batch_norm = batch_norm if set_batch_norm(net, batch_norm) else "none"
        self.outer_lr = outer_lr

    def __new__(cls, *given: Any, **settings: Any) -> Self:
        """Keep the arguments, for `hparams`."""
        learner = super().__new__(cls)
        object.__setattr__(learner, "_made_with", (given, settings))
        return learner

    def _keep_settings(self) -> None:
        """Put all arguments of the constructor into `hparams`, the backbone as its variant text.

        A backbone that `build_backbone` did not make is left out.
        """
        net, way, others = constructor_arguments(type(self), *self.__dict__.pop("_made_with"))
        kept = {"way": way, "outer_decay": "paper", **others}
        if (variant := getattr(net, "variant", None)) is not None:
            kept |= {"backbone": variant, "image": list(net.built_for)}
        elif isinstance(net, nn.Module):
            check_initialised(net)
            # Not as an attribute of its own, which would make it a part of this module.
            self._given_network = (net,)
        if "registered_as" in vars(type(self)):
            kept["learner"] = type(self).registered_as
        self.hparams.update(kept)

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        *,
        strict: bool = True,
        weights_only: bool = False,
        **changed: Any,
    ) -> Self:
        """The learner that a checkpoint holds, with its settings and weights.

        Args:
            checkpoint_path: written by a Trainer.
            map_location: where to put it, as `torch.load` has it; None for the CPU.
            strict: whether its weights must be those of the learner, name by name.
            weights_only: as `torch.load` has it.
            **changed: constructor arguments to use in place of those in the checkpoint. `backbone`
                must be given if it was a network of one's own, which `build_backbone` cannot make.

        Raises:
            UsageError: the file is missing or damaged, does not hold a learner, or holds another
                one; or it names no backbone and none was given.
        """
        try:
            checkpoint, _ = read_checkpoint(
                checkpoint_path, map_location or "cpu", weights_only=weights_only
            )
        except OSError as error:
            raise UsageError(f"{checkpoint_path}: {error.strerror}") from None
        kept = checkpoint.get("hyper_parameters", {}) if isinstance(checkpoint, dict) else {}
        if "way" not in kept or "state_dict" not in checkpoint:
            raise UsageError(
                f"{checkpoint_path}: not a checkpoint of a zoo learner: hyper_parameters has no "
                "`way`, or state_dict is missing"
            )
        cls.check_learner(kept, str(checkpoint_path))
        if "backbone" not in changed:
            if "backbone" not in kept:
                raise UsageError(
                    f"{checkpoint_path}: its learner was made with a network of your own: give it, "
                    f"{cls.__name__}.load_from_checkpoint(path, backbone=...)"
                )
            changed["backbone"] = backbone_of(kept["backbone"], tuple(kept["image"]))
        # Lightning would pass all of `hparams` to a constructor that takes **settings.
        arguments = {name: kept[name] for name in constructor_names(cls) & {*kept}} | changed
        learner = cls(arguments.pop("backbone"), arguments.pop("way", kept["way"]), **arguments)
        learner.on_load_checkpoint(checkpoint)
        try:
            learner.load_state_dict(checkpoint["state_dict"], strict)
        except RuntimeError as error:
            text = " ".join(str(error).split())
            raise UsageError(f"{checkpoint_path} does not fit its learner: {text}") from None
        if weights := [*checkpoint["state_dict"].values()]:
            learner.to(weights[0].device)
        learner._take_over(kept)
        learner.stages_trained = True  # its weights are those after the stages
        return learner

    def _take_over(self, kept: Mapping[str, Any]) -> None:
        """Set what `hparams` keep besides the arguments of the constructor."""
        self.outer_decay = kept.get("outer_decay", "paper")
        if "micro_batch" in kept:
            self.micro_batch = kept["micro_batch"]
        if "gradient_clip_val" in kept:
            self.clip_by(kept["gradient_clip_val"], kept["gradient_clip_algorithm"])
        if "precision" in kept:
            self.multiply_in(kept["precision"])
        if "image_mean" in kept:
            self.normalise_by(kept["image_mean"], kept["image_std"])

    @classmethod
    def check_learner(cls, kept: Mapping[str, Any], where: str) -> None:
        """Refuse the checkpoint of another learner.

        Args:
            kept: the checkpoint's hyperparameters.
            where: the file's name, for the message.

        Raises:
            UsageError: it is another learner's; says which.
        """
        key, saved_key = vars(cls).get("registered_as"), kept.get("learner")
        if key and saved_key and key != saved_key:
            raise UsageError(f"{where} is a checkpoint of {saved_key}, not of {key}")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse to go on from a checkpoint of another learner."""
        self.check_learner(checkpoint.get("hyper_parameters", {}), "the file to go on from")

    @property
    def outer_decay(self) -> str:
        """How the outer learning rate falls, one of `OUTER_DECAYS`; a checkpoint keeps it."""
        return str(self.hparams["outer_decay"])

    @outer_decay.setter
    def outer_decay(self, decay: str) -> None:
        if decay not in OUTER_DECAYS:
            raise UsageError(f"outer_decay {decay}: choose from {', '.join(OUTER_DECAYS)}")
        self.hparams["outer_decay"] = decay

    @property
    def micro_batch(self) -> int | None:
        """How many tasks are computed at once in training; None for the whole meta-batch.

        A checkpoint keeps it.
        """
        return self.hparams.get("micro_batch")

    @micro_batch.setter
    def micro_batch(self, tasks: int | None) -> None:
        self.hparams["micro_batch"] = tasks

    def multiply_in(self, precision: str) -> None:
        """Let the convolutions multiply in ``float32`` or ``bf16``; `hparams` keep it.

        Raises:
            UsageError: there is no such precision, or the networks cannot compute in it.
        """
        copied = (module for copy in self.backbone_copies for module in copy.modules())
        set_precision([*self.modules(), *copied], precision)
        self.hparams["precision"] = precision

    def clip_by(self, limit: float, algorithm: str = "norm") -> None:
        """Clip the outer gradient so, in place of the learner's own way; `hparams` keep it.

        Args:
            limit: of the gradient's norm, or of each of its elements; 0 for no clipping.
            algorithm: ``norm`` or ``value``, as Lightning's ``gradient_clip_algorithm``.

        Raises:
            UsageError: there is no such algorithm.
        """
        if algorithm not in CLIP_ALGORITHMS:
            choices = ", ".join(CLIP_ALGORITHMS)
            raise UsageError(f"gradient_clip_algorithm {algorithm}: choose from {choices}")
        self.hparams.update(gradient_clip_val=limit, gradient_clip_algorithm=algorithm)

    def normalise_by(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Set how images are normalised (see `normalised`); `hparams` and checkpoints keep it.

        Args:
            mean: mean of each channel, of pixels scaled to [0, 1].
            std: standard deviation of each channel, of the same pixels.
        """
        self.hparams.update(image_mean=[*mean], image_std=[*std])

    @property
    def image_mean(self) -> tuple[float, ...] | None:
        """What `normalised` subtracts from each channel; None where it was not set."""
        return tuple(self.hparams["image_mean"]) if "image_mean" in self.hparams else None

    @property
    def image_std(self) -> tuple[float, ...] | None:
        """What `normalised` divides each channel by; None where it was not set."""
        return tuple(self.hparams["image_std"]) if "image_std" in self.hparams else None

    def normalised(self, images: Any) -> Tensor:
        """Images normalised as this learner was trained on them, as its episodes must be.

        Args:
            images: tensor or array (..., C, H, W), uint8 or floating-point in [0, 1].

        Returns:
            float (..., C, H, W), on the learner's device.

        Raises:
            UsageError: the normalisation is not known, as of a learner that `zoo.experiment` did
                not make (call `normalise_by` first); or the images have another shape or range.
        """
        mean, std = self.image_mean, self.image_std
        if mean is None or std is None:
            raise UsageError(
                f"{self.title or type(self).__name__}: how its images are normalised is not known, "
                "because zoo.experiment did not make it: call learner.normalise_by(mean, std) "
                "first, with a number for each channel"
            )
        x = torch.as_tensor(images).to(self.device)
        if x.dim() < 3 or x.shape[-3] != len(mean):
            raise UsageError(
                f"images of shape {tuple(x.shape)}: expected (..., {len(mean)}, H, W), with the "
                "channels that the learner was trained on"
            )
        if x.dtype != torch.uint8:
            if not x.is_floating_point() or not ((x >= 0) & (x <= 1)).all():
                raise UsageError(
                    f"images of {x.dtype}, from {x.min():g} to {x.max():g}: expected uint8, or "
                    "floating-point numbers in [0, 1]"
                )
            x = x.float() * 255
        return normalised_pixels(x, mean, std)

    @classmethod
    def class_for(cls, overrides: Mapping[str, Any]) -> type["Learner"]:
        """The class that a variant stands for: this one, unless an option chooses another."""
        return cls

    def forward(self, episode: Episode) -> Tensor:
        """Adapt to each support set and predict its query set: logits (T, N*Q, N).

        In regression it returns the predicted outputs, (T, Q, N).
        """
        raise NotImplementedError

    def meta_loss(self, episode: Episode) -> Tensor:
        """The outer-loop objective, averaged over the meta-batch: a scalar."""
        return torch.stack([*self.loss_terms(episode).values()]).sum()

    def loss_terms(self, episode: Episode) -> dict[str, Tensor]:
        """The terms of the outer-loop objective by name: scalars, weighted and averaged.

        The first is the learner's own loss. Its name is ``host``, because a plug-in adds its terms
        to those of its host. A learner that adds further losses overrides this method instead of
        `meta_loss`; the log then compares their gradients (`log_gradient_comparison`).
        """
        predicted = check_predictions(self, self(episode), episode)
        return {"host": task_loss(predicted, episode.query.y).mean()}

    def evaluate(self, episode: Episode) -> tuple[dict[str, Tensor], Tensor]:
        """What a test records: metrics {name: (T,)}, and the prediction for each query.

        Returns:
            ``accuracy`` in [0, 1] and ``nll``, the mean cross-entropy in nats; predictions
            (T, N*Q). In regression ``mse``, the mean squared error; predictions (T, Q, N).
        """
        logits = check_predictions(self, self(episode), episode)
        if episode.query.y.is_floating_point():
            return {"mse": task_loss(logits, episode.query.y)}, logits
        prediction = logits.argmax(-1)
        return {
            "accuracy": (prediction == episode.query.y).float().mean(-1),
            "nll": task_cross_entropy(logits, episode.query.y),
        }, prediction

    @contextmanager
    def embedded(self) -> Iterator[nn.Module]:
        """Inside this block the learner takes episodes of features (T, n, D), not of images.

        An image that many episodes share then needs to be embedded only once.

        Yields:
            The network that makes the features, in evaluation mode: (n, *image) -> (n, D).

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
        """Refuse episodes of a shape that this learner cannot take, before training starts.

        Raises:
            UsageError: names the setting to change.
        """

    def stages(self) -> list[Stage]:
        """What must be trained before meta-training, in this order; not the pre-training.

        The weights of a stage are loaded into a part of this learner before the next stage is
        trained. Where `pretrained_from` is set, the pre-trained weights are loaded into the
        backbone before the first stage.
        """
        return []

    def anneal(self, progress: float) -> float:
        """The factor of the outer learning rate after a share `progress` in [0, 1] of training.

        This is the paper's schedule; a run may ask for another one (`outer_decay`).
        """
        return 1.0

    def outer_rate(self, progress: float) -> float:
        """The factor of the outer learning rate in this run; `progress` as in `anneal`."""
        if self.outer_decay == "cosine":
            return (1 + math.cos(math.pi * progress)) / 2
        return self.anneal(progress)

    def parameter_count(self, learned: bool = False) -> int:
        """The number of parameters, `backbone_copies` not counted.

        Args:
            learned: whether to count only those that meta-training changes.
        """
        copied = {id(p) for part in self.backbone_copies for p in part.parameters()}
        counted = [p for p in self.parameters() if id(p) not in copied]
        if learned:
            counted = [p for p in counted if p.requires_grad]
        return sum(p.numel() for p in counted)

    def traits(self) -> dict[str, bool]:
        """The traits of this learner with its settings."""
        return {name: bool(getattr(self, name)) for name in TRAITS}

    def setup(self, stage: str) -> None:
        """Check that the Trainer suits this learner, and train its stages before a fit.

        Raises:
            UsageError: the learner cannot be trained at the Trainer's precision, on its device or
                on several devices; or it has stages to be trained first, and no `train_stages`.
        """
        # Not in the constructor: there Lightning would also store arguments of the calling code.
        self.save_hyperparameters(dict(self.hparams))
        precision, devices = self.trainer.precision, self.trainer.world_size
        if precision not in PRECISIONS:
            raise UsageError(
                f'precision "{precision}": {self.title or type(self).__name__} computes in '
                f"{' or '.join(PRECISIONS)}"
            )
        check_precision(self.hparams.get("precision", FLOAT32), self.trainer.strategy.root_device)
        if self._compiler_ctx is not None:
            raise UsageError(
                f"{self.title}: torch.compile compiles the steps of a Trainer with it; compile its "
                "network alone: learner.net.compile()"
            )
        if devices > 1 and self.why_one_device:
            raise UsageError(f"{self.title}: {self.why_one_device}; train it on one device")
        if stage != "fit" or self.stages_trained:
            return
        if self.train_stages is not None:
            self.train_stages(self)
            self.stages_trained = True
        elif stages := self.stages():
            names = ", ".join(each.name for each in stages)
            raise UsageError(
                f"{self.title}: stage {names} must be trained before meta-training: make it by "
                "zoo.experiment(...), which knows how, or set its `train_stages`"
            )

    def on_train_start(self) -> None:
        """Refuse a training where nothing is learned, or of unknown length if rates depend on it.

        Raises:
            UsageError: says what to tell the Trainer.
        """
        if not any(p.requires_grad for p in self.parameters()):
            raise UsageError(
                f"{self.title}: nothing in it is learned in episodes: do not call fit, or call it "
                "with max_steps=0, which trains its stages alone"
            )
        if self.needs_length and not math.isfinite(self.planned_updates):
            raise UsageError(
                f"{self.title}: its updates depend on how many there will be, and the Trainer does "
                "not know that: give it max_steps, or max_epochs and batches that have a length"
            )

    @property
    def needs_length(self) -> bool:
        """Whether an update depends on how many there will be."""
        falls = self.outer_decay != "paper" or type(self).anneal is not Learner.anneal
        return falls or self.length_matters

    @property
    def planned_updates(self) -> float:
        """Outer-loop updates of the whole training; infinite where the Trainer does not know.

        It is known only once training has begun, because Lightning opens the data for it.
        """
        planned = self.trainer.estimated_stepping_batches
        return planned if planned > 0 else math.inf

    @property
    def progress(self) -> float:
        """The share of the training that is done, in [0, 1]."""
        return self.global_step / self.planned_updates if self.global_step else 0.0

    def checked_batch(self, batch: Any) -> Episode:
        """A batch as the steps need it: its way a number, its images as precise as the weights.

        Raises:
            UsageError: it is no Episode, or its episodes differ in their way.
        """
        if not isinstance(batch, Episode):
            raise UsageError(
                f"{self.title or type(self).__name__}: a batch is a {type(batch).__name__}; "
                "expected a zoo.Episode: take an EpisodicDataModule, or a DataLoader of Episodes"
            )
        if isinstance(batch.way, Tensor):  # as a plain DataLoader collates Episodes
            ways = sorted({*batch.way.flatten().tolist()})
            if len(ways) > 1:
                raise UsageError(f"a batch of episodes of ways {ways}: expected one way")
            batch = batch._replace(way=ways[0])
        if batch.support.x.dim() == 5:  # images
            for network in self._given_network:
                check_features(network, tuple(batch.support.x.shape[2:]))
            self._given_network = ()
        dtype = next((p.dtype for p in self.parameters()), batch.support.x.dtype)
        return batch if batch.support.x.dtype == dtype else batch.to(dtype)

    def training_step(self, batch: Episode, batch_idx: int) -> Tensor:
        """The mean loss of a meta-batch, a scalar.

        It is computed `micro_batch` tasks at a time, if that is set and the learner does not need
        all tasks at once (`joint_tasks`). Its gradient is that of the whole meta-batch either way.
        """
        batch = self.checked_batch(batch)
        shared = process_count() > 1
        size = batch.tasks if self.joint_tasks else self.micro_batch or batch.tasks
        means: dict[str, Tensor] = {}  # of each term, over the meta-batch

        def part_loss(part: Episode) -> Tensor:
            terms = self.loss_terms(part) if self.adds_losses else {"host": self.meta_loss(part)}
            if len(terms) > 1 and not means:  # of the first part only
                self.log_gradient_comparison(terms)
            for name, term in terms.items():
                share = term.detach() / (batch.tasks / part.tasks)
                means[name] = means[name] + share if name in means else share
            return torch.stack([*terms.values()]).sum()

        if size >= batch.tasks and not shared:
            loss = part_loss(batch)
        else:
            learned = [p for p in self.parameters() if p.requires_grad]
            # Processes average their gradients, so each must have a gradient for every parameter.
            loss = loss_in_parts(part_loss, batch, size, learned, zero_unused=shared)
        if not loss.requires_grad:
            raise UsageError(
                f"{self.title or type(self).__name__}: the loss depends on nothing that is "
                "learned: does the network compute inside torch.no_grad(), or detach its features?"
            )
        self._log_losses(loss.detach(), means, batch.tasks)
        return loss

    def _log_losses(self, loss: Tensor, terms: Mapping[str, Tensor], tasks: int) -> None:
        """Log the loss of an update, and its terms where it has several."""
        values = {"loss": loss}
        if len(terms) > 1:
            values["host_loss"] = terms["host"]
            values["added_loss"] = loss - terms["host"]
        logged = torch.stack([*values.values()])
        if process_count() > 1:
            torch.distributed.all_reduce(logged)  # all have equally many tasks
            logged = logged / process_count()
        named = dict(zip((f"train/{name}" for name in values), logged, strict=True))
        self.log("train/loss", named.pop("train/loss"), prog_bar=True, batch_size=tasks)
        self.log_dict(named, batch_size=tasks)

    @property
    def adds_losses(self) -> bool:
        """Whether its class has `loss_terms` of its own."""
        return type(self).loss_terms is not Learner.loss_terms

    def log_gradient_comparison(self, terms: Mapping[str, Tensor]) -> None:
        """Log how the gradient of the added losses compares with that of the host's loss.

        ``train/gradient_ratio`` is the norm of the added losses' gradient over the norm of the
        host's, ``train/gradient_cosine`` the cosine between the two. They cost two backward passes,
        so only every `log_every_n_steps`-th update computes them, where Lightning writes a line of
        its log; an update of several micro-batches computes them on the first one.
        """
        trainer: Any = self._trainer
        if not trainer or (self.global_step + 1) % trainer.log_every_n_steps:
            return
        added = torch.stack([term for name, term in terms.items() if name != "host"]).sum()
        ratio, cosine = compare_gradients(terms["host"], added, self.parameters())
        self.log_dict({"train/gradient_ratio": ratio, "train/gradient_cosine": cosine})

    def validation_step(self, batch: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Metrics of meta-validation episodes, each (T,)."""
        metrics, _ = self._evaluated(self.checked_batch(batch))
        self._log_means("val", metrics, batch.tasks)
        return metrics

    def test_step(self, batch: Episode, batch_idx: int) -> dict[str, Tensor]:
        """Metrics of meta-test episodes, each (T,), and ``prediction`` of each query."""
        metrics, prediction = self._evaluated(self.checked_batch(batch))
        self._log_means("test", metrics, batch.tasks)
        return {**metrics, "prediction": prediction}

    def _evaluated(self, batch: Episode) -> tuple[dict[str, Tensor], Tensor]:
        """What `evaluate` returns, checked."""
        judged_by = "mse" if batch.query.y.is_floating_point() else self.judged_by
        return check_evaluation(self, self.evaluate(batch), batch, judged_by)

    def _log_means(self, split: str, metrics: Mapping[str, Tensor], tasks: int) -> None:
        means = torch.stack([value.mean() for value in metrics.values()])
        if process_count() > 1:
            # Lightning's sync_dist would round the mean number of tasks per process to an integer.
            sums = torch.cat([means * tasks, means.new_tensor([tasks])])
            torch.distributed.all_reduce(sums)
            means, tasks = sums[:-1] / sums[-1], int(sums[-1])
        named = dict(zip((f"{split}/{name}" for name in metrics), means, strict=True))
        self.log_dict(named, prog_bar=split == "val", batch_size=tasks)

    def predict_step(self, batch: Episode, batch_idx: int) -> Tensor:
        """The probabilities of a batch's queries (`probabilities`)."""
        return self.probabilities(self.checked_batch(batch))

    @torch.no_grad()
    def probabilities(self, episode: Episode) -> Tensor:
        """The probability of each class for each query, (T, N*Q, N).

        In regression the predicted outputs, (T, Q, N). The queries' labels are not used.
        """
        logits = check_predictions(self, self(episode), episode)
        return logits if episode.support.y.is_floating_point() else logits.softmax(-1)

    def configure_optimizers(self) -> Any:
        """The outer optimiser of all parameters; its rate follows `outer_rate`."""
        if not any(True for _ in self.parameters()):
            return None
        optimizer = self.outer_optimizer(self.parameters(), lr=self.outer_lr)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda update: self.outer_rate(self._progress_at(update))
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    def _progress_at(self, update: int) -> float:
        """The share of the training that is done after so many updates."""
        # The length is not asked for before the first update: to know it, Lightning would open the
        # data, and a resumed run has not yet restored its position in them.
        return update / self.planned_updates if update and self.needs_length else 0.0

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the outer gradient as the Trainer asks, else as `clip_by`, else as the paper."""
        if gradient_clip_val is None:
            gradient_clip_val = self.hparams.get("gradient_clip_val")
            gradient_clip_algorithm = self.hparams.get("gradient_clip_algorithm")
        if gradient_clip_val is not None:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif self.clip_value is not None:
            nn.utils.clip_grad_value_(self.parameters(), self.clip_value)
        elif self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters(), self.clip_norm)
