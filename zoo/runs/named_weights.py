"""Trained weights found by name: a run in a folder of results, a path, or an address with a hash.

Every command that takes weights, and `zoo.load`, find them here.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from torch import nn

from zoo.datasets.fetching.download import UnavailableError, download
from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.registry import backbone_of, learners
from zoo.reports.records import checksum_state, parse_record
from zoo.runs.identity import later_settings
from zoo.runs.settings import SHARED_SETTING_NAMES, constructor_defaults
from zoo.runs.weights import file_hash, read_about, read_weights

SUFFIX = ".safetensors"
EXPECTED = (
    f"expected a run's name or the beginning of one, the path of a {SUFFIX} file, or its "
    "ADDRESS#HASH"
)
NAMES_SHOWN = 4  # names that a message lists


@dataclass(frozen=True)
class NamedWeights:
    """Weights that were found.

    Args:
        path: of the file.
        record: of the run that tested them, where it lies beside the file; else None.
    """

    path: Path
    record: Mapping[str, Any] | None

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the file says of itself: learner, settings, way, image, mean, std, ..."""
        return read_about(self.path)

    @property
    def name(self) -> str:
        """Of the run that trained them."""
        return str(self.record["run"] if self.record else self.about["run"])

    def learner(self, backbone: nn.Module | None = None) -> Learner:
        """The learner with these weights, in evaluation mode.

        Args:
            backbone: in the place of the one that the settings name.

        Raises:
            UsageError: the file is damaged, not the one that the record knows, or does not fit.
        """
        tensors, about = read_weights(self.path)
        known = (self.record or {}).get("weights")
        if known and file_hash(self.path.read_bytes()) != known["hash"]:
            raise UsageError(
                f"{self.path} is damaged, or not what its run tested: its hash is not that of the "
                "record beside it"
            )
        if about["learner"] not in learners:
            raise UsageError(
                f"{self.path}: of the learner {about['learner']!r}, which is not among those that "
                "are known; name the file that defines it with --plugin FILE"
            )
        cls = learners.get(about["learner"]).as_asked(about["settings"])
        settings = {**later_settings(cls), **about["settings"]}
        names = {*constructor_defaults(cls)} - SHARED_SETTING_NAMES
        net = backbone or backbone_of(settings["backbone"], tuple(about["image"]))
        own = {name: settings[name] for name in names}
        learner: Learner = cls(net, about["way"], **own)
        try:
            learner.load_state_dict(tensors)
        except RuntimeError as error:
            raise UsageError(f"{self.path} does not fit its learner: {error}") from None
        learner.stages_trained = True
        learner.outer_decay = settings["outer_decay"]
        if about["mean"]:  # a regression has none
            learner.normalise_by(about["mean"], about["std"])
        return learner.eval()


def find_weights(name: str | Path, results: str | Path = "results") -> NamedWeights:
    """The weights that a name means.

    Args:
        name: of a run whose record lies in `results`, or the beginning of one such name alone; the
            path of a file; or ``https://...#HASH``, fetched once and kept (see `cache_folder`).
        results: folder of the records.

    Raises:
        UsageError: there are none, the name is that of several, or what was fetched has another
            hash.
    """
    text, folder = str(name), Path(results)
    if "://" in text:
        path = fetched(text)
    elif os.path.isfile(text):  # False of a name too long for a file, too
        path = Path(text)
        if path.suffix != SUFFIX:
            raise UsageError(f"{text}: {EXPECTED}")
    else:
        path = in_results(text, folder)
    return NamedWeights(path, record_beside(path))


def weights_in(results: Path) -> list[NamedWeights]:
    """All weights of a folder, by name.

    Raises:
        UsageError: there is no such folder.
    """
    if not results.is_dir():
        raise UsageError(f"{results}: no such folder of results")
    return [NamedWeights(path, record_beside(path)) for path in sorted(results.glob(f"*{SUFFIX}"))]


def file_by_name(text: str, paths: Sequence[Path]) -> Path | None:
    """The file of this name without its ending, or the only one whose name begins so.

    Raises:
        UsageError: several names begin so.
    """
    named = [path for path in paths if path.stem.startswith(text)]
    exact = [path for path in named if path.stem == text]
    if len(named) > 1 and not exact:
        names = ", ".join(path.stem for path in named[:NAMES_SHOWN])
        more = f" and {len(named) - NAMES_SHOWN} more" if len(named) > NAMES_SHOWN else ""
        raise UsageError(f"{text}: the beginning of {len(named)} names, {names}{more}; say more")
    return next(iter(exact or named), None)


def in_results(text: str, results: Path) -> Path:
    """The weights of the run that a name, or the beginning of one, means."""
    if (path := file_by_name(text, sorted(results.glob(f"*{SUFFIX}")))) is not None:
        return path
    record = read_record(results / f"{text}.json")
    if record and (record.get("weights") or {}).get("command"):
        raise UsageError(
            f"{text}: its record lies in {results}, its weights do not; this trains them again, "
            f"with the record moved away: {record['weights']['command']}"
        )
    raise UsageError(
        f"{text}: no such file, and no run of this name with weights in {results}; {EXPECTED}"
    )


def record_beside(path: Path) -> Mapping[str, Any] | None:
    """The record of the run whose weights these are, if it lies beside them."""
    return read_record(path.with_suffix(".json"))


def read_record(path: Path) -> dict[str, Any] | None:
    """What a record says; None where there is none, or none that can be read."""
    try:
        found = parse_record(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if "run" in found else None


def cache_folder() -> Path:
    """Where fetched weights are kept: ``meta-learning-zoo/weights`` below $XDG_CACHE_HOME.

    Without that variable below ``~/.cache``.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "meta-learning-zoo" / "weights"


def fetched(address: str) -> Path:
    """Weights behind an address, fetched unless they were before; their record too, if it is there.

    The hash stands behind the address, as ``zoo weights`` prints it. A record is kept if it names
    the same hash.

    Raises:
        UsageError: there is no hash, the address gives nothing, or something else.
    """
    url, _, known = address.partition("#")
    if not re.fullmatch("[0-9a-f]{32}", known):
        raise UsageError(
            f"{address}: weights are fetched by address and hash, ADDRESS#HASH, 32 digits as "
            "`zoo weights NAME` prints them; nothing was fetched"
        )
    parts = urlsplit(url)
    file = unquote(parts.path).rpartition("/")[2]
    if not file.endswith(SUFFIX):
        raise UsageError(f"{address}: expected the address of a {SUFFIX} file")
    path = cache_folder() / known / file
    if path.exists() and file_hash(path.read_bytes()) == known:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    record = path.with_suffix(".json")
    beside = parts._replace(path=f"{parts.path.removesuffix(SUFFIX)}.json")
    try:
        download(urlunsplit(beside), record)
    except UnavailableError:
        pass  # weights without a record can be loaded, and the card says so
    else:
        found = read_record(record) or {}
        if (found.get("weights") or {}).get("hash") != known or checksum_state(found) != "holds":
            record.unlink()
    arrived = path.with_suffix(".fetched")
    try:
        download(url, arrived)
    except UnavailableError as error:
        raise UsageError(f"{url}: {error}") from None
    if (hash_found := file_hash(arrived.read_bytes())) != known:
        arrived.unlink()
        raise UsageError(
            f"{url}: its hash is {hash_found}, {known} was asked for; the file was removed"
        )
    arrived.replace(path)
    return path
