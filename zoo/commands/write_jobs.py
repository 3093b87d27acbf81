"""``--write-jobs FILE``: writes a command for each missing run, to be called on other machines."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.errors import UsageError
from zoo.files import write_text
from zoo.runs.run import Run


def write_jobs(path: Path, runs: Iterable[Run], plugins: Sequence[Path]) -> int:
    """Write a line for each run that has no record: the command that makes it or goes on with it.

    Args:
        path: the file to write.
        runs: all runs that the command would make.
        plugins: files that register what the runs need.

    Returns:
        0, the exit status.

    Raises:
        UsageError: the file cannot be written, or a run tests another run's weights, for which
            there is no command.
    """
    missing = [run for run in runs if not run.record_path.exists()]
    if any(run.weights_of for run in missing):
        raise UsageError("--write-jobs: these are tests of weights, not trainings; leave it out")
    try:
        write_text(path, "".join(f"{job_command(run, plugins)}\n" for run in missing))
    except OSError as error:
        raise UsageError(
            f"--write-jobs {path}: {error.strerror}; choose a file you may write"
        ) from None
    print(f"{path}: {len(missing)} commands; when they have ended, this command makes the table")
    return 0


def job_command(run: Run, plugins: Sequence[Path]) -> str:
    """The command that makes a run, with its folders and plug-ins as absolute paths."""
    workspace = run.workspace
    words = list(run.command)
    if run.benchmark.forms and workspace.data:
        words += ["--data", str(workspace.data.absolute())]
    words += ["--results", str(workspace.results.absolute())]
    words += ["--runs", str(workspace.runs.absolute())]
    for path in plugins:
        words += ["--plugin", str(path.absolute())]
    return shlex.join(words)
