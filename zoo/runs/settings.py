"""Settings of a run: where each value comes from, and which one wins.

From weak to strong: constructor < settings row < terms < budget < ``--config`` file < flag (a
variant's overrides count as flags). The rows are in baselines/settings.yaml.
"""

import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Any, NamedTuple

import jsonargparse
from docstring_parser import parse as parse_docstring

from zoo.errors import UsageError
from zoo.files import read_yaml
from zoo.registry import backbone_variant, learner_of
from zoo.runs.request import RunRequest
from zoo.values import (
    option_types,
    parse_value,
    plain_types,
    same_value,
    shown,
    typed_value,
)
from zoo.variants import format_variant, hint

LARGEST_SEED = 2**32 - 1  # that NumPy takes
PRETRAIN = "pretrain"  # the pre-training stage, and how the names of its settings begin
SETTINGS_FILE = Path(__file__).parent.parent / "baselines" / "settings.yaml"
SELECTORS = ("learner", "benchmark", "way", "shot", "terms", "budget")


@dataclass(frozen=True)
class Protocol:
    """How a run trains and is tested: every learner has these settings.

    Args:
        backbone: a backbone with options, such as conv4[channels=32].
        train_way: N of the training episodes; null for the test way.
        train_shot: K of the training episodes; null for the test shot.
        train_query: Q of the training episodes; null for the test's.
        query: Q of the validation and test episodes; null for the benchmark's.
        meta_batch: T, tasks of one update.
        sampler: plain, training episodes as they are drawn; or adaptive, chosen from four times as
            many by diversity, entropy and difficulty of their features (Wang et al., IJCV 2024).
        superclasses: how many superclasses the classes of an update's tasks are from; null for all.
        augment: of the images of training episodes, support and query, each by itself: any of crop
            (a part of it, enlarged), shift, jitter (of the colours) and flip; nothing for none. Not
            of characters: a flipped one is another.
        micro_batch: tasks computed at once; null for what suits the learner and the device.
        updates: outer-loop updates.
        outer_decay: how the outer learning rate falls over the updates: paper, as the learner's own
            paper has it, most not at all; or, in its place, cosine, by half a cosine to zero.
        validations: how often validation episodes are run, at equal distances; the next smaller
            number that divides the updates.
        val_episodes: episodes of each validation.
        test_episodes: episodes of the test.
    """

    backbone: str = "conv4"
    train_way: int | None = None
    train_shot: int | None = None
    train_query: int | None = None
    query: int | None = None
    meta_batch: int = 4
    sampler: str = "plain"
    superclasses: int | None = None
    augment: str = ""
    micro_batch: int | None = None
    updates: int = 60000
    outer_decay: str = "paper"
    validations: int = 10
    val_episodes: int = 200
    test_episodes: int = 1000


@dataclass(frozen=True)
class Pretraining:
    """Where the backbone's first weights come from: settings of runs that ask for a pre-training.

    Args:
        pretrained_from: null for random weights; pretrain for a pre-training on all base classes,
            done once for all runs that ask for the same; or the name of one that lies below runs/.
        pretrain_updates: of the pre-training.
        pretrain_batch: images of one update.
        pretrain_lr: learning rate, of SGD with Nesterov momentum 0.9.
        pretrain_weight_decay: likewise.
        pretrain_drops: shares of the updates after which the rate becomes a tenth.
        pretrain_augment: any of crop, shift, jitter and flip; nothing for none.
        pretrain_head: linear or cosine, what classifies the base classes.
        pretrain_validations: how often nearest prototypes are tried on validation episodes.
        pretrain_val_episodes: episodes of each validation, 5-way 5-shot.
        pretrain_seed: of its weights and batches; runs of all seeds share it.
    """

    pretrained_from: str | None = None
    pretrain_updates: int = 200000
    pretrain_batch: int = 128
    pretrain_lr: float = 0.01
    pretrain_weight_decay: float = 0.0005
    pretrain_drops: str = "0.5 0.75 0.875 0.95"
    pretrain_augment: str = "crop jitter flip"
    pretrain_head: str = "linear"
    pretrain_validations: int = 20
    pretrain_val_episodes: int = 200
    pretrain_seed: int = 0


SHARED_SETTINGS = (Protocol, Pretraining)
# Settings of every run that are newer than some records: the value that those records had.
SETTINGS_ADDED_LATER: dict[str, Any] = {
    "sampler": "plain",
    "superclasses": None,
    "augment": "",
    "outer_decay": "paper",
}
SHARED_SETTING_NAMES = {f.name for kind in SHARED_SETTINGS for f in fields(kind)}
POSITIVE_SETTINGS = {
    f.name
    for kind in SHARED_SETTINGS
    for f in fields(kind)
    if not isinstance(f.default, float | str)
} - {"updates", "pretrain_seed"}


class Setting(NamedTuple):
    """A value, which layer gave it, and where that layer has it from."""

    value: Any
    origin: str
    source: str = ""


def settings_layer(when: Mapping[str, Any]) -> str:
    """Which layer a row belongs to: the strongest thing that it selects by."""
    return next((name for name in ("budget", "terms") if name in when), "settings")


def load_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a settings file: each {"when": selectors, "set": values, "source": text}.

    Raises:
        UsageError: the file is not such a list, or a row has an unknown selector.
    """
    rows: list[dict[str, Any]] = read_yaml(path, str(path))
    for row in rows:
        for name in row["when"]:
            if name not in SELECTORS:
                raise UsageError(f"{path}: selector {name!r}: {hint(name, SELECTORS)}")
    return rows


@cache
def settings_rows() -> list[dict[str, Any]]:
    """The rows of baselines/settings.yaml, read once."""
    return load_rows(SETTINGS_FILE)


def paper_tasks(request: RunRequest, rows: Iterable[Mapping[str, Any]]) -> int | None:
    """How many training tasks the paper took for this, if it says so."""
    said = [
        row["paper_tasks"] for row in rows if "paper_tasks" in row and request.matches(row["when"])
    ]
    return said[-1] if said else None


def parse_flags(learner: type, flags: Sequence[str]) -> dict[str, Any]:
    """Flags such as ``["--inner_lr", "0.1", "--clip=null"]`` -> the values they set, typed.

    Raises:
        UsageError: an unknown flag, a flag without a value, or a value of the wrong type.
    """
    types, words = setting_types(learner), list(flags)
    values = {}
    while words:
        word = words.pop(0)
        flag, equals, text = word.partition("=")
        name = flag.removeprefix("--")
        if not flag.startswith("--"):
            raise UsageError(f"{shown(word)}: expected a flag, such as --updates 100")
        if name not in types:
            raise UsageError(f"no flag {flag}: {hint(name, types)}")
        if not equals:
            if not words or words[0].startswith("--"):
                raise UsageError(f"{flag}: expected a value after it")
            text = words.pop(0)
        values[name] = _typed(text, types[name], f"{flag} {shown(text)}")
    return values | _parse_other_types(learner, values, "")


def parse_values(learner: type, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values from a config file or a variant, checked and typed.

    Args:
        learner: whose settings they are.
        given: the values by setting.
        where: the file or variant that they are from, for messages.

    Raises:
        UsageError: an unknown setting, or a value of the wrong type.
    """
    types = setting_types(learner)
    values = {}
    for name, value in given.items():
        if name not in types:
            raise UsageError(f"{where}: no setting {shown(name)}: {hint(str(name), types)}")
        values[name] = _typed(value, types[name], f"{where}: {name} {shown(value)}")
    return values | _parse_other_types(learner, values, where)


def learner_variant(text: str) -> str:
    """A learner's variant in its one form: typed values, sorted by name.

    Raises:
        UsageError: there is no such learner or setting, or a value has the wrong type.
    """
    key, cls, overrides = learner_of(text)
    return format_variant(key, parse_values(cls, overrides, text))


def _typed(value: Any, annotation: Any, subject: str) -> Any:
    """A setting's value with its type; `subject` begins the message if it has another one."""
    text_only = str in plain_types(annotation) and plain_types(annotation) <= {str, NoneType}
    try:
        if isinstance(value, str) and (value == "null" or not text_only):
            value = parse_value(value)
        return typed_value(value, annotation)
    except ValueError as error:
        raise UsageError(f"{subject}: {error}") from None


def _parse_other_types(learner: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check those values whose type is not a plain one, such as a Literal or a list of numbers."""
    types = setting_types(learner)
    others = {name: value for name, value in values.items() if not plain_types(types[name])}
    if not others:
        return {}
    parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False, usage="")
    for name in others:
        parser.add_argument(f"--{name}", type=types[name])
    try:
        return dict(vars(parser.parse_object(others, defaults=False)))
    except Exception as error:  # jsonargparse raises argparse's, TypeError, ...
        text = " ".join(str(error).replace("Parser key", "setting").split())
        raise UsageError(f"{where}: {text}" if where else text) from None


def setting_types(learner: type) -> Mapping[str, Any]:
    """The annotation of every setting of a learner and of the protocol, by name."""
    return dict(_setting_types(learner))


@cache
def _setting_types(learner: type) -> Mapping[str, Any]:
    types: dict[str, Any] = {}
    for cls in (learner, *SHARED_SETTINGS):
        types |= option_types(cls)
    return types


def constructor_defaults(learner: type) -> dict[str, Setting]:
    """Every setting of a learner and of the protocol with its default.

    The source is what stands in brackets at the end of the argument's documentation.
    """
    return dict(_defaults(learner))


@cache
def _defaults(learner: type) -> Mapping[str, Setting]:
    defaults, texts = {}, documentation(learner)
    for thing in (learner, *SHARED_SETTINGS):
        for name, parameter in inspect.signature(thing).parameters.items():
            if parameter.default is not inspect.Parameter.empty:
                source = re.search(r"\[([^][]*)\]\.?$", texts.get(name, ""))
                defaults[name] = Setting(
                    parameter.default, "constructor", source[1] if source else ""
                )
    return defaults


def documentation(learner: type) -> dict[str, str]:
    """What each setting is, from the docstrings of the learner and of `SHARED_SETTINGS`."""
    own = inspect.getdoc(inspect.getattr_static(learner, "__init__"))
    return {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for doc in (own, *(kind.__doc__ for kind in SHARED_SETTINGS))
        for parameter in parse_docstring(doc or "").params
    }


def resolve(
    request: RunRequest,
    learner: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    query: int,
    backbone: str = "",
) -> tuple[dict[str, Setting], dict[str, Any]]:
    """The settings of a run, and which of them the user changed.

    Args:
        request: what is run; its learner a key, its way the test's or, in regression, the number
            of outputs.
        learner: its class.
        rows: of baselines/settings.yaml.
        query: the benchmark's queries per class.
        backbone: the benchmark's own, where no row for this benchmark names one.

    Returns:
        Every setting by name; and {name: value} of those that config or flags moved away from
        what they would have been, sorted.

    Raises:
        UsageError: a value that no run can have.
    """
    settings = constructor_defaults(learner)
    rows = [row for row in rows if request.matches(row["when"], learner.host_key)]
    for name in ("settings", "terms", "budget"):
        for row in rows:
            if settings_layer(row["when"]) == name:
                for key, value in row["set"].items():
                    if key in settings:  # a row for all learners may set what this one lacks
                        settings[key] = Setting(value, name, row.get("source", ""))
    rows_here = [row["set"] for row in rows if "benchmark" in row["when"]]
    if backbone and not any("backbone" in values for values in rows_here):
        settings["backbone"] = Setting(backbone, "benchmark")
    before = _fill(settings, request, query)
    for origin, values in (("config", request.config), ("flag", request.flags)):
        settings |= {
            key: Setting(_keep_if_equal(before[key].value, value), origin)
            for key, value in values.items()
        }
    after = _fill(settings, request, query)
    _check(after)
    changed = {
        key: after[key].value
        for key in sorted({**request.config, **request.flags})
        if after[key].value != before[key].value
    }
    return after, changed


def _keep_if_equal(before: Any, value: Any) -> Any:
    """The value that a setting has anyway if the given one equals it; else the given one.

    So 1 and 1.0, or conv4 and conv4[channels=64], are written the same and are the same run.
    """
    if isinstance(value, str) and isinstance(before, str):
        value = backbone_variant(value)
        return before if value == backbone_variant(before) else value
    return before if same_value(value, before) else value


def _fill(settings: Mapping[str, Setting], request: RunRequest, query: int) -> dict[str, Setting]:
    """Put numbers where null stands for the test's."""
    filled = dict(settings)
    defaults = {"query": query, "train_way": request.way, "train_shot": request.shot}
    for name, value in defaults.items():
        if filled[name].value is None:
            filled[name] = filled[name]._replace(value=value)
    if filled["train_query"].value is None:
        filled["train_query"] = filled["train_query"]._replace(value=filled["query"].value)
    return filled


def _check(settings: Mapping[str, Setting]) -> None:
    asked = settings["pretrained_from"].value
    for name, setting in settings.items():
        given = name.startswith(f"{PRETRAIN}_") and setting.origin in ("config", "flag")
        if given and asked != PRETRAIN:
            raise UsageError(
                f"--{name} is of a pre-training that is not asked for: "
                f"add --pretrained_from {PRETRAIN}"
            )
    for name, setting in settings.items():
        least = int(name in POSITIVE_SETTINGS)
        if isinstance(setting.value, int | float) and not setting.value >= least:
            raise UsageError(f"--{name} {setting.value}: expected a number of at least {least}")
    if (seed := settings["pretrain_seed"].value) > LARGEST_SEED:
        raise UsageError(f"--pretrain_seed {seed}: expected a number of at most {LARGEST_SEED}")


def without_unused_settings(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """Without the settings of a pre-training that is not asked for."""
    source = settings["pretrained_from"].value
    return {
        name: setting
        for name, setting in settings.items()
        if not name.startswith(PRETRAIN)
        or source == PRETRAIN
        or (source is not None and name == "pretrained_from")
    }
