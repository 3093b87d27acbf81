"""Signals that stop a command: exit status, what it says, what it keeps, what it lets go of."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import in_full
from tests.support.processes import ROOT, start_python, start_zoo, wait_until
from zoo.commands import main
from zoo.commands.signals import STOP_LINE, Stopped, stoppable
from zoo.files import is_locked

CONSOLE_SCRIPT = "import sys\nfrom zoo.__main__ import main\nsys.exit(main())"


def folders_of(folder: Path) -> list[str]:
    return ["--results", f"{folder}/results", "--runs", f"{folder}/runs", "--threads", "1"]


def record_in(folder: Path) -> dict:
    (path,) = (folder / "results").glob("maml*.json")
    return json.loads(path.read_text())


def held(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("lock") if is_locked(path)]


def run_words(*more: str) -> list[str]:
    return [
        "run", "maml", "sinusoid", "--updates", "150", "--validations", "3",
        "--val_episodes", "20", "--test_episodes", "20", *more,
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", in_full([signal.SIGTERM, signal.SIGINT, signal.SIGHUP], signal.SIGTERM)
)
def test_a_run_stopped_in_training_goes_on(number, tmp_path):
    """The real thing; the same command again gives what an undisturbed run gives."""
    process = start_zoo(*run_words(), *folders_of(tmp_path / "stopped"))
    wait_until(lambda: list(tmp_path.glob("stopped/runs/maml*/last.ckpt")), process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, STOP_LINE)
    assert not held(tmp_path) and not list(tmp_path.glob("stopped/results/*.json"))
    for folder in ("stopped", "whole"):
        assert main([*run_words(), *folders_of(tmp_path / folder)]) == 0
    stopped, whole = (record_in(tmp_path / folder) for folder in ("stopped", "whole"))
    assert stopped["metrics"] == whole["metrics"]
    assert stopped["validation"] == whole["validation"]
    assert 0 < stopped["updates"]["executed_by_this_process"] < 150


MOMENTS = {  # what is made, and the file that tells that it has come so far
    "a stage": (["glyphs", "--pretrained_from", "pretrain", "--pretrain_updates", "5000"],
                "runs/stages/*/last.ckpt"),
    "validation": (["sinusoid", "--updates", "1", "--validations", "1", "--val_episodes", "100000"],
                   "runs/maml*/log"),
    "the test": (["sinusoid", "--updates", "0", "--test_episodes", "100000"],
                 "runs/maml*/test_passes_begun"),
}  # fmt: skip


@pytest.mark.parametrize("moment", in_full(MOMENTS, "the test"))
def test_a_run_stopped_elsewhere(moment, tmp_path):
    words, sign = MOMENTS[moment]
    process = start_zoo("run", "maml", *words, *folders_of(tmp_path))
    wait_until(lambda: list(tmp_path.glob(sign)), process)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (143, STOP_LINE) and not held(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("number", in_full([signal.SIGTERM, signal.SIGKILL], signal.SIGTERM))
def test_a_table_of_two_workers_stopped(number, tmp_path):
    learners = "maml[updates=20000] maml[updates=20001]"
    words = ["table", "sinusoid", "--learners", learners, "--shots", "5", "--jobs", "2"]
    process = start_zoo(*words, *folders_of(tmp_path))
    wait_until(lambda: len(list(tmp_path.glob("runs/maml*/last.ckpt"))) == 2, process)
    assert len(held(tmp_path)) == 2
    process.send_signal(number)
    if number == signal.SIGTERM:
        process.wait(60)
    else:
        process.communicate(timeout=5)  # waits for all who have its output, workers too
    assert not held(tmp_path)
    if number == signal.SIGTERM:
        assert (process.returncode, process.communicate()[1]) == (143, STOP_LINE)


def children_of(process: subprocess.Popen) -> list[Path]:
    """The folders below /proc of the processes that a process has started."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [Path("/proc") / number for number in path.read_text().split()]


def has_ended(process: Path) -> bool:
    """Whether the process with this folder below /proc is gone, or waits to be buried."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.full
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="children are found below /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_on_two_devices_stopped(number, tmp_path):
    """The signal reaches the first process alone, while the other waits for its gradients."""
    words = ["run", "maml", "sinusoid", "--updates", "1000", "--validations", "2", "--devices", "2",
             "--meta_batch", "2", "--val_episodes", "20", "--test_episodes", "20",
             *folders_of(tmp_path)]  # fmt: skip
    process = start_zoo(*words)
    wait_until(lambda: list(tmp_path.glob("runs/maml*/last.ckpt")), process)
    (helper,) = children_of(process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)  # waits for the other too, which has its output
    assert (process.returncode, said) == (128 + number, STOP_LINE)
    deadline = time.monotonic() + 5
    while not has_ended(helper):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not held(tmp_path)
    again = start_zoo(*words)
    again.communicate(timeout=120)
    assert again.returncode == 0
    assert 0 < record_in(tmp_path)["updates"]["executed_by_this_process"] < 1000


def test_a_second_signal_ends_at_once():
    code = (
        "import time\nfrom zoo.commands.signals import stoppable\n"
        "with stoppable():\n try:\n  print(1, flush=True); time.sleep(60)\n"
        " finally: print(2, flush=True); time.sleep(60)\n"
    )
    process = start_python(["-c", code])
    assert process.stdout and process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "2\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == 130


def test_a_second_signal_changes_nothing_for_a_worker():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Stopped) as stopped, stoppable(worker=True):
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            signal.raise_signal(signal.SIGTERM)
    assert stopped.value.number == signal.SIGINT
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_signal_in_a_destructor_is_not_lost():
    """Lightning has destructors, which run after each run of a table."""

    class Last:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped), stoppable():
        Last()
        time.sleep(10)


def test_a_signal_that_is_ignored_stays_ignored():
    """As SIGHUP under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_thread_may_call_a_command():
    """Only the main thread may say what signals do."""
    statuses: list[int] = []
    thread = threading.Thread(target=lambda: statuses.append(main(["list"])))
    thread.start()
    thread.join()
    assert statuses == [0]


@pytest.mark.full
def test_a_script_that_lightning_stops(tmp_path):
    """Without the command line SIGTERM is Lightning's, whose exit has status 0."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom zoo.runs.request import RunRequest\n"
        "from zoo.runs.run import Run\nfrom zoo.runs.workspace import Workspace\n"
        "workspace = Workspace(results=Path(sys.argv[1]), runs=Path(sys.argv[2]), threads=1)\n"
        "request = RunRequest('maml', 'sinusoid', shot=5, flags={'updates': 20000})\n"
        "Run(request, workspace, stores={}).execute(progress=False)\n"
    )
    process = start_python(["-c", code, tmp_path / "results", tmp_path / "runs"])
    wait_until(lambda: list(tmp_path.glob("runs/maml*/last.ckpt")), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


def test_an_error_that_a_signal_led_to_is_no_error():
    """Stopped among imports, numpy ends in a RecursionError."""
    with pytest.raises(Stopped) as stopped, stoppable():
        try:
            signal.raise_signal(signal.SIGTERM)
        except Stopped:
            raise AttributeError("a module that is half imported") from None
    assert stopped.value.number == signal.SIGTERM
    with pytest.raises(AttributeError), stoppable():
        raise AttributeError


def test_a_signal_among_imports_ends_at_once(tmp_path):
    """An exception in there can make PyTorch abort, or leave half a module behind."""
    (tmp_path / "interrupted.py").write_text(
        "import signal\ntry:\n signal.raise_signal(signal.SIGTERM)\n"
        "except BaseException:\n pass\nprint('imported')\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from zoo.commands.signals import stoppable\nwith stoppable(): import interrupted\n"
    )
    process = start_python(["-c", code])
    assert process.communicate(timeout=60) == ("", STOP_LINE) and process.returncode == 143


@pytest.mark.parametrize("words", in_full([["-m", "zoo"], ["-c", CONSOLE_SCRIPT]], ["-m", "zoo"]))
def test_ctrl_c_while_the_command_line_is_imported_ends_without_a_traceback(words, tmp_path):
    """Python imports argparse for the parser: here that is when the signal comes."""
    (tmp_path / "argparse.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(30)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, *words, "list"], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
