"""The commands of learners: check, new-learner and the table of list."""

import argparse
import inspect
import re
import shlex
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import STEP_OUTPUT
from tabulate import tabulate
from torch import Tensor

from zoo.commands.new_learner import write_skeleton
from zoo.conformance import CHECKS, BrokenError, Check, DoesNotApplyError, Maker, makers
from zoo.conformance.harness import BACKBONE
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.files import write_text
from zoo.learner import Learner
from zoo.networks.backbone import build_backbone
from zoo.registry import format_variant, learner_of, learners
from zoo.runs.plan import SETTINGS, Place, build_learner
from zoo.runs.protocol import SHARED_SETTING_NAMES
from zoo.runs.run import Run
from zoo.runs.settings import Job, load_rows, parse_values, resolve

ROOT = Path(__file__).parent.parent
TABLE_MARKS = ("<!-- learners: make readme -->", "<!-- end of learners -->")
SHORT_RUN = {
    "updates": 4, "validations": 2, "val_episodes": 4, "test_episodes": 4, "meta_batch": 2,
    "query": 3, "train_query": 3,
}  # fmt: skip
VERDICTS = {"holds": "holds", "fails": "FAILS", "n/a": "n/a  "}


def check_command(options: argparse.Namespace) -> int:
    """``zoo check``: hold learners to the battery; returns 1 if one breaks it, else 0."""
    names = learners.names() if options.learners == ["all"] else options.learners
    broken = [name for name in names if not conforms(name)]
    if len(names) > 1:
        print(
            f"{len(names)} learners, " + (f"broken: {', '.join(broken)}" if broken else "all hold")
        )
    return int(bool(broken))


def conforms(name: str) -> bool:
    """Whether a learner keeps the contract; prints every check.

    Raises:
        UsageError: there is no such learner, or it cannot be built like this.
    """
    key, cls, overrides = learner_of(name)
    own = parse_values(cls, overrides, name)
    if given := own.keys() & SHARED_SETTING_NAMES:
        raise UsageError(f"{name}: {', '.join(sorted(given))} is of runs; a check sets its own")
    Maker(key, own).usable()
    configurations = list(makers(key, own))
    print(f"{name}, as {', '.join(map(str, configurations))}:", flush=True)
    counts: Counter[str] = Counter()
    for part in BATTERY:
        found = {str(make): part.verdict(make) for make in configurations}
        verdicts = [verdict for verdict, _ in found.values()]
        overall = next(word for word in ("fails", "holds", "n/a") if word in verdicts)
        counts[overall] += 1
        reason = f" ({next(iter(found.values()))[1]})" if overall == "n/a" else ""
        print(f"  {VERDICTS[overall]} {part.title}{reason}", flush=True)
        for make, (verdict, why) in found.items():
            if verdict == "fails":
                print(f"        {make}: {why}", flush=True)
    said = f"{counts['holds']} hold, {counts['fails']} fail, {counts['n/a']} do not apply"
    print(f"{name}: {said}")
    return not counts["fails"]


# --- resuming: the check that needs runs


class KilledError(Exception):
    """Stands for kill -9: what is on disk stays, nothing else does."""


class Watch(pl.Callback):
    """Dies after an update; or keeps the weights that training ends with."""

    def __init__(self, dies_after: int | None) -> None:
        self.dies_after = dies_after
        self.weights: dict[str, Tensor] = {}

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Die, if it is time; called behind the Keeper."""
        if trainer.global_step == self.dies_after:
            raise KilledError

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights."""
        self.weights = {name: value.clone() for name, value in pl_module.state_dict().items()}


class WatchedRun(Run):
    """A run that can die."""

    watch: Watch

    def _trainer(self, progress: bool, **options: Any) -> pl.Trainer:
        options["callbacks"] = [*options["callbacks"], self.watch]
        return super()._trainer(progress, **options)


def short_run(make: Maker, folder: Path, stores: Any, dies_after: int | None = None) -> WatchedRun:
    """A run of a few updates, validated after every other."""
    place = Place(None, folder / "results", folder / "runs", "cpu", torch.get_num_threads())
    flags, benchmark, shot = dict[str, Any](SHORT_RUN), "sinusoid", 5
    if not make.regression:
        flags |= {"backbone": BACKBONE, "train_way": 5}
        benchmark, shot = "glyphs", 1
    run = WatchedRun(
        format_variant(make.key, dict(make.options)), benchmark, shot=shot, budget="smoke",
        flags=flags, place=place, stores=stores,
    )  # fmt: skip
    run.watch = Watch(dies_after)
    return run


def resumes(make: Maker) -> None:
    """Killed after update 3, it goes on from the checkpoint of update 2."""
    if not any(p.requires_grad for p in make().parameters()):
        raise DoesNotApplyError("it has no learnable parameter")
    with TemporaryDirectory() as name:
        whole, folder = short_run(make, Path(name) / "whole", None), Path(name) / "killed"
        expected = whole.execute(progress=False)
        try:
            short_run(make, folder, whole.stores, dies_after=3).execute(progress=False)
        except KilledError:
            pass
        else:
            raise BrokenError("training did not come to update 3")
        again = short_run(make, folder, whole.stores)
        got = again.execute(progress=False)
    for name, value in whole.watch.weights.items():
        if not torch.equal(again.watch.weights[name], value):
            raise BrokenError(f"{name} differs from an undisturbed run's")
    for what in ("status", "validation", "metrics"):
        if got[what] != expected[what]:
            raise BrokenError(f"{what} differs: {got[what]} instead of {expected[what]}")


BATTERY = [*CHECKS, Check("killed and resumed, it ends with the same weights and numbers", resumes)]


# --- new-learner


def new_learner_command(options: argparse.Namespace) -> int:
    """``zoo new-learner``: write a file that runs, and say what comes next."""
    path: Path = options.to or ROOT / "baselines" / f"{options.name}.py"
    write_skeleton(options.name, path)
    plugin = f" --plugin {shlex.quote(str(path))}" if options.to else ""
    print(f"{path} is a learner that runs: fill in what it marks with 'fill in'. Then")
    print(f"  python -m zoo check {options.name}{plugin}")
    print(f"  python -m zoo run {options.name} glyphs{plugin}")
    return 0


# --- list --table


def list_table_command(options: argparse.Namespace) -> int:
    """``zoo list --table``: print the learners as Markdown, or put them into a file."""
    if options.kind != "learners":
        raise UsageError(f"list {options.kind}: only learners come as a table")
    text = learner_table()
    if options.into is None:
        print(text)
        return 0
    try:
        page = options.into.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--into {options.into}: {error.strerror}") from None
    start, end = TABLE_MARKS
    if page.count(start) != 1 or end not in page.partition(start)[2]:
        raise UsageError(f"--into {options.into}: expected the lines {start} and {end}")
    head, _, rest = page.partition(start)
    write_text(options.into, f"{head}{start}\n{text}\n{end}{rest.partition(end)[2]}")
    return 0


def learner_table() -> str:
    """Every learner of the register: what it is, promises and weighs, and where it is from."""
    heads = ["learner", "family", "traits", "parameters", "source", "lines"]
    rows = [learner_row(key) for key in learners.names()]
    align = ["left", "left", "left", "right", "left", "right"]
    return tabulate(rows, heads, tablefmt="github", disable_numparse=True, colalign=align)


def learner_row(key: str) -> list[str]:
    """A learner's row; traits and parameters are of its mini-ImageNet configuration."""
    cls = learners.get(key)
    path = Path(inspect.getfile(cls))
    lines = len(path.read_text(encoding="utf-8").splitlines())
    place = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.as_posix()
    traits, parameters = "–", "–"
    if (learner := for_miniimagenet(key)) is not None:
        said = [name.replace("_", " ") for name, holds in learner.traits().items() if holds]
        traits = ", ".join(said) or "–"
        parameters = f"{learner.size():,}"
    source = learners.entries[key].source
    if cited := re.fullmatch(r".*\((.+)\)\. (https://\S+)", source):
        source = f"[{cited[1]}]({cited[2]})"
    name = f"{cls.title} `{key}`"
    return [name, cls.family or "–", traits, parameters, source, f"[{lines}]({place})"]


def for_miniimagenet(key: str) -> Learner | None:
    """The learner as it runs on mini-ImageNet, 5-way 1-shot; None if it does not."""
    benchmark, cls = find_benchmark("miniimagenet"), learners.get(key)
    job = Job(key, benchmark.key, 5, 1, "paper", "paper")
    settings, _ = resolve(job, cls, load_rows(SETTINGS), query=benchmark.query)
    try:
        backbone = build_backbone(settings["backbone"].value, benchmark.image)
        return build_learner(cls, settings, backbone, job.way)
    except UsageError:
        return None
