"""Torchmeta 1.8.0 on today's torch: `import zoo.torchmeta`, and `import torchmeta` works.

``make torchmeta`` installs it. The package (Deleu et al. 2019, "Torchmeta: A Meta-Learning library
for PyTorch", arXiv 1909.06576) was last published in 2021, for torch below 1.10. Its own files
stay as they were published; importing this module changes three things around them, and nothing
else:

1. torchvision can be imported beside a build of torch that it was not compiled for. Its compiled
   operators are missing then, and it fails because it describes two of them, ``nms`` and ``qnms``.
2. ``torchvision.datasets.utils`` gets two names back that torchmeta imports and torchvision has
   removed. They belong to downloads from Google Drive, which ask for another kind of confirmation
   today; to use them is an error that says what to do instead.
3. ``SubsetTask`` and ``ConcatTask`` get the method ``__getitems__`` that today's torch demands of
   a ``Subset`` with a ``__getitem__`` of its own.

``python -m zoo.torchmeta SCRIPT ARGS`` runs a script that imports torchmeta and knows nothing of
the zoo.
"""

import runpy
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

from zoo.errors import UsageError

INSTALL = "make torchmeta installs it; see docs/torchmeta.md"
# torchvision lies here if `make torchmeta` installed it, where no other package finds it: beside
# a torch that it was not compiled for, it would keep even Lightning from being imported.
TORCHVISION = Path(sys.prefix) / "torchmeta"


def repair() -> None:
    """Make ``import torchmeta`` work in this process.

    Raises:
        UsageError: torchmeta or a package that it needs is not installed.
    """
    if find_spec("torchmeta") is None:
        raise UsageError(f"torchmeta is not installed: {INSTALL}")
    if find_spec("torchvision") is None:
        sys.path.append(str(TORCHVISION))
    try:
        import_torchvision()
        restore_download_names()
        task_module: Any = import_module("torchmeta.utils.data.task")
    except ModuleNotFoundError as error:
        raise UsageError(f"torchmeta needs {error.name}, which is missing: {INSTALL}") from None
    for cls in (task_module.SubsetTask, task_module.ConcatTask):
        cls.__getitems__ = items_one_by_one


def import_torchvision() -> None:
    """Import torchvision, without its compiled operators if they are of another build."""
    try:
        import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        from torch import library

        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):  # as torchvision's C++ code would have declared them
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            library.define(f"torchvision::{operator}", schema)
        import_module("torchvision")


def restore_download_names() -> None:
    """Put the two names into torchvision that ``torchmeta.datasets.utils`` imports."""
    utils: Any = import_module("torchvision.datasets.utils")
    for name in ("_get_confirm_token", "_save_response_content"):
        if not hasattr(utils, name):
            setattr(utils, name, no_google_drive)


def no_google_drive(*arguments: Any) -> NoReturn:
    """Stand in for what downloaded a file from Google Drive.

    Raises:
        UsageError: always.
    """
    raise UsageError(
        "torchmeta 1.8.0 can no longer download from Google Drive: put the file into the folder "
        "yourself, or write the folder from other files by zoo convert BENCHMARK --to torchmeta"
    )


def items_one_by_one(task: Any, indices: Sequence[int]) -> list[Any]:
    """The examples of a torchmeta task with these indices, as its ``__getitem__`` gives them."""
    return [task[index] for index in indices]


def run_script(words: Sequence[str]) -> None:
    """Run a Python script as ``python SCRIPT ARGS`` would.

    Args:
        words: the script's path, and its arguments.

    Raises:
        UsageError: no script is named, or there is no such file.
    """
    if not words or words[0].startswith("-"):
        raise UsageError("expected a script: python -m zoo.torchmeta SCRIPT ARGS")
    script = Path(words[0])
    if not script.is_file():
        raise UsageError(f"{script}: there is no such file; expected a Python script")
    sys.argv = [*words]
    sys.path[0] = str(script.parent.resolve())  # where the script's own modules lie
    runpy.run_path(str(script), run_name="__main__")


def _main() -> None:
    """Run the script that the command line names, with torchmeta repaired."""
    try:
        repair()
        run_script(sys.argv[1:])
    except UsageError as error:
        print(f"zoo.torchmeta: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    _main()
else:
    repair()
