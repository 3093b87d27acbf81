"""Workers: they end with the process that started them, whatever ends it."""

import signal
import time
from pathlib import Path

import pytest

from tests.support.processes import start_python, start_zoo, wait_until
from zoo.files import is_locked
from zoo.runs.workers import run_workers

# A worker takes its time over a plug-in that holds a lock. It needs no torch, so it starts at once.
HOLD = """
import signal, time
from pathlib import Path
from zoo.files import alone_in

{first}
with alone_in(Path({folder!r})):
    (Path({folder!r}) / "ready").touch()
    time.sleep(60)
"""
PARENT = """
import sys, time
from zoo.runs import workers

def stop():
    raise RuntimeError("an error of the parent's")

workers.SECONDS_TO_STOP = 0.5
{first}
workers.run_workers([["list", "--plugin", file] for file in sys.argv[1:]])
"""


def held_folders(tmp_path: Path, first: str = "") -> list[Path]:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        (folder / "hold.py").write_text(HOLD.format(first=first, folder=str(folder)))
    return folders


def start_workers(folders: list[Path], first: str = ""):
    files = [folder / "hold.py" for folder in folders]
    process = start_python(["-c", PARENT.format(first=first), *files])
    wait_until(lambda: all((folder / "ready").exists() for folder in folders), process)
    return process


def held(folders: list[Path]) -> list[Path]:
    return [folder for folder in folders if is_locked(folder / "lock")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_workers_end_with_their_parent(number, tmp_path):
    folders = held_folders(tmp_path)
    process = start_workers(folders)
    assert held(folders) == folders
    process.send_signal(number)
    process.communicate(timeout=10)  # waits for all who have its output, workers too
    assert process.returncode == -number and not held(folders)


def test_workers_end_with_an_error_of_their_parent(tmp_path):
    folders = held_folders(tmp_path)
    error = "signal.signal(signal.SIGALRM, lambda *_: stop()); signal.alarm(3)"
    process = start_workers(folders, f"import signal; {error}")
    process.wait(10)
    assert not held(folders)  # when the parent has ended, not only later
    assert "an error of the parent's" in process.communicate()[1]


def test_a_worker_that_does_not_stop_is_killed(tmp_path):
    folders = held_folders(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    process = start_workers(folders)
    process.send_signal(signal.SIGINT)
    process.wait(10)
    assert not held(folders)
    process.communicate()


def test_a_worker_that_started_after_its_parent_died(tmp_path):
    (folder, _) = held_folders(tmp_path)
    code = (
        "import os, subprocess, sys\n"
        "reading, _ = os.pipe()\n"
        "words = [sys.executable, '-c', 'import time; time.sleep(1); '\n"
        "    'from zoo.commands import main; main()', 'list', '--plugin', sys.argv[1]]\n"
        "env = {**os.environ, 'ZOO_PARENT_PIPE': str(reading)}\n"
        "subprocess.Popen(words, env=env, pass_fds=[reading])\n"
    )
    process = start_python(["-c", code, folder / "hold.py"])
    began = time.monotonic()
    process.communicate(timeout=20)
    assert time.monotonic() - began < 20 and not held([folder])


def test_a_stopped_worker_is_named_and_the_others_go_on(tmp_path, capsys):
    (tmp_path / "stop.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    stopped = ["list", "--plugin", str(tmp_path / "stop.py")]
    assert run_workers([stopped, ["list"]]) == 1
    said = capsys.readouterr().err
    assert "was stopped; its run goes on from its last checkpoint" in said
    assert said.count("\n") == 1
    assert run_workers([["list"], ["list"]]) == 0


def test_who_is_no_worker_outlives_its_parent(tmp_path):
    """So that ``zoo run ... &`` in a shell goes on when the shell ends."""
    (folder, _) = held_folders(tmp_path)
    process = start_zoo("list", "--plugin", folder / "hold.py")
    wait_until(lambda: (folder / "ready").exists(), process)
    time.sleep(0.2)
    assert process.poll() is None
    process.kill()
    process.communicate()
