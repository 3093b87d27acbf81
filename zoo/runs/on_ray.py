"""Let the machines of a Ray cluster make runs, and gather their files in one results folder.

Each run is one task of Ray. The machines need not share a disk: a task returns the content of its
run's files. Before a machine makes a run, its code and versions are compared with those of the
machine that asks. The images must be at the same path on every machine, or are fetched there. If a
machine dies, another one makes its run.
"""

import contextlib
import getpass
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
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

RETRIES = 3  # how often a run is given out again whose machine or process died
NOT_COMPARED = ("device", "device_name", "python")  # parts of an environment that may differ
# Where a machine of the cluster keeps plug-ins and what is under way.
FOLDER = Path(tempfile.gettempdir()) / f"zoo-on-ray-{getpass.getuser()}"


@dataclass(frozen=True)
class Order:
    """A run that a machine of the cluster is asked to make.

    Args:
        request: the run.
        name: the name of the run. On the machine it must come out the same, which shows that
            settings and images are the same there.
        data: folder of the images, the same path on every machine.
        threads: CPU threads to compute on.
        on_gpu: whether to compute on a GPU.
        fetch: whether to fetch the images if they are not there.
        plugins: name and content of each plug-in file that the run needs.
        made_with: the versions that the machine must have, as `environment` returns them.
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
    """The order to make a run.

    Args:
        run: to be made.
        threads: CPU threads to compute on.
        plugins: files that register what the run needs.
    """
    workspace = run.workspace
    device = workspace.device_kind
    return Order(
        request=run.request,
        name=run.name,
        data=workspace.data.absolute() if workspace.data else None,
        threads=threads,
        on_gpu=device == "cuda",
        fetch=workspace.fetch,
        plugins=[(path.name, path.read_bytes()) for path in plugins],
        made_with=environment(device),
    )


def make_there(order: Order) -> dict[str, bytes]:
    """On a machine of the cluster: make a run, or go on with it if it was begun there.

    Returns:
        The content of its files by name: record, results, test episodes and weights.

    Raises:
        UsageError: this machine has other code, versions or images, or the run cannot be made.
    """
    workspace = workspace_there(order)
    run = Run(order.request, workspace)
    check_name(run, order)
    run.execute(progress=False)
    results = workspace.results
    files = {path.name: path.read_bytes() for path in results.iterdir() if path.is_file()}
    shutil.rmtree(results.parent, ignore_errors=True)
    shutil.rmtree(run.folder, ignore_errors=True)
    return files


def workspace_there(order: Order) -> Workspace:
    """On a machine of the cluster: load the plug-ins of an order, and make its folders.

    Returns:
        Where the run reads, writes and computes. The folder of its results is its own.

    Raises:
        UsageError: this machine has other code or versions.
    """
    tune_cpu()
    check_versions(order)
    for name, content in order.plugins:
        path = FOLDER / "plugins" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(FOLDER / "plugins.lock", lambda holder: None):
            write_bytes(path, content)
            load_plugin_file(path)
    folder = FOLDER / order.name
    folder.mkdir(parents=True, exist_ok=True)
    return Workspace(
        order.data,
        folder / "results",
        FOLDER / "runs",
        "cuda" if order.on_gpu else "cpu",
        order.threads,
        fetch=order.fetch,
        yes=True,
    )


def check_name(run: Run, order: Order) -> None:
    """Refuse a run that has another name on this machine, as it has with other images.

    Raises:
        UsageError: it has.
    """
    if run.name != order.name:
        raise UsageError(
            f"{run.name}, expected {order.name}: that machine has other images in {order.data}"
        )


def check_versions(order: Order) -> None:
    """Refuse to make a run if this machine has other code or versions than the one that asks.

    Raises:
        UsageError: it has; names each version that differs.
    """
    here = environment("cuda" if order.on_gpu else "cpu")
    differing = [
        f"{name} {here.get(name)}, expected {value}"
        for name, value in order.made_with.items()
        if name not in NOT_COMPARED and here.get(name) != value
    ]
    if differing:
        raise UsageError(f"that machine has other versions: {'; '.join(differing)}")


@contextlib.contextmanager
def ray_cluster() -> Iterator[Any]:
    """Connect to a Ray cluster; yields the package `ray`.

    The cluster is the one that the environment variable RAY_ADDRESS names, or else one that was
    started on this machine. If there is none, this machine alone is the cluster.

    Raises:
        UsageError: Ray is not installed or finds no cluster.
    """
    try:
        import ray
    except ImportError:
        raise UsageError(
            "--on ray needs Ray: python -m pip install 'meta-learning-zoo[ray]'"
        ) from None
    started_here = not ray.is_initialized()
    if started_here:
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"--on ray: no cluster: {reason}") from None
    try:
        yield ray
    finally:
        if started_here:
            ray.shutdown()


def as_task(ray: Any, function: Callable[..., Any], threads: int, on_gpu: bool) -> Any:
    """A function as a task of Ray, which a machine that has what it needs carries out.

    Args:
        ray: the package.
        function: what the task does.
        threads: CPU threads that it needs.
        on_gpu: whether it needs a GPU.
    """
    return ray.remote(function).options(
        num_cpus=threads, num_gpus=int(on_gpu), max_retries=RETRIES, retry_exceptions=False
    )


def make_on_ray(
    runs: Sequence[Run], threads: int, plugins: Sequence[Path], say: Callable[[Run, str], None]
) -> int:
    """Let a cluster make runs. Each machine that becomes free gets the next run in this order.

    Args:
        runs: to be made; none of them has a record.
        threads: CPU threads of each run.
        plugins: files that register what the runs need.
        say: called with a run and "" when its record has come, or with the reason if it failed.

    Returns:
        1 if a run failed, else 0.

    Raises:
        UsageError: Ray is not installed or finds no cluster.
    """
    with ray_cluster() as ray:
        task = as_task(ray, make_there, threads, runs[0].workspace.device_kind == "cuda")
        waiting = {task.remote(order_of(run, threads, plugins)): run for run in runs}
        status = 0
        while waiting:
            ended, _ = ray.wait([*waiting])
            run = waiting.pop(ended[0])
            failure = ""
            try:
                files = ray.get(ended[0])
            except Exception as error:  # anything may have gone wrong on the machine
                failure = failure_in_words(error)
            else:
                try:
                    put_into_results(files, run)
                except DamagedError as error:
                    failure = str(error)
            if failure:
                status = 1
            say(run, failure)
        return status


def failure_in_words(error: BaseException) -> str:
    """Why a task failed, in one line: the error on its machine, or what happened to the machine."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return lines[-1] if lines else type(cause).__name__


def put_into_results(files: dict[str, bytes], run: Run) -> None:
    """Check the files that came for a run, and write them into its results folder.

    The record is written last, so that there is no record without its files. A file of test
    episodes that is there already, for other runs on them, is left as it is.

    Args:
        files: content by name, as `make_there` returns it.
        run: whose files they are.

    Raises:
        DamagedError: they are not what was recorded; then no record is written.
    """
    name = f"{run.name}.json"
    folder = run.workspace.results
    if name not in files:
        raise DamagedError("no record has come")
    try:
        record = parse_record(files[name])
        row_of(record, run.name)
        if checksum_state(record) != HOLDS:
            raise ValueError("its checksum does not match")
        for file_name, content in files.items():
            path = folder / file_name
            is_there = file_name.startswith("episodes-") and path.exists()
            if file_name != name and not is_there:
                write_bytes(path, content)
        hashes = record.get("arrays") or {}
        recorded_arrays(folder / f"{run.name}.npz", hashes.get("results"))
    except ValueError as error:
        raise DamagedError(f"the record that has come is damaged: {error}") from None
    write_text(folder / name, files[name].decode())
