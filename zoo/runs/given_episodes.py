"""Takes the shape of a run's episodes from a benchmark whose episodes other code draws."""

from collections.abc import Mapping
from dataclasses import replace

from zoo.datasets.benchmarks.base import Benchmark
from zoo.errors import UsageError
from zoo.runs.request import RunRequest
from zoo.runs.settings import Setting

FROM_DATA = "data"  # the origin of settings that follow from the data
ONE_SHOT = 1  # the shot of a request that names none


def with_given_shape(request: RunRequest, benchmark: Benchmark) -> RunRequest:
    """The request with the way and shot that the episodes have.

    Raises:
        UsageError: it asks for others.
    """
    if not benchmark.given:
        return request
    way, shot = benchmark.given["way"], benchmark.given["shot"]
    if request.way not in (None, way) and not benchmark.regression:
        raise UsageError(other("way", request.way, way, benchmark))
    if request.shot not in (ONE_SHOT, shot):
        raise UsageError(other("shot", request.shot, shot, benchmark))
    return replace(request, way=request.way if benchmark.regression else way, shot=shot)


def with_given_settings(
    settings: Mapping[str, Setting], benchmark: Benchmark
) -> dict[str, Setting]:
    """The settings with those that the episodes decide.

    Raises:
        UsageError: a flag or the config file asks for another value.
    """
    filled = dict(settings)
    for name, value in benchmark.given.items():
        if name not in filled:  # way and shot are no settings
            continue
        setting = filled[name]
        if setting.origin in ("config", "flag"):
            if setting.value != value:
                raise UsageError(other(name, setting.value, value, benchmark))
        else:
            filled[name] = Setting(value, FROM_DATA, f"the loaders of {benchmark.variant}")
    return filled


def other(name: str, asked: object, has: int, benchmark: Benchmark) -> str:
    """The message for a number that the episodes do not have."""
    return (
        f"--{name} {asked}: the loaders of {benchmark.variant} have {has}; leave it out, or change "
        "the loaders"
    )
