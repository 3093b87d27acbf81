"""What a finished training leaves in its folder, so that a longer run can go on from it."""

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
OLDER = "trajectory"  # earlier code's file with the trajectory and the updates, instead of NOTE


class FinishedTraining(NamedTuple):
    """What is noted of a training that came to its end."""

    trajectory: str  # see `Run.trajectory`
    updates: int
    best: str  # the checksum of its best.ckpt; "" if earlier code made it


def note_begun(folder: Path) -> None:
    """Note that the training in a folder is under way."""
    (folder / OLDER).unlink(missing_ok=True)
    write_json(folder / NOTE, {"finished": None})


def note_finished(folder: Path, training: FinishedTraining) -> None:
    """Note that the training in a folder came to its end."""
    write_json(folder / NOTE, {"finished": training._asdict()})


def read_finished(folder: Path) -> FinishedTraining | None:
    """What is noted of the training in a folder; None if it is under way.

    Raises:
        FileNotFoundError: nothing is noted.
        DamagedError: the note cannot be read.
    """
    path = folder / NOTE
    try:
        if path.exists():
            content = read_json(path)["finished"]
            training = None if content is None else FinishedTraining(**content)
        else:
            path = folder / OLDER
            trajectory, updates = path.read_text(encoding="utf-8").split()
            training = FinishedTraining(trajectory, int(updates), "")
        if training is None or [type(value) for value in training] == [str, int, str]:
            return training
    except (ValueError, TypeError, KeyError):
        pass
    raise DamagedError(f"{path} is not what was written; delete it")


class FinishedWeights(NamedTuple):
    """The best weights of a training that came to its end."""

    weights: Mapping[str, Tensor]
    checked: bool  # whether a checksum shows that they are; earlier code noted none


def finished_weights(folder: Path) -> FinishedWeights | None:
    """The content of best.ckpt if the training in this folder came to its end; else None.

    Earlier code did not note the end; in its folders, a training has ended if last.ckpt is gone.

    Raises:
        DamagedError: best.ckpt or the note cannot be read.
    """
    try:
        weights, checksum = read_checkpoint(folder / "best.ckpt", weights_only=True)
    except FileNotFoundError:
        return None
    try:
        training = read_finished(folder)
    except FileNotFoundError:
        training = FinishedTraining("", 0, "")
    if training is None:
        return None
    if training.best:
        return FinishedWeights(weights, True) if training.best == checksum else None
    under_way = (folder / "last.ckpt").exists()
    return None if under_way else FinishedWeights(weights, False)


def copy_shorter(runs: Path, keeper: CheckpointKeeper, learner: nn.Module, updates: int) -> bool:
    """Copy the end of the longest training that this one can go on from into its folder.

    A training that is in use, damaged or made by other code is passed over, with a line on stderr.

    Args:
        runs: the folder that has a folder for each run.
        keeper: of the training that is to go on; its folder gets best.ckpt and last.ckpt.
        learner: what is trained.
        updates: of the whole training.

    Returns:
        Whether there was such a training.
    """
    for folder in _shorter(runs, keeper.trajectory, updates):
        try:
            with alone_in(folder):
                _copy(folder, keeper, learner, updates)
                return True
        except FileNotFoundError:
            continue
        except (UsageError, OSError) as error:
            print(f"  not gone on from {folder.name}: {error}", file=sys.stderr)
    return False


def _shorter(runs: Path, trajectory: str, updates: int) -> Iterator[Path]:
    """The folders of trainings that were shorter and otherwise the same, the longest first."""
    shorter = []
    for folder in {path.parent for name in (NOTE, OLDER) for path in runs.glob(f"*/{name}")}:
        try:
            training = read_finished(folder)
        except (UsageError, OSError) as error:
            print(f"  passed over: {error}", file=sys.stderr)
            continue
        if training and training.trajectory == trajectory and training.updates < updates:
            shorter.append((training.updates, folder))
    yield from (folder for _, folder in sorted(shorter, reverse=True))


def _copy(folder: Path, keeper: CheckpointKeeper, learner: nn.Module, updates: int) -> None:
    """Copy best.ckpt, and then end.ckpt as last.ckpt, if they belong together.

    Raises:
        FileNotFoundError: one of them is missing.
        UsageError: this training cannot go on from them.
    """
    end, best = folder / "end.ckpt", folder / "best.ckpt"
    state = keeper.read(end, learner, updates).content["callbacks"][CheckpointKeeper.__qualname__]
    expected = state.get("best_checksum")
    actual = read_checkpoint(best, weights_only=True).checksum
    # Earlier code wrote no checksums. There, a run that began anew in this folder has left a
    # last.ckpt or a newer best.ckpt.
    began_anew = best.stat().st_mtime_ns > end.stat().st_mtime_ns or (folder / "last.ckpt").exists()
    if actual != expected or (expected is None and began_anew):
        raise DamagedError(f"{best} is of another training than end.ckpt beside it")
    write_bytes(keeper.folder / "best.ckpt", best.read_bytes())
    write_bytes(keeper.folder / "last.ckpt", end.read_bytes())
