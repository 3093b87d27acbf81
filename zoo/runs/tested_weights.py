"""Tests of weights that are there already, at another way or shot or on another benchmark."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from zoo.datasets.benchmarks.base import Benchmark, find_benchmark
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

TESTED_FOLDER = "tested"  # below the results: apart from the runs that were trained


def as_trained(keeper: CheckpointKeeper, record: Mapping[str, Any]) -> None:
    """Let a keeper say of the training what the record of the trained run says of it."""
    keeper.curve, keeper.updates = record["validation"], record["updates"]["total"]
    keeper.best = (record["tested_update"], math.nan)
    seconds = record["seconds"]
    keeper.seconds = seconds.get("train") or 0.0
    known = {"seconds": seconds.get("updates"), "cpu": seconds.get("updates_cpu")}
    state = {name: math.nan if value is None else value for name, value in known.items()}
    keeper.meter.load({**state, "peak": (record.get("memory") or {}).get("updates")})


@dataclass(frozen=True)
class ResolvedTest(ResolvedRequest):
    """A test of weights that are there: its settings are those of the run that trained them."""

    record: Mapping[str, Any]  # of that run
    built: tuple[Backbone, Learner]  # with these weights

    @cached_property
    def settings(self) -> dict[str, Setting]:
        """Those of the run, but for the shape and the number of the test episodes."""
        return dict(self.every_setting)

    @property
    def paper_tasks(self) -> int | None:
        """As the record has it."""
        tasks: int | None = self.record["training_tasks"]["paper"]
        return tasks

    def build(self) -> tuple[Backbone, Learner]:
        """The backbone and the learner with the weights."""
        return self.built

    def family_of(self, backbone: Backbone) -> str:
        """As the record has it."""
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
        weights: with their record.
        benchmark: to test on, a key or variant.
        way: N; None for that of the run.
        shot: K; None for that of the run.
        query: Q; None for that of the run on its own benchmark, else for the benchmark's.
        test_episodes: None for as many as the run had.

    Raises:
        UsageError: the learner cannot do it; says why.
    """
    record, target = checked_record(weights), find_benchmark(benchmark)
    check_fit(weights, record, target)
    for flag, value in (("shot", shot), ("query", query), ("test_episodes", test_episodes)):
        if value is not None:
            check_count(flag, value, 1)
    about = weights.about
    backbone = build_backbone(about["settings"]["backbone"], tuple(about["image"]))
    learner = weights.learner(backbone)
    check_tasks(type(learner), record["learner"], target)
    check_version(weights, record, learner)
    own_way = None if target.regression else way or record["way"]
    outputs = check_way(target, way if target.regression else own_way)
    if learner.fixed_way and outputs != about["way"]:
        raise UsageError(
            f"{record['learner']} has one output a way: {weights.name} was trained at "
            f"{about['way']} ways and is tested at {about['way']} alone, not at {outputs}"
        )
    here = record["benchmark"] == target.variant
    settings = {name: Setting(**entry) for name, entry in record["settings"].items()}
    usual = settings["query"].value if here else target.query
    for name, value in (("query", query or usual), ("test_episodes", test_episodes)):
        if value is not None and value != settings[name].value:
            settings[name] = Setting(value, "flag")
    request = RunRequest(
        record["learner"], target.variant, own_way, shot or record["shot"],
        record["terms"], record["budget"], record["seed"],
    )  # fmt: skip
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
    """The weights of a finished run, tested on other episodes; nothing is trained for it.

    The images of the benchmark that they were trained on need not be there. Images are normalised
    by the mean and deviation that the weights were trained with, not by those of the benchmark
    that they are tested on: the network has learned on inputs of that scale, and numbers measured
    on the other benchmark's training images would be a first piece of adaptation. The record says
    with which, as `trained_on`.

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
        """Take the weights, open the test's images.

        Args:
            weights: with their record.
            benchmark: to test on, a key or variant.
            workspace: where to read, write and compute.
            stores: the benchmark's, opened already.
            **shape: of the test: ``way``, ``shot``, ``query``, ``test_episodes`` (`resolve_test`).

        Raises:
            UsageError: the learner or the data cannot do it; says why.
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
        place = workspace or Workspace()
        callbacks = tuple(record.get("callbacks", ()))
        place = replace(place, results=place.results / TESTED_FOLDER, callbacks=callbacks)
        test = (stores or place.open(resolved.benchmark))["test"]
        super().__init__(resolved, place, {"test": test})
        self.staged, self.lowered = record["stages"], record.get("lowered") or []

    def _stages(self) -> list[Staging]:
        """They were trained for the run."""
        return []

    def _check(self) -> None:
        """It was checked when it was resolved."""

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that the run's numbers follow from, and the test episodes."""
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
        """The test episodes, normalised as the weights had it."""
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
        """The weights are there; the record says of their training what their run says."""
        as_trained(keeper, self.trained_record)


def checked_record(weights: NamedWeights) -> Mapping[str, Any]:
    """The record of the run whose weights these are.

    Raises:
        UsageError: there is none, or it is of other weights.
    """
    record = weights.record
    if record is None or "settings" not in record:
        raise UsageError(
            f"{weights.path}: a test needs the record of the run beside the weights, "
            f"{weights.path.with_suffix('.json').name}"
        )
    if not record.get("weights"):
        raise UsageError(f"{weights.path}: the record beside it is of no weights")
    return record


def check_fit(weights: NamedWeights, record: Mapping[str, Any], target: Benchmark) -> None:
    """Refuse a benchmark of other tasks or of other images than the weights were trained on.

    Raises:
        UsageError: says both.
    """
    own = "regression" if record["way"] is None else "classification"
    asked = "regression" if target.regression else "classification"
    if own != asked:
        raise UsageError(f"{weights.name} was trained for {own}, {target.variant} is {asked}")
    check_image(weights.path, weights.about, target)
    if target.regression and weights.about["way"] != target.outputs:
        raise UsageError(
            f"{weights.name} predicts {weights.about['way']} numbers, {target.variant} has "
            f"{target.outputs}"
        )


def check_version(weights: NamedWeights, record: Mapping[str, Any], learner: Any) -> None:
    """Refuse weights of another version of their learner: today's would test them otherwise.

    Raises:
        UsageError: says both versions.
    """
    then, now = record.get("version", 1), version_of(type(learner))
    if then != now:
        raise UsageError(
            f"{weights.name} was trained with version {then} of {record['learner']}, this is "
            f"version {now}: its numbers would be others; train it again"
        )


def name_of_test(identity: Mapping[str, Any]) -> str:
    """The file name of a test of weights: the run's, what it is tested on, a hash of both."""
    way = "" if identity["way"] is None else f"{identity['way']}w"
    text = json.dumps(identity, sort_keys=True).encode()
    end = hashlib.blake2b(text, digest_size=HASH_BYTES).hexdigest()
    where = f"on-{identity['benchmark']}-{way}{identity['shot']}s"
    return slug(f"{identity['weights_of']}-{where}-{end}")
