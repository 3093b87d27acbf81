"""Stages, carried out: trained once below runs/, kept there, and given to every run that asks."""

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

STAGE_SPLITS = ("train", "val")  # the test split is no business of a stage
STAGE_SCHEMA = 1  # of stage.json
AGAIN = "delete the folder, and the stage is trained again"


def read_stage(folder: Path) -> dict[str, Any] | None:
    """What is kept of a finished stage; None where there is none.

    Raises:
        UsageError: the file is damaged, or of another version of the zoo.
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
        raise DamagedError(f"{path} is damaged: its checksum does not hold; {AGAIN}")
    return kept


def named_stage(runs: Path, name: str) -> dict[str, Any]:
    """What is kept of the pre-training of this name.

    Raises:
        UsageError: there is none; says which there are.
    """
    if name == Path(name).name:
        kept = read_stage(runs / "stages" / name)
        if kept is not None and kept["name"] == PRETRAIN:
            return kept
    there = []
    for path in sorted((runs / "stages").glob("*/stage.json")):
        with contextlib.suppress(UsageError):  # one that is damaged is not of this name
            if (read_stage(path.parent) or {}).get("name") == PRETRAIN:
                there.append(path.parent.name)
    known = f"there are {', '.join(there)}" if there else "there is none"
    raise UsageError(f"--pretrained_from {name}: no such stage below {runs / 'stages'}; {known}")


def check_stage_fits(folder: Path, kept: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse a stage that was made as another than the one asked for.

    Raises:
        UsageError: shows both settings of each difference.
    """
    if said := differences(kept, asked):
        raise UsageError(f"the stage in {folder} does not fit: {said}")


class Staging:
    """A stage of a run: where it lies, and what it is made of."""

    def __init__(
        self,
        stage: Stage,
        runs: Path,
        benchmark: Any,
        stores: Mapping[str, Store],
        earlier: Mapping[str, str],
        name: str = "",
    ) -> None:
        """Name it by a hash of all that it follows from.

        Args:
            stage: what is trained.
            runs: folder that holds what is under way.
            benchmark: of the run.
            stores: by split.
            earlier: hashes of the stages before it, by name, or what else it may build on.
            name: of its folder, where it was asked for by that.

        Raises:
            UsageError: what lies there does not fit, or there is no data as it asks for.
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
        """Train the stage, unless it was; let the learner start from it.

        A second process that asks for the same waits for the first.

        Returns:
            What a run's record says of it.

        Raises:
            UsageError: what lies there does not fit, or it diverged.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        while rank() and read_stage(self.folder) is None:  # the first process trains it
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
        said = {name: kept[name] for name in ("name", "hash", "seconds", "updates", "selected")}
        then = [kept["sources"]] if "sources" in kept else []
        others = [*kept.get("other_files", []), *changed_files(then, self.sources)]
        return {
            **said,
            "cpu_seconds": kept.get("cpu_seconds"),  # older stages do not know them
            **({"other_files": others} if others else {}),
            **({} if "checksum" in kept else {"unchecked": True}),
        }

    @property
    def sources(self) -> SourceFiles:
        """The files that define what is trained."""
        return source_files(self.stage.modules())

    def _kept(self) -> dict[str, Any] | None:
        """What is kept of this stage; None where it must be trained.

        It must be trained anew if a plug-in that defines it was changed; unless it was asked for by
        name: then it is taken as it is.

        Raises:
            UsageError: what is kept is damaged.
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
        """The weights of a finished stage.

        Raises:
            UsageError: they are missing, or not those that stage.json knows.
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
        """Fit, from the last checkpoint if there is one; keep the best weights."""
        settings, folder, stage = self.identity["settings"], self.folder, self.stage
        updates = settings["updates"]
        print(f"  stage {stage.name}: {updates} updates on {self.benchmark.key}; {folder}")
        made_with = environment(device)
        keeper = CheckpointKeeper(
            folder, "val/accuracy", code_of(made_with), run=self.hash, sources=self.sources
        )
        begun = keeper.find_last(stage, updates) is not None
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
                start = (folder / "last.ckpt").absolute() if begun else None  # see `Run.train`
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
            **({"other_files": keeper.other_files} if keeper.other_files else {}),
        }
        kept["checksum"] = checksum(kept)
        write_json(folder / "stage.json", kept)
        for name in ("last.ckpt", "best.ckpt"):
            (folder / name).unlink(missing_ok=True)
        return kept

    def _data(self) -> EpisodicDataModule:
        """Images or episodes, as the stage asks."""
        settings, benchmark = self.identity["settings"], self.benchmark
        at_once = tasks_together(benchmark.image)
        if self.stage.batches == "images":
            return ImageDataModule(
                self.stores, benchmark.mean, benchmark.std, settings, at_once, benchmark.image[1:]
            )
        way, shot, query = (settings[name] for name in ("way", "shot", "query"))
        shape = {"train_way": way, "train_shot": shot, "train_query": query, "test_episodes": 0}
        # Task by task: `training_options` accumulates the gradients of a meta-batch.
        shape |= {"meta_batch": 1, "updates": settings["updates"] * settings["meta_batch"]}
        return EpisodicDataModule(
            self.stores, benchmark.mean, benchmark.std, {**settings, **shape},
            way=way, shot=shot, seed=settings["seed"], eval_batch=at_once,
            size=benchmark.image[1:],
        )  # fmt: skip


class Stagings:
    """What trains the stages of a learner when a plain Trainer begins to train that."""

    def __init__(self, stages: Sequence[Staging], device: str, learner: Learner) -> None:
        """Keep the stages, the kind of device they are trained on, and whose they are."""
        self.stages, self.device = stages, device
        self._learner = weakref.ref(learner)

    def __call__(self, learner: Learner, progress: bool = False) -> list[dict[str, Any]]:
        """Train each, unless it was; returns what a run's record says of them.

        Raises:
            UsageError: `learner` is a copy, so the stages would give their weights to another one.
        """
        if learner is not self._learner():
            raise UsageError(
                f"{learner.title}: a copy of a learner whose stages are not trained yet; train the "
                "original first, or make another by zoo.experiment(...)"
            )
        return [staging.ready(self.device, progress) for staging in self.stages]

    def __deepcopy__(self, memo: Any) -> "Stagings":
        """The same for a copy of the learner, which it then refuses."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """A learner that is read from a file is a copy too."""
        return _stages_elsewhere, ()


def _stages_elsewhere() -> None:
    """What is left of `Stagings` in a file."""


def stages_of_run(
    settings: Mapping[str, Setting],
    learner: Learner,
    backbone: Backbone,
    benchmark: Any,
    stores: Mapping[str, Store],
    runs: Path,
    seed: int,
) -> list[Staging]:
    """What a run needs trained before, the pre-training of the backbone first.

    Raises:
        UsageError: it cannot be had, or what lies below `runs` does not fit.
    """
    found: list[Staging] = []
    if "pretrained_from" in settings:
        source = settings["pretrained_from"].value
        first = pretraining_stage(settings, learner, backbone, benchmark, stores, runs)
        name = "" if source == PRETRAIN else source
        found.append(Staging(first, runs, benchmark, stores, {}, name))
        start = {}
    else:
        start = {"backbone": settings["backbone"].value, "seed": str(seed)}  # of its weights
    for stage in learner.stages():
        if "query" not in stage.settings:
            stage.settings["query"] = stage_queries(
                benchmark, stores, stage.settings.get("shot", 1)
            )
        earlier = start | {staging.stage.name: staging.hash for staging in found}
        earlier = earlier if stage.builds_on_earlier else {}
        found.append(Staging(stage, runs, benchmark, stores, earlier))
    return found


def stage_queries(benchmark: Any, stores: Mapping[str, Store], shot: int) -> int:
    """Queries a class in the episodes of a stage: the benchmark's, of own images what there is."""
    return query_that_fits(stores, shot, benchmark.query) if benchmark.own else benchmark.query


def pretraining_stage(
    settings: Mapping[str, Setting],
    learner: Learner,
    backbone: Backbone,
    benchmark: Any,
    stores: Mapping[str, Store],
    runs: Path,
) -> Pretrain:
    """The stage that the backbone starts from.

    Raises:
        UsageError: there is none of that name, or nothing here can start from one.
    """
    source, text = settings["pretrained_from"].value, settings["backbone"].value
    flag = f"--pretrained_from {source}"
    if benchmark.regression:
        raise UsageError(f"{flag}: {benchmark.key} has no classes to tell apart; leave it out")
    if not any(True for _ in backbone.parameters()):
        raise UsageError(f"{flag}: backbone {text} has nothing to learn; leave it out")
    if backbone not in learner.modules():
        raise UsageError(f"{flag}: {learner.title} keeps no backbone; leave it out")
    if source == PRETRAIN:
        own = {name: s.value for name, s in settings.items() if name.startswith(f"{PRETRAIN}_")}
        values = {name.removeprefix(f"{PRETRAIN}_"): value for name, value in own.items()}
        values["query"] = stage_queries(benchmark, stores, VALIDATED[1])
    else:
        values = dict(named_stage(runs, source)["identity"]["settings"])
    values["backbone"] = text
    with seeded(values["seed"]):
        net = build_backbone(text, benchmark.image)
        targets = (backbone, *learner.copies)
        return Pretrain(net, targets, len(stores["train"].names), values)
