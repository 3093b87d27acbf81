"""Loggers and callbacks that a user asks a run to have, as Lightning has them."""

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
    """Refuse a logger that there is not.

    Raises:
        UsageError: it has an unknown name, or its package is not installed.
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
    """A logger of a run; one that goes on from a checkpoint goes on with the same curve.

    Args:
        kind: one of `LOGGERS`.
        folder: of the run; logs lie in its folder ``log``.
        name: of the run.
        updates: made already; what was logged behind them, before an interruption, is dropped.
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
    """Lightning's, whose folder may be removed while it is written."""

    def save(self) -> None:
        """Write what was logged since."""
        make_again(Path(self.save_dir))
        Path(self.log_dir).mkdir(parents=True, exist_ok=True)
        super().save()


def logged_rows(path: Path, updates: int) -> Iterator[tuple[int, dict[str, Tensor | float]]]:
    """What was logged in the first updates: the step of each row, and its values by name.

    Rows from one on that cannot be read, as a kill may leave it, are dropped with a line on stderr.
    """
    if not path.exists():
        return
    with open(path, newline="", encoding="utf-8") as file:
        try:
            for row in csv.DictReader(file):
                step = int(float(row.pop("step") or 0))
                if step < updates:
                    kinds = {"epoch": int}
                    yield step, {n: kinds.get(n, float)(value) for n, value in row.items() if value}
        except (ValueError, TypeError, KeyError, OverflowError, csv.Error):
            print(f"  {path}: damaged; the log goes on without its end", file=sys.stderr)


def callback_of(text: str) -> pl.Callback:
    """The callback that an import path with options names.

    Args:
        text: such as ``pytorch_lightning.callbacks.EarlyStopping[monitor=val/accuracy]``.

    Raises:
        UsageError: there is no such class, it is no callback, or refuses its options.
    """
    path, options = parse_variant(text)
    module, _, name = path.rpartition(".")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        raise UsageError(
            f"--callback {text}: no {path}: expected the import path of a class, such as "
            "pytorch_lightning.callbacks.EarlyStopping[monitor=val/accuracy,mode=max]"
        ) from None
    if not (isinstance(found, type) and issubclass(found, pl.Callback)):
        raise UsageError(f"--callback {text}: {path} is no callback of Lightning's")
    try:
        return found(**options)
    except Exception as error:
        raise UsageError(f"--callback {text}: {' '.join(str(error).split())}") from None
