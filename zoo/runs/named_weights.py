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
    """A file of weights, and the record of the run that made them.

    Args:
        path: of the file.
        record: None if it does not lie beside the file.
    """

    path: Path
    record: Mapping[str, Any] | None

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the file says of itself: learner, settings, way, image, mean, std, ..."""
        return read_about(self.path)

    @property
    def name(self) -> str:
        """The name of the run that trained them."""
        return str(self.record["run"] if self.record else self.about["run"])

    def learner(self, backbone: nn.Module | None = None) -> Learner:
        """The learner with these weights, in evaluation mode.

        Args:
            backbone: takes the place of the one that the settings name.

        Raises:
            UsageError: the file is damaged, is not the one that its record names, or does not fit
                the learner.
        """
        tensors, about = read_weights(self.path)
        recorded = (self.record or {}).get("weights")
        if recorded and file_hash(self.path.read_bytes()) != recorded["hash"]:
            raise UsageError(
                f"{self.path} is damaged, or not what its run tested: its hash is not that of the "
                "record beside it"
            )
        if about["learner"] not in learners:
            raise UsageError(
                f"{self.path}: its learner {about['learner']!r} is not known here; name the file "
                "that defines it with --plugin FILE"
            )
        cls = learners.get(about["learner"]).class_for(about["settings"])
        settings = {**later_settings(cls), **about["settings"]}
        names = {*constructor_defaults(cls)} - SHARED_SETTING_NAMES
        net = backbone or backbone_of(settings["backbone"], tuple(about["image"]))
        options = {name: settings[name] for name in names}
        learner: Learner = cls(net, about["way"], **options)
        try:
            learner.load_state_dict(tensors)
        except RuntimeError as error:
            raise UsageError(f"{self.path} does not fit its learner: {error}") from None
        learner.stages_trained = True
        learner.outer_decay = settings["outer_decay"]
        if settings["gradient_clip_val"] is not None:
            learner.clip_by(settings["gradient_clip_val"], settings["gradient_clip_algorithm"])
        if about["mean"]:  # a regression has none
            learner.normalise_by(about["mean"], about["std"])
        return learner.eval()


def find_weights(name: str | Path, results: str | Path = "results") -> NamedWeights:
    """Find weights by a name, a path or an address.

    Args:
        name: the name of a run whose weights lie in `results`, or the beginning of one if no other
            name begins so; the path of a file; or ``https://...#HASH``, which is fetched once and
            kept (see `cache_folder`).
        results: the folder of the records.

    Raises:
        UsageError: there are none, several names begin so, or the fetched file has another hash.
    """
    text, folder = str(name), Path(results)
    if "://" in text:
        path = fetched(text)
    elif os.path.isfile(text):  # unlike Path.is_file, also False for a name that is too long
        path = Path(text)
        if path.suffix != SUFFIX:
            raise UsageError(f"{text}: {EXPECTED}")
    else:
        path = in_results(text, folder)
    return NamedWeights(path, record_beside(path))


def weights_in(results: Path) -> list[NamedWeights]:
    """All weights in a folder, sorted by name.

    Raises:
        UsageError: there is no such folder.
    """
    if not results.is_dir():
        raise UsageError(f"{results}: no such folder of results")
    return [NamedWeights(path, record_beside(path)) for path in sorted(results.glob(f"*{SUFFIX}"))]


def file_by_name(text: str, paths: Sequence[Path]) -> Path | None:
    """The file of this name, or the only one whose name begins so; None if there is none.

    Args:
        text: the name without its ending, or the beginning of it.
        paths: of the files.

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
    """The path of a run's weights, by the run's name or the beginning of it."""
    if (path := file_by_name(text, sorted(results.glob(f"*{SUFFIX}")))) is not None:
        return path
    record = read_record(results / f"{text}.json")
    if record and (record.get("weights") or {}).get("command"):
        raise UsageError(
            f"{text}: its record lies in {results}, but its weights do not; to train them again, "
            f"move the record away and call: {record['weights']['command']}"
        )
    raise UsageError(
        f"{text}: no such file, and no run of this name with weights in {results}; {EXPECTED}"
    )


def record_beside(path: Path) -> Mapping[str, Any] | None:
    """The record that lies beside weights, if there is one."""
    return read_record(path.with_suffix(".json"))


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a record; None if there is none, or if it cannot be read."""
    try:
        record = parse_record(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if "run" in record else None


def cache_folder() -> Path:
    """Where fetched weights are kept: ``meta-learning-zoo/weights`` below $XDG_CACHE_HOME.

    If that variable is not set, it is below ``~/.cache``.
    """
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "meta-learning-zoo" / "weights"


def fetched(address: str) -> Path:
    """Fetch weights from an address, unless they were fetched before; returns their path.

    The record beside them is fetched too, and kept if it names the same hash.

    Args:
        address: ``https://...#HASH``, with the hash that ``zoo weights`` prints.

    Raises:
        UsageError: there is no hash, or the address gives no file or one of another hash.
    """
    url, _, asked_hash = address.partition("#")
    if not re.fullmatch("[0-9a-f]{32}", asked_hash):
        raise UsageError(
            f"{address}: weights are fetched by address and hash, ADDRESS#HASH, 32 digits as "
            "`zoo weights NAME` prints them; nothing was fetched"
        )
    parts = urlsplit(url)
    file = unquote(parts.path).rpartition("/")[2]
    if not file.endswith(SUFFIX):
        raise UsageError(f"{address}: expected the address of a {SUFFIX} file")
    path = cache_folder() / asked_hash / file
    if path.exists() and file_hash(path.read_bytes()) == asked_hash:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    record_path = path.with_suffix(".json")
    record_url = urlunsplit(parts._replace(path=f"{parts.path.removesuffix(SUFFIX)}.json"))
    try:
        download(record_url, record_path)
    except UnavailableError:
        pass  # weights without a record can be loaded too; `zoo weights` says what is not known
    else:
        record = read_record(record_path) or {}
        recorded_hash = (record.get("weights") or {}).get("hash")
        if recorded_hash != asked_hash or checksum_state(record) != "holds":
            record_path.unlink()
    fetched_path = path.with_suffix(".fetched")
    try:
        download(url, fetched_path)
    except UnavailableError as error:
        raise UsageError(f"{url}: {error}") from None
    if (fetched_hash := file_hash(fetched_path.read_bytes())) != asked_hash:
        fetched_path.unlink()
        raise UsageError(
            f"{url}: its hash is {fetched_hash}, {asked_hash} was asked for; the file was removed"
        )
    fetched_path.replace(path)
    return path
