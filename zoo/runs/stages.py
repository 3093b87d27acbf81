"""Trains the stages of runs: each once, kept below runs/ for every run that needs it."""

import contextlib
import json
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from zoo.checkpoint_files import read_checkpoint, write_checkpoint
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.datasets.episodes.image_batches import VALIDATED, ImageDataModule
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.files import DamagedError, locked, read_json, write_json
from zoo.learner import Learner
from zoo.networks.backbone import Backbone, build_backbone
from zoo.precision import FLOAT32
from zoo.processes import alone, rank
from zoo.reports.records import BROKEN, checksum, checksum_state
from zoo.runs.checkpoints import CheckpointKeeper, DivergedError
from zoo.runs.environment import code_of, environment, interruptible
from zoo.runs.fitted import query_that_fits
from zoo.runs.identity import differences
from zoo.runs.loggers_and_callbacks import CsvLog
from zoo.runs.pretraining import Pretrain
from zoo.runs.settings import PRETRAIN, Setting
from zoo.runs.source_files import SourceFiles, changed_files, other_plugins, source_files
from zoo.runs.trainer import trainer_for, training_options
from zoo.runs.workspace import tasks_together
from zoo.stage import Stage, seeded, stage_hash

STAGE_SPLITS = ("train", "val")  # a stage must not see the test split
STAGE_SCHEMA = 1  # the version of stage.json
AGAIN = "delete the folder, and the stage is trained again"


def read_stage(folder: Path) -> dict[str, Any] | None:
    """What stage.json says of a finished stage; None if there is no such file.

    Raises:
        UsageError: the file is damaged, or from another version of the zoo.
    """
    path = folder / "stage.json"
    try:
        kept = read_json(path)
    except FileNotFoundError:
        return None
    except DamagedError as error:
        raise DamagedError(f"{error}; {AGAIN}") from None
    if not isinstance(kept, dict) or kept.get("schema") != STAGE_SCHEMA:
        raise UsageError(f"{path} is no stage of this version of the zoo: {AGAIN}")
    if checksum_state(kept) == BROKEN or not {"name", "hash", "identity"} <= kept.keys():
        raise DamagedError(f"{path} is damaged: its checksum does not match; {AGAIN}")
    return kept


def named_stage(runs: Path, name: str) -> dict[str, Any]:
    """What is kept of the pre-training of this name.

    Raises:
        UsageError: there is none; the message says which there are.
    """
    if name == Path(name).name:
        kept = read_stage(runs / "stages" / name)
        if kept is not None and kept["name"] == PRETRAIN:
            return kept
    names = []
    for path in sorted((runs / "stages").glob("*/stage.json")):
        with contextlib.suppress(UsageError):  # damaged ones are not listed
            if (read_stage(path.parent) or {}).get("name") == PRETRAIN:
                names.append(path.parent.name)
    choices = f"there are {', '.join(names)}" if names else "there is none"
    raise UsageError(f"--pretrained_from {name}: no such stage below {runs / 'stages'}; {choices}")


def check_stage_fits(folder: Path, kept: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse a stage whose identity is not the one asked for.

    Raises:
        UsageError: they differ; the message shows both values of each difference.
    """
    if text := differences(kept, asked):
        raise UsageError(f"the stage in {folder} does not fit: {text}")


class Staging:
    """A stage of a run: what it depends on, and the folder where it is trained and kept."""

    def __init__(
        self,
        stage: Stage,
        runs: Path,
        benchmark: Any,
        stores: Mapping[str, Store],
        earlier: Mapping[str, str],
        name: str = "",
    ) -> None:
        """Name the stage by a hash of everything that it depends on.

        Args:
            stage: what is trained.
            runs: the folder of runs under way.
            benchmark: of the run.
            stores: by split.
            earlier: the hashes of the stages before it by their names, and whatever else its
                weights depend on.
            name: the name of its folder if the user gave one, else "".

        Raises:
            UsageError: the stage in its folder does not fit, or the data do not suffice for it.
        """
        self.stage, self.benchmark, self.named = stage, benchmark, bool(name)
        self.stores = {split: stores[split] for split in STAGE_SPLITS if split in stores}
        identity = {
            "stage": stage.name,
            "version": stage.version,
            "settings": stage.settings,
            "image": list(benchmark.image),
            "data": {split: store.fingerprint for split, store in self.stores.items()},
            "earlier": dict(earlier),
        }
        self.identity = json.loads(json.dumps(identity))
        self.hash = stage_hash(self.identity)
        self.folder = runs / "stages" / (name or f"{stage.name}-{benchmark.key}-{self.hash}")
        if (kept := read_stage(self.folder)) is not None:
            check_stage_fits(self.folder, kept["identity"], self.identity)
        self.data = self._data()

    def ready(self, device: str, progress: bool) -> dict[str, Any]:
        """Train the stage unless it is finished, and let the learner start from its weights.

        A second process that needs the same stage waits for the first.

        Returns:
            What the run's record says of the stage.

        Raises:
            UsageError: the stage in its folder does not fit, or its training diverged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        while rank() and read_stage(self.folder) is None:  # the process of rank 0 trains it
            time.sleep(0.2)

        def wait(holder: str) -> None:
            print(f"{self.folder} is made by {holder}: waiting for it", file=sys.stderr)

        with locked(self.folder / "lock", wait):
            kept = self._kept()
            if kept is None:
                kept = self._train(device, progress)
            check_stage_fits(self.folder, kept["identity"], self.identity)
            weights = self._weights(kept)
        try:
            self.stage.net.load_state_dict(weights)
        except RuntimeError:
            path = self.folder / "weights.ckpt"
            raise UsageError(f"{path} has other weights than the network now; {AGAIN}") from None
        self.stage.give()
        summary = {name: kept[name] for name in ("name", "hash", "seconds", "updates", "selected")}
        summary["cpu_seconds"] = kept.get("cpu_seconds")  # older stages do not have them
        trained_from = [kept["sources"]] if "sources" in kept else []
        other_files = [*kept.get("other_files", []), *changed_files(trained_from, self.sources)]
        if other_files:
            summary["other_files"] = other_files
        if "checksum" not in kept:
            summary["unchecked"] = True
        return summary

    @property
    def sources(self) -> SourceFiles:
        """The source files that define what is trained."""
        return source_files(self.stage.modules())

    def _kept(self) -> dict[str, Any] | None:
        """What stage.json says of this stage; None if the stage must be trained.

        If a plug-in that defines it has changed, it must be trained anew, unless the user asked for
        it by name.

        Raises:
            UsageError: stage.json is damaged.
        """
        kept = read_stage(self.folder)
        if kept is None or "sources" not in kept or self.named:
            return kept
        files = other_plugins(kept["sources"], self.sources)
        if not files:
            return kept
        path = self.folder / "stage.json"
        print(f"  {path} was made by another {', '.join(files)}; the stage is trained anew")
        path.unlink()
        return None

    def _weights(self, kept: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """Read the weights of a finished stage.

        Raises:
            UsageError: they are missing or damaged, or not those that stage.json was written with.
        """
        path = self.folder / "weights.ckpt"
        try:
            weights, checksum = read_checkpoint(path, weights_only=True)
        except FileNotFoundError:
            raise DamagedError(f"{path} is missing; {AGAIN}") from None
        except DamagedError as error:
            raise DamagedError(f"{error}; {AGAIN}") from None
        if kept.get("weights") not in (None, checksum):
            raise DamagedError(f"{path} is not what stage.json beside it knows; {AGAIN}")
        return dict(weights)

    def _train(self, device: str, progress: bool) -> dict[str, Any]:
        """Train the stage, from its last checkpoint if there is one, and keep its best weights."""
        settings, folder, stage = self.identity["settings"], self.folder, self.stage
        updates = settings["updates"]
        print(f"  stage {stage.name}: {updates} updates on {self.benchmark.key}; {folder}")
        made_with = environment(device)
        keeper = CheckpointKeeper(
            folder, "val/accuracy", code_of(made_with), run=self.hash, sources=self.sources
        )
        goes_on = keeper.find_last(stage, updates) is not None
        parts = settings["meta_batch"] if stage.batches == "episodes" else 1
        trainer = trainer_for(
            device,
            progress,
            **training_options(
                keeper, updates, settings["validations"], CsvLog(folder, "log"), parts=parts
            ),
        )
        pl.seed_everything(settings["seed"], verbose=False)
        try:
            with interruptible(), alone():
                # The path is absolute for the reason that `Run.train` gives.
                start = (folder / "last.ckpt").absolute() if goes_on else None
                trainer.fit(stage, self.data, ckpt_path=start)
        except DivergedError as error:
            raise UsageError(
                f"stage {stage.name} failed at {error}: lower its learning rate"
            ) from None
        stage.load_state_dict(keeper.best_weights())
        weights = write_checkpoint(folder / "weights.ckpt", stage.net.state_dict())
        update, value = keeper.best or (updates, None)
        kept = {
            "schema": STAGE_SCHEMA,
            "name": stage.name,
            "hash": self.hash,
            "identity": self.identity,
            "seconds": round(keeper.seconds, 2),
            "cpu_seconds": keeper.spent["updates_cpu"],  # of the updates, without validations
            "updates": updates,
            "selected": {"update": update, "accuracy": value},
            "validation": keeper.curve,
            "environment": {**made_with, "threads": torch.get_num_threads()},
            "weights": weights,
            "sources": self.sources._asdict(),
        }
        if keeper.other_files:
            kept["other_files"] = keeper.other_files
        kept["checksum"] = checksum(kept)
        write_json(folder / "stage.json", kept)
        for name in ("last.ckpt", "best.ckpt"):
            (folder / name).unlink(missing_ok=True)
        return kept

    def _data(self) -> EpisodicDataModule:
        """Batches of images or of episodes, whichever the stage needs."""
        settings, benchmark = self.identity["settings"], self.benchmark
        eval_batch = tasks_together(benchmark.image)
        size = benchmark.image[1:]
        if self.stage.batches == "images":
            return ImageDataModule(
                self.stores, benchmark.mean, benchmark.std, settings, eval_batch, size
            )
        way, shot = settings["way"], settings["shot"]
        episode_settings = {
            **settings,
            "train_way": way,
            "train_shot": shot,
            "train_query": settings["query"],
            "test_episodes": 0,
            # Task by task: `training_options` accumulates the gradients of a meta-batch.
            "meta_batch": 1,
            "updates": settings["updates"] * settings["meta_batch"],
        }
        return EpisodicDataModule(
            self.stores,
            benchmark.mean,
            benchmark.std,
            episode_settings,
            way=way,
            shot=shot,
            seed=settings["seed"],
            eval_batch=eval_batch,
            size=size,
        )


class Stagings:
    """Trains the stages of a learner when a plain Trainer begins to train the learner."""

    def __init__(self, stages: Sequence[Staging], device: str, learner: Learner) -> None:
        """Keep the stages, the kind of device they are trained on, and the learner they are for."""
        self.stages, self.device = stages, device
        self._learner = weakref.ref(learner)

    def __call__(self, learner: Learner, progress: bool = False) -> list[dict[str, Any]]:
        """Train each stage unless it is finished; returns what a run's record says of them.

        Raises:
            UsageError: `learner` is a copy, while the stages give their weights to the original.
        """
        if learner is not self._learner():
            raise UsageError(
                f"{learner.title}: a copy of a learner whose stages are not trained yet; train the "
                "original first, or make another by zoo.experiment(...)"
            )
        return [staging.ready(self.device, progress) for staging in self.stages]

    def __deepcopy__(self, memo: Any) -> "Stagings":
        """A copy of the learner keeps this object, which then refuses the copy."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as None: a learner that is read from a file is a copy too."""
        return _stages_elsewhere, ()


def _stages_elsewhere() -> None:
    """Returns None, what a pickled `Stagings` is read as."""


def stages_of_run(
    settings: Mapping[str, Setting],
    learner: Learner,
    backbone: Backbone,
    benchmark: Any,
    stores: Mapping[str, Store],
    runs: Path,
    seed: int,
) -> list[Staging]:
    """What must be trained before a run; the pre-training of the backbone comes first.

    Raises:
        UsageError: a stage is impossible here, or one that lies below `runs` does not fit.
    """
    stagings: list[Staging] = []
    start = {}  # what the backbone's first weights depend on, besides stages
    if "pretrained_from" in settings:
        source = settings["pretrained_from"].value
        first = pretraining_stage(settings, learner, backbone, benchmark, stores, runs)
        name = "" if source == PRETRAIN else source
        stagings.append(Staging(first, runs, benchmark, stores, {}, name))
    else:
        start = {"backbone": settings["backbone"].value, "seed": str(seed)}
        start |= other_precision(settings)
    for stage in learner.stages():
        if "query" not in stage.settings:
            shot = stage.settings.get("shot", 1)
            stage.settings["query"] = stage_queries(benchmark, stores, shot)
        earlier: dict[str, str] = {}
        if stage.builds_on_earlier:
            earlier = {**start, **{staging.stage.name: staging.hash for staging in stagings}}
        stagings.append(Staging(stage, runs, benchmark, stores, earlier))
    return stagings


def stage_queries(benchmark: Any, stores: Mapping[str, Store], shot: int) -> int:
    """Queries a class in the episodes of a stage: the benchmark's, or fewer if images are few."""
    return query_that_fits(stores, shot, benchmark.query) if benchmark.own else benchmark.query


def other_precision(settings: Mapping[str, Setting]) -> dict[str, str]:
    """The setting `precision` if it is not float32, as it was before there was a choice."""
    precision = settings["precision"].value
    return {} if precision == FLOAT32 else {"precision": precision}


def pretraining_stage(
    settings: Mapping[str, Setting],
    learner: Learner,
    backbone: Backbone,
    benchmark: Any,
    stores: Mapping[str, Store],
    runs: Path,
) -> Pretrain:
    """The pre-training that the backbone starts from.

    Raises:
        UsageError: there is no pre-training of that name, or the backbone cannot start from one.
    """
    source, text = settings["pretrained_from"].value, settings["backbone"].value
    flag = f"--pretrained_from {source}"
    if benchmark.regression or benchmark.tables:
        raise UsageError(f"{flag}: {benchmark.key} has no classes to tell apart; leave it out")
    if not any(True for _ in backbone.parameters()):
        raise UsageError(f"{flag}: backbone {text} has nothing to learn; leave it out")
    if backbone not in learner.modules():
        raise UsageError(f"{flag}: {learner.title} keeps no backbone; leave it out")
    if source == PRETRAIN:
        prefix = f"{PRETRAIN}_"
        values = {
            name.removeprefix(prefix): setting.value
            for name, setting in settings.items()
            if name.startswith(prefix)
        }
        values["query"] = stage_queries(benchmark, stores, VALIDATED[1])
        values |= other_precision(settings)
    else:
        values = dict(named_stage(runs, source)["identity"]["settings"])
    values["backbone"] = text
    with seeded(values["seed"]):
        net = build_backbone(text, benchmark.image)
        targets = (backbone, *learner.backbone_copies)
        return Pretrain(net, targets, len(stores["train"].names), values)
