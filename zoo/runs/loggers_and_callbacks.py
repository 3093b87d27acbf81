"""Lightning's loggers and callbacks that a user wants a run to have."""

import csv
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import CSVLogger, Logger
from torch import Tensor

from zoo.errors import UsageError
from zoo.files import make_again
from zoo.variants import parse_variant

LOGGERS = ("csv", "tensorboard", "wandb")


def check_logger(kind: str) -> None:
    """Refuse a logger that cannot be used.

    Raises:
        UsageError: its name is unknown, or its package is not installed.
    """
    if kind not in LOGGERS:
        raise UsageError(f"--logger {kind}: choose from {', '.join(LOGGERS)}")
    if kind != "csv":
        try:
            import_module(kind)
        except ImportError:
            raise UsageError(
                f"--logger {kind}: {kind} is not installed: pip install {kind}"
            ) from None


def logger_of(kind: str, folder: Path, name: str, updates: int) -> Logger:
    """The logger of a run; a run that goes on from a checkpoint goes on with the same curve.

    Args:
        kind: one of `LOGGERS`.
        folder: of the run; logs lie in its folder ``log``.
        name: of the run.
        updates: how many the checkpoint has; what was logged after them is dropped.
    """
    if kind == "tensorboard":
        return pl.loggers.TensorBoardLogger(folder, "log", "", purge_step=updates)
    if kind == "wandb":
        return pl.loggers.WandbLogger(name, folder, id=name[-64:], resume="allow")
    earlier = [*logged_rows(folder / "log" / "metrics.csv", updates)]
    logger = CsvLog(folder, "log", "")
    for step, values in earlier:
        logger.log_metrics(values, step)
    return logger


class CsvLog(CSVLogger):
    """Lightning's CSV logger, except that its folder may be removed during the training."""

    def save(self) -> None:
        """Write what was logged, into a new folder if need be."""
        make_again(Path(self.save_dir))
        Path(self.log_dir).mkdir(parents=True, exist_ok=True)
        super().save()


def logged_rows(path: Path, updates: int) -> Iterator[tuple[int, dict[str, Tensor | float]]]:
    """What was logged in the first updates: the step of each row, and its values by name.

    If a row cannot be read, as may happen after a kill, it and all later ones are dropped with a
    line on stderr.
    """
    if not path.exists():
        return
    with open(path, newline="", encoding="utf-8") as file:
        try:
            for row in csv.DictReader(file):
                step = int(float(row.pop("step") or 0))
                if step < updates:
                    yield (
                        step,
                        {
                            name: int(value) if name == "epoch" else float(value)
                            for name, value in row.items()
                            if value
                        },
                    )
        except (ValueError, TypeError, KeyError, OverflowError, csv.Error):
            print(f"  {path}: damaged; the log goes on without its end", file=sys.stderr)


def callback_of(text: str) -> pl.Callback:
    """Make a callback from its import path with options.

    Args:
        text: such as ``pytorch_lightning.callbacks.EarlyStopping[monitor=val/accuracy]``.

    Raises:
        UsageError: there is no such class, it is not a callback, or it refuses its options.
    """
    path, options = parse_variant(text)
    module, _, name = path.rpartition(".")
    try:
        cls: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UsageError(
            f"--callback {text}: no {path}: expected the import path of a class, such as "
            "pytorch_lightning.callbacks.EarlyStopping[monitor=val/accuracy,mode=max]"
        ) from None
    except Exception as error:  # the module may raise anything
        why = " ".join(str(error).split())
        raise UsageError(
            f"--callback {text}: {module} cannot be imported: {type(error).__name__}: {why}"
        ) from None
    if not (isinstance(cls, type) and issubclass(cls, pl.Callback)):
        raise UsageError(f"--callback {text}: {path} is no callback of Lightning's")
    if issubclass(cls, pl.callbacks.Checkpoint):
        raise UsageError(
            f"--callback {text}: a run keeps its checkpoints itself, and the weights of its best "
            "validation beside the record; leave it out"
        )
    try:
        return cls(**options)
    except Exception as error:
        raise UsageError(f"--callback {text}: {' '.join(str(error).split())}") from None
