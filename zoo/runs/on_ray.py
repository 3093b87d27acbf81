"""Runs made by the machines of a Ray cluster, a task a run, their files gathered into one folder.

The machines need not share a disk. Each must have the same code and versions, which is compared
before it works; the images lie at the same path on each, or are fetched there. A run whose machine
dies is made by another one.
"""

import getpass
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import UsageError
from zoo.files import DamagedError, locked, write_bytes, write_text
from zoo.plugin_files import load_plugin_file
from zoo.reports.records import HOLDS, checksum_state, parse_record, recorded_arrays, row_of
from zoo.runs.environment import environment
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.tune_cpu import tune_cpu
from zoo.runs.workspace import Workspace

RETRIES = 3  # of a run whose machine or process died
NOT_COMPARED = ("device", "device_name", "python")  # of an environment
FOLDER = Path(tempfile.gettempdir()) / f"zoo-on-ray-{getpass.getuser()}"  # on each machine


@dataclass(frozen=True)
class Order:
    """What a machine is asked to make.

    Args:
        request: the run.
        name: that the run must have there: it covers the settings and the images.
        data: folder of the images, the same path on every machine.
        threads: CPU threads to compute on.
        on_gpu: whether it computes on a GPU.
        fetch: whether images that are not there are fetched.
        plugins: name and content of the files that register what it needs.
        made_with: the versions that the machine must have, as `environment` has them.
    """

    request: RunRequest
    name: str
    data: Path | None
    threads: int
    on_gpu: bool
    fetch: bool
    plugins: Sequence[tuple[str, bytes]]
    made_with: dict[str, Any]


def order_of(run: Run, threads: int, plugins: Sequence[Path]) -> Order:
    """The order for a run."""
    workspace = run.workspace
    kind = workspace.device_kind
    return Order(
        run.request,
        run.name,
        workspace.data.absolute() if workspace.data else None,
        threads,
        kind == "cuda",
        workspace.fetch,
        [(path.name, path.read_bytes()) for path in plugins],
        environment(kind),
    )


def make_there(order: Order) -> dict[str, bytes]:
    """Make a run on this machine, or go on with it.

    Returns:
        The content of its files by name: record, results, test episodes and weights.

    Raises:
        UsageError: this machine has other code, versions or images, or the run cannot be made.
    """
    tune_cpu()
    check_versions(order)
    for name, content in order.plugins:
        path = FOLDER / "plugins" / name
        with locked(_made(FOLDER) / "plugins.lock", lambda holder: None):
            _made(path.parent)
            write_bytes(path, content)
            load_plugin_file(path)
    folder = _made(FOLDER / order.name)
    workspace = Workspace(
        order.data,
        folder / "results",
        FOLDER / "runs",
        "cuda" if order.on_gpu else "cpu",
        order.threads,
        fetch=order.fetch,
        yes=True,
    )
    run = Run(order.request, workspace)
    if run.name != order.name:
        raise UsageError(
            f"{run.name}, expected {order.name}: the images in {order.data} are others there"
        )
    run.execute(progress=False)
    found = {path.name: path.read_bytes() for path in workspace.results.iterdir() if path.is_file()}
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(run.folder, ignore_errors=True)
    return found


def check_versions(order: Order) -> None:
    """Refuse to work with other code or versions than the machine that asks.

    Raises:
        UsageError: says which.
    """
    here = environment("cuda" if order.on_gpu else "cpu")
    differing = [
        f"{name} {here.get(name)}, expected {value}"
        for name, value in order.made_with.items()
        if name not in NOT_COMPARED and here.get(name) != value
    ]
    if differing:
        raise UsageError(f"other versions there: {'; '.join(differing)}")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_on_ray(
    runs: Sequence[Run], threads: int, plugins: Sequence[Path], say: Callable[[Run, str], None]
) -> int:
    """Let a cluster make runs, given out in this order as its machines come free.

    The cluster is the one that the environment variable RAY_ADDRESS names, or the one that was
    started on this machine; where there is none, this machine alone.

    Args:
        runs: none of them has a record.
        threads: of each.
        plugins: files that register what they need.
        say: takes each run once its record has come, with an empty text, or why it failed.

    Returns:
        1 if one failed, else 0.

    Raises:
        UsageError: Ray is not installed or finds no cluster.
    """
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--on ray needs Ray: python -m pip install 'meta-learning-zoo[ray]'"
        ) from None
    begun = not ray.is_initialized()
    if begun:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(f"--on ray: no cluster: {' '.join(str(error).split())}") from None
    on_gpu = runs[0].workspace.device_kind == "cuda"
    remote = ray.remote(make_there).options(
        num_cpus=threads, num_gpus=int(on_gpu), max_retries=RETRIES, retry_exceptions=False
    )
    try:
        waiting = {remote.remote(order_of(run, threads, plugins)): run for run in runs}
        status = 0
        while waiting:
            (done, *_), _ = ray.wait([*waiting])
            run = waiting.pop(done)
            try:
                files = ray.get(done)
            except Exception as error:  # whatever went wrong there
                status = 1
                say(run, reason(error))
                continue
            try:
                take(files, run)
            except DamagedError as error:
                status = 1
                say(run, str(error))
            else:
                say(run, "")
        return status
    finally:
        if begun:
            ray.shutdown()


def reason(error: BaseException) -> str:
    """Why a task failed, in one line: the error on the machine, or what became of the machine."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if lines else type(cause).__name__


def take(files: dict[str, bytes], run: Run) -> None:
    """Put the files of a run into its results folder, the record last.

    Raises:
        DamagedError: they are not what was recorded.
    """
    name, folder = f"{run.name}.json", run.workspace.results
    if name not in files:
        raise DamagedError("no record has come")
    try:
        record = parse_record(files[name])
        row_of(record, run.name)
        if checksum_state(record) != HOLDS:
            raise ValueError("its checksum does not hold")
        for other, content in files.items():
            path = folder / other
            if other != name and not (other.startswith("episodes-") and path.exists()):
                write_bytes(path, content)
        results = (record.get("arrays") or {}).get("results")
        recorded_arrays(folder / f"{run.name}.npz", results)
    except ValueError as error:
        raise DamagedError(f"the record that has come is damaged: {error}") from None
    write_text(folder / name, files[name].decode())
