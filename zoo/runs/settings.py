"""Settings of a run: where each value comes from, and which one wins.

From weak to strong: constructor < settings row < terms < budget < ``--config`` file < flag (a
variant's overrides count as flags). The rows are in baselines/settings.yaml.
"""

import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jsonargparse
import yaml
from docstring_parser import parse as parse_docstring

from zoo.errors import UsageError
from zoo.registry import hint
from zoo.runs.protocol import POSITIVE_SETTINGS, PRETRAIN, SHARED_SETTINGS

SELECTORS = ("learner", "benchmark", "way", "shot", "terms", "budget")


class Setting(NamedTuple):
    """A value, which layer gave it, and where that layer has it from."""

    value: Any
    origin: str
    source: str = ""


class Job(NamedTuple):
    """What a run is asked to do, before its settings are known."""

    learner: str
    benchmark: str
    way: int
    shot: int
    terms: str
    budget: str

    def matches(self, when: Mapping[str, Any], host: str = "") -> bool:
        """Whether a row's selectors all hold; a selector is a value or a list of values.

        A benchmark with options takes the rows of its key and those of just these options:
        cifarfs[size=84] those of cifarfs too. A plug-in takes its host's rows.
        """
        mine = {name: {value} for name, value in self._asdict().items()}
        mine["benchmark"].add(self.benchmark.partition("[")[0])
        if host:
            mine["learner"] |= {host, f"{self.learner}[host={host}]"}
        return all(
            mine[name] & {*(wanted if isinstance(wanted, list) else [wanted])}
            for name, wanted in when.items()
        )


def settings_layer(when: Mapping[str, Any]) -> str:
    """Which layer a row belongs to: the strongest thing that it selects by."""
    return next((name for name in ("budget", "terms") if name in when), "settings")


def load_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a settings file: each {"when": selectors, "set": values, "source": text}.

    Raises:
        UsageError: the file is not such a list, or a row has an unknown selector.
    """
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    for row in rows:
        for name in row["when"]:
            if name not in SELECTORS:
                raise UsageError(f"{path}: selector {name!r}: {hint(name, SELECTORS)}")
    return rows


def paper_tasks(job: Job, rows: Iterable[Mapping[str, Any]]) -> int | None:
    """How many training tasks the paper took for this, if it says so."""
    said = [row["paper_tasks"] for row in rows if "paper_tasks" in row and job.matches(row["when"])]
    return said[-1] if said else None


def parser_for(learner: type) -> jsonargparse.ArgumentParser:
    """A parser whose flags are the settings of a learner and of the protocol."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False, add_help=False, usage="")
    given = set(list(inspect.signature(learner).parameters)[:2])  # the network and the way
    parser.add_class_arguments(learner, None, skip=given, as_group=True)
    for kind in SHARED_SETTINGS:
        parser.add_class_arguments(kind, None, as_group=True)
    return parser


def parse_flags(learner: type, flags: list[str]) -> dict[str, Any]:
    """Flags such as ``["--inner_lr", "0.1"]`` -> the values they set, typed.

    Raises:
        UsageError: an unknown flag, or a value of the wrong type.
    """
    names = [*constructor_defaults(learner)]
    for flag in flags:
        name = flag.partition("=")[0]
        if name.startswith("--") and name[2:] not in names:
            raise UsageError(f"no flag {name}: {hint(name[2:], names)}")
    return _parse(lambda parser: parser.parse_args(flags, defaults=False), learner)


def parse_values(learner: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values from a config file or a variant, checked and typed.

    Raises:
        UsageError: an unknown setting, or a value of the wrong type.
    """
    names = [*constructor_defaults(learner)]
    for name in values:
        if name not in names:
            raise UsageError(f"{where}: no setting {name!r}: {hint(str(name), names)}")
    return _parse(lambda parser: parser.parse_object(dict(values), defaults=False), learner, where)


def _parse(parse: Any, learner: type, where: str = "") -> dict[str, Any]:
    try:
        return dict(vars(parse(parser_for(learner))))
    except Exception as error:  # jsonargparse raises argparse's, TypeError, ...
        text = " ".join(str(error).replace("Parser key", "setting").split())
        raise UsageError(f"{where}: {text}" if where else text) from None


def constructor_defaults(learner: type) -> dict[str, Setting]:
    """Every setting of a learner and of the protocol with its default.

    The source is what stands in brackets at the end of the argument's documentation.
    """
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
    """What each setting is, from the docstrings of the learner's constructor and of `SHARED_SETTINGS`."""
    own = inspect.getdoc(inspect.getattr_static(learner, "__init__"))
    return {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for doc in (own, *(kind.__doc__ for kind in SHARED_SETTINGS))
        for parameter in parse_docstring(doc or "").params
    }


def resolve(
    job: Job,
    learner: Any,
    rows: Iterable[Mapping[str, Any]],
    *,
    query: int,
    backbone: str = "",
    config: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Setting], dict[str, Any]]:
    """The settings of a run, and which of them the user changed.

    Args:
        job: what is run.
        learner: its class.
        rows: of baselines/settings.yaml.
        query: the benchmark's queries per class.
        backbone: the benchmark's own, where no row for this benchmark names one.
        config: values of a ``--config`` file.
        flags: values of flags and of the variant's brackets.

    Returns:
        Every setting by name; and {name: value} of those that config or flags moved away from
        what they would have been, sorted.

    Raises:
        UsageError: a value that no run can have.
    """
    settings = constructor_defaults(learner)
    rows = [row for row in rows if job.matches(row["when"], learner.host_key)]
    for name in ("settings", "terms", "budget"):
        for row in rows:
            if settings_layer(row["when"]) == name:
                for key, value in row["set"].items():
                    if key in settings:  # a row for all learners may set what this one lacks
                        settings[key] = Setting(value, name, row.get("source", ""))
    rows_here = [row["set"] for row in rows if "benchmark" in row["when"]]
    if backbone and not any("backbone" in values for values in rows_here):
        settings["backbone"] = Setting(backbone, "benchmark")
    before = _fill(settings, job, query)
    for origin, values in (("config", config or {}), ("flag", flags or {})):
        settings.update({key: Setting(value, origin) for key, value in values.items()})
    after = _fill(settings, job, query)
    _check(after)
    changed = {
        key: after[key].value
        for key in sorted({**(config or {}), **(flags or {})})
        if after[key].value != before[key].value
    }
    return after, changed


def _fill(settings: Mapping[str, Setting], job: Job, query: int) -> dict[str, Setting]:
    """Put numbers where null stands for the test's."""
    filled = dict(settings)
    defaults = {"query": query, "train_way": job.way, "train_shot": job.shot}
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
