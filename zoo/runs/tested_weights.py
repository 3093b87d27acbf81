"""Tests existing weights at another way or shot, or on another benchmark."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.datasets.benchmarks.base import TORCHMETA, Benchmark, find_benchmark
from zoo.datasets.episodes.data_module import EpisodicDataModule
from zoo.datasets.episodes.image_store import Store
from zoo.errors import UsageError
from zoo.files import slug
from zoo.learner import Learner
from zoo.networks.backbone import Backbone, build_backbone
from zoo.runs.checkpoints import CheckpointKeeper
from zoo.runs.identity import HASH_BYTES, identity_of_record, version_of
from zoo.runs.named_weights import NamedWeights
from zoo.runs.request import RunRequest
from zoo.runs.resolved import ResolvedRequest, check_count, check_tasks, check_way
from zoo.runs.run import Run
from zoo.runs.settings import Setting
from zoo.runs.stages import Staging
from zoo.runs.weights import check_image
from zoo.runs.workspace import Workspace
from zoo.variants import parse_variant

TESTED_FOLDER = "tested"  # below the results; holds the records of such tests


def as_trained(keeper: CheckpointKeeper, record: Mapping[str, Any]) -> None:
    """Give a keeper the facts about the training that the record of the trained run holds."""
    keeper.curve = record["validation"]
    keeper.updates = record["updates"]["total"]
    keeper.best = (record["tested_update"], math.nan)
    seconds = record["seconds"]
    keeper.seconds = seconds.get("train") or 0.0
    update_seconds, cpu_seconds = seconds.get("updates"), seconds.get("updates_cpu")
    keeper.meter.load(
        {
            "seconds": math.nan if update_seconds is None else update_seconds,
            "cpu": math.nan if cpu_seconds is None else cpu_seconds,
            "peak": (record.get("memory") or {}).get("updates"),
        }
    )


@dataclass(frozen=True)
class ResolvedTest(ResolvedRequest):
    """A resolved test of existing weights, with the settings of the run that trained them."""

    record: Mapping[str, Any]  # of that run
    built: tuple[Backbone, Learner]  # they have the weights

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """The settings of the run, except the shape and the number of the test episodes."""
        return dict(self.every_setting)

    @property
    def paper_tasks(self) -> int | None:
        """The number of training tasks in the paper, as the record has it."""
        tasks: int | None = self.record["training_tasks"]["paper"]
        return tasks

    def build(self) -> tuple[Backbone, Learner]:
        """The backbone and the learner with the weights."""
        return self.built

    def family_of(self, backbone: Backbone) -> str:
        """The backbone's key in published.csv, as the record has it."""
        return str(self.record["backbone_family"])


def resolve_test(
    weights: NamedWeights,
    benchmark: str,
    *,
    way: int | None = None,
    shot: int | None = None,
    query: int | None = None,
    test_episodes: int | None = None,
) -> ResolvedTest:
    """Look up what a test of weights needs, and give every setting its value.

    Args:
        weights: their record must lie beside them.
        benchmark: the key or variant of the benchmark to test on.
        way: N; None for that of the run.
        shot: K; None for that of the run.
        query: Q; None for that of the run on its own benchmark, and for the benchmark's on another.
        test_episodes: None for as many as the run had.

    Raises:
        UsageError: the weights cannot be tested so; the message says why.
    """
    record, target = checked_record(weights), find_benchmark(benchmark)
    check_fit(weights, record, target)
    trained_here = parse_variant(record["benchmark"])[0] not in TORCHMETA
    if target.given and trained_here and not target.regression:
        raise UsageError(
            f"{target.variant}: its loaders decide how images are normalised, and {weights.name} "
            "was trained on images that are normalised here; test weights that were trained on "
            "loaders"
        )
    for flag, value in (("shot", shot), ("query", query), ("test_episodes", test_episodes)):
        if value is not None:
            check_count(flag, value, 1)
    about = weights.about
    backbone = build_backbone(about["settings"]["backbone"], tuple(about["image"]))
    learner = weights.learner(backbone)
    check_tasks(type(learner), record["learner"], target)
    check_version(weights, record, learner)
    if target.regression:
        test_way = None
        outputs = check_way(target, way)
    else:
        test_way = way or target.given.get("way") or record["way"]
        outputs = check_way(target, test_way)
    if learner.fixed_way and outputs != about["way"]:
        raise UsageError(
            f"{record['learner']} has one output for each way: {weights.name} was trained at "
            f"{about['way']} ways and is tested at {about['way']} only, not at {outputs}"
        )
    settings = {name: Setting(**entry) for name, entry in record["settings"].items()}
    on_own_benchmark = record["benchmark"] == target.variant
    default_query = settings["query"].value if on_own_benchmark else target.query
    for name, value in (("query", query or default_query), ("test_episodes", test_episodes)):
        if value is not None and value != settings[name].value:
            settings[name] = Setting(value, "flag")
    request = RunRequest(
        record["learner"],
        target.variant,
        test_way,
        shot or target.given.get("shot") or record["shot"],
        record["terms"],
        record["budget"],
        record["seed"],
    )
    learner.check_episodes(outputs, request.shot, settings["query"].value)
    return ResolvedTest(
        request,
        type(learner),
        target,
        outputs,
        settings,
        record["variant"],
        record=record,
        built=(backbone, learner),
    )


class WeightsTest(Run):
    """Tests the weights of a finished run on other episodes; nothing is trained.

    The images of the benchmark that the weights were trained on are not needed. Images are
    normalised by the mean and deviation that the weights were trained with, not by those of the
    benchmark that they are tested on: the network has learned on inputs of that scale, and numbers
    measured on the other benchmark's training images would be a first piece of adaptation. The
    record names them, in `trained_on`.

    The record lies in a folder of its own, and names the run as `weights_of`.
    """

    def __init__(
        self,
        weights: NamedWeights,
        benchmark: str,
        workspace: Workspace | None = None,
        stores: Mapping[str, Store] | None = None,
        **shape: int | None,
    ) -> None:
        """Take the weights and open the test's images.

        Args:
            weights: their record must lie beside them.
            benchmark: the key or variant of the benchmark to test on.
            workspace: where to read, write and compute.
            stores: the benchmark's stores by split, if they are open already.
            **shape: ``way``, ``shot``, ``query`` and ``test_episodes``, see `resolve_test`.

        Raises:
            UsageError: the weights cannot be tested so; the message says why.
        """
        resolved = resolve_test(weights, benchmark, **shape)
        record, about = resolved.record, weights.about
        self.trained_record, self.weights_of = record, record["run"]
        self.trained_on = {
            "benchmark": record["benchmark"],
            "data": record["data"]["fingerprint"],
            "weights": record["weights"]["hash"],
            "mean": list(about["mean"]),
            "std": list(about["std"]),
        }
        workspace = workspace or Workspace()
        workspace = replace(
            workspace,
            results=workspace.results / TESTED_FOLDER,
            callbacks=tuple(record.get("callbacks", ())),
        )
        test = (stores or workspace.open(resolved.benchmark))["test"]
        super().__init__(resolved, workspace, {"test": test})
        self.staged = record["stages"]
        self.lowered = record.get("lowered") or []

    def _stages(self) -> list[Staging]:
        """None: the stages were trained for the run that made the weights."""
        return []

    def _check(self) -> None:
        """Nothing: `resolve_test` has checked it."""

    @cached_property
    def identity(self) -> dict[str, Any]:
        """Everything that determines the trained run's numbers, and the test episodes."""
        identity = {
            **identity_of_record(self.trained_record, self.cls),
            **{name: getattr(self.request, name) for name in ("benchmark", "way", "shot")},
            "data": {"test": self.stores["test"].fingerprint},
            "weights_of": self.weights_of,
            "trained_on": self.trained_on,
        }
        identity["settings"] |= {name: self[name] for name in ("query", "test_episodes")}
        return identity

    @cached_property
    def name(self) -> str:
        """The file name of the test."""
        return name_of_test(self.identity)

    def episodes(self, seed: int) -> EpisodicDataModule:
        """The test episodes, normalised as in the training of the weights."""
        assert self.trained_on is not None
        return EpisodicDataModule(
            self.stores,
            tuple(self.trained_on["mean"]),
            tuple(self.trained_on["std"]),
            {name: setting.value for name, setting in self.settings.items()},
            way=self.way,
            shot=self.request.shot,
            seed=seed,
            eval_batch=self.eval_batch,
            size=self.benchmark.image[1:],
        )

    def train(self, folder: Path, keeper: CheckpointKeeper, progress: bool) -> None:
        """Train nothing; what the record says about training is copied from the trained run's."""
        as_trained(keeper, self.trained_record)


def checked_record(weights: NamedWeights) -> Mapping[str, Any]:
    """The record of the run that trained some weights.

    Raises:
        UsageError: there is none, or its run has no weights.
    """
    record = weights.record
    if record is None or "settings" not in record:
        raise UsageError(
            f"{weights.path}: a test needs the record of the run beside the weights, "
            f"{weights.path.with_suffix('.json').name}"
        )
    if not record.get("weights"):
        raise UsageError(f"{weights.path}: the run of the record beside it has no weights")
    return record


def check_fit(weights: NamedWeights, record: Mapping[str, Any], target: Benchmark) -> None:
    """Refuse a benchmark whose tasks or images are not like those the weights were trained on.

    Raises:
        UsageError: they differ; the message says how.
    """
    trained_for = "regression" if record["way"] is None else "classification"
    asked = "regression" if target.regression else "classification"
    if trained_for != asked:
        raise UsageError(
            f"{weights.name} was trained for {trained_for}, {target.variant} is {asked}"
        )
    check_image(weights.path, weights.about, target)
    if target.regression and weights.about["way"] != target.outputs:
        raise UsageError(
            f"{weights.name} predicts {weights.about['way']} numbers, {target.variant} has "
            f"{target.outputs}"
        )


def check_version(weights: NamedWeights, record: Mapping[str, Any], learner: Any) -> None:
    """Refuse weights of another version of their learner, which would have other results.

    Raises:
        UsageError: the versions differ; the message says both.
    """
    trained_with, today = record.get("version", 1), version_of(type(learner))
    if trained_with != today:
        raise UsageError(
            f"{weights.name} was trained with version {trained_with} of {record['learner']}, this "
            f"is version {today}: its numbers would be others; train it again"
        )


def name_of_test(identity: Mapping[str, Any]) -> str:
    """The file name of a test: the run's name, what it is tested on, and a hash of its identity."""
    way = "" if identity["way"] is None else f"{identity['way']}w"
    text = json.dumps(identity, sort_keys=True).encode()
    end = hashlib.blake2b(text, digest_size=HASH_BYTES).hexdigest()
    tested_on = f"on-{identity['benchmark']}-{way}{identity['shot']}s"
    return slug(f"{identity['weights_of']}-{tested_on}-{end}")
