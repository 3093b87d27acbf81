"""Folders that are removed or full while a run is in them, and folders of odd names."""

import errno
import os
import shutil
import threading

import pytest

import zoo.runs.checkpoints
from tests.conftest import in_full
from tests.runs.test_run import SMALL, numbers_of, plan
from tests.support.processes import start_zoo
from zoo.commands import main
from zoo.errors import UsageError
from zoo.files import InUseError, alone_in
from zoo.runs.checkpoints import CheckpointKeeper
from zoo.runs.make_runs import HowToRun, execute
from zoo.runs.run import Run

FEW = {**SMALL, "updates": 4, "validations": 2, "val_episodes": 4, "test_episodes": 8}


@pytest.fixture(scope="module")
def undisturbed(stores, tmp_path_factory):
    run = plan(tmp_path_factory.mktemp("undisturbed"), stores, flags=FEW)
    return run.execute(progress=False), numbers_of(run)


def assert_as_undisturbed(run, record, undisturbed):
    expected, numbers = undisturbed
    assert record["metrics"] == expected["metrics"]
    assert record["validation"] == expected["validation"]
    assert record["test_passes_begun"] == 1
    found = numbers_of(run)
    assert all((found[name] == value).all() for name, value in numbers.items())
    left = {path.name for path in run.folder.iterdir()}
    assert not left & {"test.npz", "test.room", "last.ckpt"}


@pytest.mark.parametrize("what", ["runs", "results"])
def test_a_folder_removed_in_training_loses_nothing(
    what, undisturbed, stores, tmp_path, monkeypatch, capsys
):
    """It is made again, with a line."""
    save, saved = CheckpointKeeper.save, []

    def save_and_remove(self, *arguments):
        save(self, *arguments)
        saved.append(shutil.rmtree(tmp_path / what) if not saved else None)

    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
    monkeypatch.setattr(CheckpointKeeper, "save", save_and_remove)
    run = plan(tmp_path, stores, flags=FEW)
    record = run.execute(progress=False)
    assert len(saved) > 1
    assert_as_undisturbed(run, record, undisturbed)
    assert capsys.readouterr().err.count("does not exist (any more); it is made") == 1


def test_best_weights_that_were_removed_are_one_line(stores, tmp_path, monkeypatch):
    """And the same command makes the run anew."""
    train_end = CheckpointKeeper.on_train_end

    def remove_then_end(self, *arguments):
        shutil.rmtree(tmp_path / "runs")
        train_end(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointKeeper, "on_train_end", remove_then_end)
        with pytest.raises((OSError, UsageError), match=r"best\.ckpt") as error:
            plan(tmp_path, stores, flags=FEW).execute(progress=False)
    assert "\n" not in str(error.value)
    assert plan(tmp_path, stores, flags=FEW).execute(progress=False)["status"] == "done"


def full_disk(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "results")


def test_a_full_results_disk_does_not_open_the_test_a_second_time(
    undisturbed, stores, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr("zoo.runs.run.write_results", full_disk)
        with pytest.raises(OSError, match="No space left"):
            plan(tmp_path, stores, flags=FEW).execute(progress=False)
    monkeypatch.setattr(Run, "_test_with", None)
    run = plan(tmp_path, stores, flags=FEW)
    record = run.execute(progress=False)
    assert record["updates"]["executed_by_this_process"] == 0
    assert_as_undisturbed(run, record, undisturbed)


def test_the_test_is_not_opened_where_its_results_have_no_room(stores, tmp_path, monkeypatch):
    run = plan(tmp_path, stores, flags={**FEW, "updates": 0})
    monkeypatch.setattr("zoo.runs.run.reserve", full_disk)
    with pytest.raises(OSError, match="No space left"):
        run.execute(progress=False)
    assert not (run.folder / "test_passes_begun").exists()


def test_a_full_disk_ends_a_table_in_one_line(tmp_path, monkeypatch, capsys):
    """The other runs need it too."""
    monkeypatch.setattr("zoo.runs.run.reserve", full_disk)
    words = ["table", "glyphs", "--learners", "pixelnn protonet", "--budget", "none"]
    assert main([*words, "--results", str(tmp_path / "r"), "--runs", str(tmp_path / "runs")]) == 1
    said = capsys.readouterr()
    assert said.err == "zoo: [Errno 28] No space left on device: 'results'; " + (
        "mend that, and the same command goes on\n"
    )
    assert said.out.count("[1/2]") == 1 and "[2/2]" not in said.out


def test_a_file_that_is_missing_ends_a_run_and_not_the_table(tmp_path, monkeypatch, capsys):
    execute_run = Run.execute

    def broken(self, progress=True):
        if self.request.learner == "pixelnn":
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", "best.ckpt")
        return execute_run(self, progress)

    monkeypatch.setattr(Run, "execute", broken)
    words = ["table", "glyphs", "--learners", "pixelnn protonet", "--budget", "none"]
    words += ["--results", str(tmp_path / "r"), "--runs", str(tmp_path / "runs")]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "broke: [Errno 2] No such file or directory: 'best.ckpt'; the other runs" in said.err
    assert "Traceback" not in said.err and "| ProtoNet" in said.out


@pytest.mark.parametrize("name", in_full(["http", "https:x", "s3:x"], "http"))
def test_a_runs_folder_of_any_name_resumes(name, undisturbed, stores, tmp_path, monkeypatch):
    """Lightning fetches what begins with http, if it is relative."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
    save = CheckpointKeeper.save

    def stop_after(self, *arguments):
        save(self, *arguments)
        raise KeyboardInterrupt

    folder = tmp_path.relative_to(tmp_path) / name
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CheckpointKeeper, "save", stop_after)
        plan(folder, stores, flags=FEW).execute(progress=False)
    run = plan(folder, stores, flags=FEW)
    record = run.execute(progress=False)
    assert record["updates"]["executed_by_this_process"] < 4
    assert_as_undisturbed(run, record, undisturbed)


@pytest.mark.parametrize("finishes", [True, False])
def test_a_run_that_another_process_makes_is_waited_for(
    finishes, stores, tmp_path, monkeypatch, capsys
):
    """Its record is taken; or the run is made here, if the other process stopped."""
    untrained = {**FEW, "updates": 0}
    runs = [plan(tmp_path, stores, name, flags=untrained) for name in ("pixelnn", "protonet")]
    runs[0].folder.mkdir(parents=True)
    held, leave = threading.Event(), threading.Event()

    def hold():
        with alone_in(runs[0].folder):
            held.set()
            leave.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(60)
    wait = InUseError.wait

    def leave_and_wait(self):
        assert runs[1].record_path.exists(), "the other runs come first"
        leave.set()
        wait(self)
        if finishes:
            plan(tmp_path, stores, "pixelnn", flags=untrained).execute(progress=False)

    monkeypatch.setattr(InUseError, "wait", leave_and_wait)
    assert execute(runs, HowToRun()) == 0
    other.join()
    said = capsys.readouterr().out
    assert f"process {os.getpid()} on" in said and "its turn comes after the others" in said
    assert "waiting for process" in said and ("found: " in said) == finishes
    assert all(run.record_path.exists() for run in runs)


@pytest.mark.full  # two tables of two processes each, that train
def test_two_tables_at_once_on_one_folder_both_end_complete(tmp_path):
    words = ["table", "sinusoid", "--learners", "maml metasgd anil", "--shots", "5", "--jobs", "2"]
    words += ["--budget", "smoke", "--threads", "1"]
    words += ["--results", f"{tmp_path}/results", "--runs", f"{tmp_path}/runs"]
    tables = [start_zoo(*words) for _ in range(2)]
    said = [table.communicate(timeout=900) for table in tables]
    assert [table.returncode for table in tables] == [0, 0], said
    for out, _ in said:
        rows = [line for line in out.splitlines() if line.startswith("| ")]
        assert len(rows) == 4 and "not run" not in out, out  # the heads and three learners
