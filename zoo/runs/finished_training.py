"""What a finished training leaves in its folder, and longer runs that go on from it."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from zoo.checkpoint_files import read_checkpoint
from zoo.errors import UsageError
from zoo.files import DamagedError, alone_in, read_json, write_bytes, write_json
from zoo.runs.checkpoints import CheckpointKeeper

NOTE = "training.json"
OLDER = "trajectory"  # what earlier code wrote at the end: the trajectory and the updates


class FinishedTraining(NamedTuple):
    """That the training in a folder came to its end, and what it left there."""

    trajectory: str  # see `Run.trajectory`
    updates: int
    best: str  # the checksum of its best.ckpt; "" of earlier code


def note_begun(folder: Path) -> None:
    """Note that the training in a folder is under way."""
    (folder / OLDER).unlink(missing_ok=True)
    write_json(folder / NOTE, {"finished": None})


def note_finished(folder: Path, training: FinishedTraining) -> None:
    """Note that the training in a folder came to its end."""
    write_json(folder / NOTE, {"finished": training._asdict()})


def read_finished(folder: Path) -> FinishedTraining | None:
    """What is noted of a training that came to its end; None of one that is under way.

    Raises:
        FileNotFoundError: nothing is noted.
        DamagedError: the note cannot be read.
    """
    path = folder / NOTE
    try:
        if path.exists():
            kept = read_json(path)["finished"]
            noted = None if kept is None else FinishedTraining(**kept)
        else:
            path = folder / OLDER
            trajectory, updates = path.read_text(encoding="utf-8").split()
            noted = FinishedTraining(trajectory, int(updates), "")
        if noted is None or [*map(type, noted)] == [str, int, str]:
            return noted
    except (ValueError, TypeError, KeyError):
        pass
    raise DamagedError(f"{path} is not what was written; delete it")


class FinishedWeights(NamedTuple):
    """The best weights of a training that came to its end."""

    weights: Mapping[str, Tensor]
    checked: bool  # whether they are known to be those; of earlier code they are not


def finished_weights(folder: Path) -> FinishedWeights | None:
    """What best.ckpt holds, if the training in this folder came to its end; else None.

    Earlier code did not note the end: in a folder of that time no last.ckpt is left then.

    Raises:
        DamagedError: best.ckpt or the note cannot be read.
    """
    try:
        weights, checksum = read_checkpoint(folder / "best.ckpt", weights_only=True)
    except FileNotFoundError:
        return None
    try:
        noted = read_finished(folder)
    except FileNotFoundError:
        noted = FinishedTraining("", 0, "")
    if noted is None:
        return None
    if noted.best:
        return FinishedWeights(weights, True) if noted.best == checksum else None
    under_way = (folder / "last.ckpt").exists()
    return None if under_way else FinishedWeights(weights, False)


def copy_shorter(runs: Path, keeper: CheckpointKeeper, learner: nn.Module, updates: int) -> bool:
    """Copy the end of the longest training that this one can go on from into its folder.

    One that is in use, damaged or of other code is passed over, with a line on stderr.

    Args:
        runs: folder of the folders of runs.
        keeper: of the training that is to go on; its folder gets best.ckpt and last.ckpt.
        learner: that is trained.
        updates: of the whole training.

    Returns:
        Whether there was one.
    """
    for place in _shorter(runs, keeper.trajectory, updates):
        try:
            with alone_in(place):
                _copy(place, keeper, learner, updates)
                return True
        except FileNotFoundError:
            continue
        except (UsageError, OSError) as error:
            print(f"  not gone on from {place.name}: {error}", file=sys.stderr)
    return False


def _shorter(runs: Path, trajectory: str, updates: int) -> Iterator[Path]:
    """The folders of trainings that were shorter and else alike, the longest first."""
    found = []
    for place in {path.parent for name in (NOTE, OLDER) for path in runs.glob(f"*/{name}")}:
        try:
            noted = read_finished(place)
        except (UsageError, OSError) as error:
            print(f"  passed over: {error}", file=sys.stderr)
            continue
        if noted and noted.trajectory == trajectory and noted.updates < updates:
            found.append((noted.updates, place))
    yield from (place for _, place in sorted(found, reverse=True))


def _copy(place: Path, keeper: CheckpointKeeper, learner: nn.Module, updates: int) -> None:
    """Copy end.ckpt as last.ckpt, and best.ckpt before it, if they belong together.

    Raises:
        FileNotFoundError: one is not there.
        UsageError: they cannot be gone on from.
    """
    end, best = place / "end.ckpt", place / "best.ckpt"
    state = keeper.read(end, learner, updates).content["callbacks"][CheckpointKeeper.__qualname__]
    known, found = state.get("best_checksum"), read_checkpoint(best, weights_only=True).checksum
    # Of earlier code: a run that was begun anew in this folder has left last.ckpt or a newer best.
    newer = best.stat().st_mtime_ns > end.stat().st_mtime_ns or (place / "last.ckpt").exists()
    if found != known or (known is None and newer):
        raise DamagedError(f"{best} is of another training than end.ckpt beside it")
    write_bytes(keeper.folder / "best.ckpt", best.read_bytes())
    write_bytes(keeper.folder / "last.ckpt", end.read_bytes())
