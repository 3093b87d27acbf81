"""Settings of a run: where each value comes from, and which one wins.

From weak to strong: constructor < settings row < terms < budget < ``--config`` file < flag (a
variant's overrides count as flags). The rows are in baselines/settings.yaml. A benchmark's own
backbone wins over all rows but those that set `backbone` for this benchmark by name.
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

LARGEST_SEED = 2**32 - 1  # the largest that NumPy takes
PRETRAIN = "pretrain"  # name of the pre-training stage; the names of its settings begin with it
SETTINGS_FILE = Path(__file__).parent.parent / "baselines" / "settings.yaml"
SELECTORS = ("learner", "benchmark", "way", "shot", "terms", "budget")


@dataclass(frozen=True)
class Protocol:
    """How a run trains and is tested: every learner has these settings.

    Args:
        backbone: a backbone with options, such as conv4[channels=32].
        train_way: N of the training episodes; null for that of the test.
        train_shot: K of the training episodes; null for that of the test.
        train_query: Q of the training episodes; null for that of the test.
        query: Q of the validation and test episodes; null for the benchmark's.
        meta_batch: T, the number of tasks in one update.
        sampler: plain takes training episodes as they are drawn; adaptive draws four times as many
            and chooses by diversity, entropy and difficulty of their features (Wang et al., IJCV
            2024).
        superclasses: how many superclasses the classes of an update's tasks are from; null for all.
        augment: what is done to each training image: any of crop (a part of it, enlarged), shift,
            jitter (of the colours) and flip; empty for nothing. Characters are not flipped, as that
            would make other characters.
        micro_batch: how many tasks are computed at once; null for what suits the learner and the
            device.
        updates: number of outer-loop updates.
        outer_decay: how the outer learning rate falls over the updates: paper as in the learner's
            own paper, which mostly keeps it; cosine by half a cosine to zero instead.
        gradient_clip_val: the outer gradient is clipped to this, in place of the learner's own
            clipping; 0 for no clipping, null for the learner's own.
        precision: what convolutions multiply in, pre-training included: float32; or bf16, which
            rounds maps and weights for the product alone and is faster where the device has units
            for it (AMX, tensor cores). The run is another one than in float32.
        gradient_clip_algorithm: what gradient_clip_val limits: the norm of the whole gradient, or
            the value of each element.
        validations: how often validation episodes are run during training, at equal distances; it
            is lowered to a number that divides the updates.
        val_episodes: number of episodes in each validation.
        test_episodes: number of test episodes.
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
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str = "norm"
    precision: str = "float32"
    validations: int = 10
    val_episodes: int = 200
    test_episodes: int = 1000


@dataclass(frozen=True)
class Pretraining:
    """Where the backbone's first weights come from; used by runs that ask for a pre-training.

    Args:
        pretrained_from: null for random weights; pretrain for a pre-training on all base classes,
            done once for all runs that ask for the same; or the name of an earlier pre-training
            below runs/.
        pretrain_updates: number of updates of the pre-training.
        pretrain_batch: images in one update.
        pretrain_lr: learning rate of SGD with Nesterov momentum 0.9.
        pretrain_weight_decay: weight decay of the same optimiser.
        pretrain_drops: shares of the updates after which the learning rate becomes a tenth.
        pretrain_augment: what is done to each image: any of crop, shift, jitter and flip; empty
            for nothing.
        pretrain_head: linear or cosine, which classifies the base classes.
        pretrain_validations: how often nearest prototypes are tried on validation episodes.
        pretrain_val_episodes: number of episodes in each validation, 5-way 5-shot.
        pretrain_seed: seed of its weights and batches; runs of all seeds share it.
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
# Settings of every run that are newer than some records, with the values those records had.
SETTINGS_ADDED_LATER: dict[str, Any] = {
    "sampler": "plain",
    "superclasses": None,
    "augment": "",
    "outer_decay": "paper",
    "gradient_clip_val": None,
    "gradient_clip_algorithm": "norm",
    "precision": "float32",
}
_SHARED_FIELDS = [field for group in SHARED_SETTINGS for field in fields(group)]
SHARED_SETTING_NAMES = {field.name for field in _SHARED_FIELDS}
# Settings that count something: at least 1. All other numbers are at least 0 (see `_check`).
POSITIVE_SETTINGS = {
    field.name for field in _SHARED_FIELDS if not isinstance(field.default, float | str)
} - {"updates", "pretrain_seed", "gradient_clip_val"}


class Setting(NamedTuple):
    """The value of a setting, and where it comes from."""

    value: Any
    origin: str  # the layer that gave it, such as "budget" or "flag"
    source: str = ""  # where that layer has it from, such as a table of the paper


def settings_layer(when: Mapping[str, Any]) -> str:
    """Which layer a row belongs to: budget or terms if it selects by them, else settings."""
    if "budget" in when:
        return "budget"
    return "terms" if "terms" in when else "settings"


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
    """The number of training tasks in the paper's experiment; None if no row says so."""
    tasks = None
    for row in rows:
        if "paper_tasks" in row and request.matches(row["when"]):
            tasks = row["paper_tasks"]  # later rows win
    return tasks


def parse_flags(learner: type, flags: Sequence[str]) -> dict[str, Any]:
    """Parse flags such as ``["--inner_lr", "0.1", "--clip=null"]`` into typed values by setting.

    Raises:
        UsageError: a flag is unknown or has no value, or a value has the wrong type.
    """
    types = setting_types(learner)
    words = list(flags)
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
    """Check and convert the values of a config file or a variant.

    Args:
        learner: the class that has the settings.
        given: values by setting.
        where: the file or variant that they are from, for messages.

    Raises:
        UsageError: a setting is unknown, or a value has the wrong type.
    """
    types = setting_types(learner)
    values = {}
    for name, value in given.items():
        if name not in types:
            raise UsageError(f"{where}: no setting {shown(name)}: {hint(str(name), types)}")
        values[name] = _typed(value, types[name], f"{where}: {name} {shown(value)}")
    return values | _parse_other_types(learner, values, where)


def learner_variant(text: str) -> str:
    """A learner's variant in its canonical form: typed values, sorted by name.

    Raises:
        UsageError: there is no such learner or setting, or a value has the wrong type.
    """
    key, cls, overrides = learner_of(text)
    return format_variant(key, parse_values(cls, overrides, text))


def _typed(value: Any, annotation: Any, subject: str) -> Any:
    """Convert a setting's value to its type; `subject` begins the message if that fails."""
    types = plain_types(annotation)
    text_only = str in types and types <= {str, NoneType}
    try:
        if isinstance(value, str) and (value == "null" or not text_only):
            value = parse_value(value)
        return typed_value(value, annotation)
    except ValueError as error:
        raise UsageError(f"{subject}: {error}") from None


def _parse_other_types(learner: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check and convert the values whose type is not plain, such as a Literal or a list."""
    types = setting_types(learner)
    others = {name: value for name, value in values.items() if not plain_types(types[name])}
    if not others:
        return {}
    parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False, usage="")
    for name in others:
        parser.add_argument(f"--{name}", type=types[name])
    try:
        return dict(vars(parser.parse_object(others, defaults=False)))
    except Exception as error:  # jsonargparse raises argparse's errors, TypeError and others
        text = " ".join(str(error).replace("Parser key", "setting").split())
        raise UsageError(f"{where}: {text}" if where else text) from None


def setting_types(learner: type) -> Mapping[str, Any]:
    """The type annotation of every setting of a learner's runs, by name."""
    return dict(_setting_types(learner))


@cache
def _setting_types(learner: type) -> Mapping[str, Any]:
    types: dict[str, Any] = {}
    for cls in (learner, *SHARED_SETTINGS):
        types |= option_types(cls)
    return types


def constructor_defaults(learner: type) -> dict[str, Setting]:
    """Every setting of a learner's runs with its default.

    Its source is the text in brackets at the end of the argument's documentation.
    """
    return dict(_defaults(learner))


@cache
def _defaults(learner: type) -> Mapping[str, Setting]:
    defaults = {}
    texts = documentation(learner)
    for cls in (learner, *SHARED_SETTINGS):
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.default is not inspect.Parameter.empty:
                brackets = re.search(r"\[([^][]*)\]\.?$", texts.get(name, ""))
                source = brackets[1] if brackets else ""
                defaults[name] = Setting(parameter.default, "constructor", source)
    return defaults


def documentation(learner: type) -> dict[str, str]:
    """What each setting means, from the docstrings of the learner and of `SHARED_SETTINGS`."""
    docstrings = [inspect.getdoc(inspect.getattr_static(learner, "__init__"))]
    docstrings += [group.__doc__ for group in SHARED_SETTINGS]
    return {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for docstring in docstrings
        for parameter in parse_docstring(docstring or "").params
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
        request: what is run. Its learner is a key, and its way that of the test or, in regression,
            the number of outputs.
        learner: the learner's class.
        rows: of baselines/settings.yaml.
        query: the benchmark's queries per class.
        backbone: the benchmark's own, used if no row for this benchmark names one.

    Returns:
        Every setting by name; and the values that the config file or flags changed from what they
        would have been, sorted by name.

    Raises:
        UsageError: a value is one that no run can have.
    """
    settings = constructor_defaults(learner)
    rows = [row for row in rows if request.matches(row["when"], learner.host_key)]
    for layer in ("settings", "terms", "budget"):
        for row in rows:
            if settings_layer(row["when"]) == layer:
                for name, value in row["set"].items():
                    if name in settings:  # a row for all learners may set what this one lacks
                        settings[name] = Setting(value, layer, row.get("source", ""))
    rows_of_benchmark = [row["set"] for row in rows if "benchmark" in row["when"]]
    if backbone and not any("backbone" in values for values in rows_of_benchmark):
        settings["backbone"] = Setting(backbone, "benchmark")
    before = _fill(settings, request, query)
    for origin, values in (("config", request.config), ("flag", request.flags)):
        for name, value in values.items():
            settings[name] = Setting(_keep_if_equal(before[name].value, value), origin)
    after = _fill(settings, request, query)
    _check(after, learner.signed_settings)
    changed = {
        name: after[name].value
        for name in sorted({*request.config, *request.flags})
        if after[name].value != before[name].value
    }
    return after, changed


def _keep_if_equal(before: Any, value: Any) -> Any:
    """The value that a setting had before if the given one equals it; else the given one.

    Thus 1 and 1.0, or conv4 and conv4[channels=64], are written the same and make the same run.
    """
    if isinstance(value, str) and isinstance(before, str):
        value = backbone_variant(value)
        return before if value == backbone_variant(before) else value
    return before if same_value(value, before) else value


def _fill(settings: Mapping[str, Setting], request: RunRequest, query: int) -> dict[str, Setting]:
    """Replace each null that stands for a number of the test or the benchmark by that number."""
    filled = dict(settings)
    defaults = {"query": query, "train_way": request.way, "train_shot": request.shot}
    for name, value in defaults.items():
        if filled[name].value is None:
            filled[name] = filled[name]._replace(value=value)
    if filled["train_query"].value is None:
        filled["train_query"] = filled["train_query"]._replace(value=filled["query"].value)
    return filled


def _check(settings: Mapping[str, Setting], signed: Sequence[str]) -> None:
    """Refuse settings of a pre-training that is not asked for, and numbers out of bounds.

    Numbers must be at least 0, also those of the learner's own settings, and at least 1 for
    `POSITIVE_SETTINGS`. The settings that are named in `signed` may be negative.
    """
    if settings["pretrained_from"].value != PRETRAIN:
        for name, setting in settings.items():
            if name.startswith(f"{PRETRAIN}_") and setting.origin in ("config", "flag"):
                raise UsageError(
                    f"--{name} belongs to a pre-training that is not asked for: "
                    f"add --pretrained_from {PRETRAIN}"
                )
    for name, setting in settings.items():
        if name in signed or not isinstance(setting.value, int | float):
            continue
        least = 1 if name in POSITIVE_SETTINGS else 0
        if not setting.value >= least:
            raise UsageError(f"--{name} {setting.value}: expected a number of at least {least}")
    if (seed := settings["pretrain_seed"].value) > LARGEST_SEED:
        raise UsageError(f"--pretrain_seed {seed}: expected a number of at most {LARGEST_SEED}")


def without_unused_settings(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """Leave out the settings of a pre-training that is not asked for."""
    source = settings["pretrained_from"].value
    if source == PRETRAIN:
        return dict(settings)
    # This leaves out `pretrained_from` too.
    used = {name: setting for name, setting in settings.items() if not name.startswith(PRETRAIN)}
    if source is not None:
        used["pretrained_from"] = settings["pretrained_from"]
    return used
