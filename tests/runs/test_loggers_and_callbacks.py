"""Loggers and callbacks of the user's own, in `zoo run`."""

import csv

import pytest
import pytorch_lightning as pl

from tests.runs.test_run import SMALL, KilledError, kill_at, plan
from zoo.commands.parser import build_parser
from zoo.commands.run_set import workspace_of
from zoo.errors import UsageError
from zoo.runs.loggers_and_callbacks import callback_of, check_logger, logged_rows
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace

STOP = "pytorch_lightning.callbacks.EarlyStopping[min_delta=1.0,mode=max,monitor=val/accuracy,patience=1]"  # noqa: E501
FLAGS = {**SMALL, "updates": 30, "validations": 10, "val_episodes": 4, "meta_batch": 2}


def logged(run: Run) -> list[dict[str, str]]:
    """The rows of a run's learning curve."""
    with open(run.folder / "log" / "metrics.csv", newline="") as file:
        return [*csv.DictReader(file)]


def test_a_resumed_run_has_one_curve(stores, tmp_path, monkeypatch):
    """That of an undisturbed one; what was logged behind the last checkpoint is dropped."""
    whole = plan(tmp_path / "whole", stores, flags=FLAGS)
    whole.execute(progress=False)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_train_batch_end", 17)  # the last checkpoint is of update 15
        plan(tmp_path / "killed", stores, flags=FLAGS).execute(progress=False)
    killed = plan(tmp_path / "killed", stores, flags=FLAGS)
    killed.execute(progress=False)
    assert logged(killed) == logged(whole)
    steps = [int(row["step"]) for row in logged(whole) if row["val/accuracy"]]
    assert steps == [*range(2, 30, 3)]
    assert [path.name for path in (killed.folder / "log").iterdir()].count("metrics.csv") == 1


def run_with(folder, stores, *callbacks: str) -> Run:
    work = Workspace(results=folder / "results", runs=folder / "runs", threads=1,
                     callbacks=callbacks)  # fmt: skip
    return Run(RunRequest("maml", "glyphs", flags=FLAGS), work, stores=stores)


def test_early_stopping(stores, tmp_path):
    """It ends the training; the record says so, and is of another run than without it."""
    plain, stopped = run_with(tmp_path, stores), run_with(tmp_path, stores, STOP)
    assert plain.name != stopped.name and plain.identity != stopped.identity
    record = stopped.execute(progress=False)
    assert record["updates"]["total"] == 6  # two validations
    assert record["training_tasks"]["seen"] == 12
    assert record["callbacks"] == [STOP]
    again = run_with(tmp_path, stores, STOP)
    assert again.execute(progress=False) == record


def test_a_stopped_run_resumes_as_stopped(stores, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_test_batch_end", 1)
        run_with(tmp_path, stores, STOP).execute(progress=False)
    record = run_with(tmp_path, stores, STOP).execute(progress=False)
    assert record["updates"] == {"total": 6, "executed_by_this_process": 0}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing.at.All", "no nothing.at.All: expected the import path of a class"),
        ("Nothing", "no Nothing: expected the import path"),
        ("pathlib.Path", "pathlib.Path is no callback of Lightning's"),
        ("pytorch_lightning.callbacks.EarlyStopping", "missing 1 required .*'monitor'"),
        ("pytorch_lightning.callbacks.ModelCheckpoint", "a run keeps its checkpoints itself"),
        ("pytorch_lightning.callbacks.EarlyStopping[monitor]", "not of the form name=value"),
    ],
)
def test_a_callback_that_there_is_not(text, said):
    with pytest.raises(UsageError, match=said):
        callback_of(text)


def test_a_logger_that_there_is_not(monkeypatch):
    with pytest.raises(UsageError, match="--logger excel: choose from csv, tensorboard, wandb"):
        check_logger("excel")
    monkeypatch.setattr("zoo.runs.loggers_and_callbacks.import_module", missing)
    with pytest.raises(UsageError, match="wandb is not installed: pip install wandb"):
        check_logger("wandb")


def missing(name):
    raise ImportError(name)


def killed_and_resumed(folder, stores, monkeypatch, logger: str) -> Run:
    """A run with a logger that was killed at update 17, two behind its checkpoint, and went on."""
    work = Workspace(results=folder / "results", runs=folder / "runs", threads=1, logger=logger)
    request = RunRequest("maml", "glyphs", flags=FLAGS)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_train_batch_end", 17)
        Run(request, work, stores=stores).execute(progress=False)
    run = Run(request, work, stores=stores)
    run.execute(progress=False)
    return run


def test_tensorboard(stores, tmp_path, monkeypatch):
    """Where it is installed: of a resumed run one curve, that of the CSV log."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    whole = plan(tmp_path / "csv", stores, flags=FLAGS)
    whole.execute(progress=False)
    run = killed_and_resumed(tmp_path, stores, monkeypatch, "tensorboard")
    events = EventAccumulator(str(run.folder / "log")).Reload()
    for name in ("train/loss", "val/accuracy"):
        expected = [(int(row["step"]), float(row[name])) for row in logged(whole) if row[name]]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in expected], name
        assert [v for _, v in found] == pytest.approx([v for _, v in expected]), name
    assert "inner_lr: 0.4" in (run.folder / "log" / "hparams.yaml").read_text()


def test_wandb(stores, tmp_path, monkeypatch):
    """Where it is installed, without its service: a run that goes on under the same name."""
    wandb = pytest.importorskip("wandb")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    names = []
    finished = pl.loggers.WandbLogger.finalize

    def finalize(self, status):  # in the killed process too, as its end does it
        names.append(self.experiment.id)
        finished(self, status)

    monkeypatch.setattr(pl.loggers.WandbLogger, "finalize", finalize)
    try:
        run = killed_and_resumed(tmp_path, stores, monkeypatch, "wandb")
        found, settings = dict(wandb.run.summary), dict(wandb.run.config)
    finally:
        wandb.finish()
    assert {*names} == {run.name[-64:]} and len(names) == 2
    record = run.record()
    assert (
        found["trainer/global_step"] == 29 and found["val/accuracy"] == record["validation"][-1][1]
    )
    assert settings["inner_lr"] == 0.4 and settings["learner"] == "maml"
    assert len(list((run.folder / "wandb").glob("offline-run-*/*.wandb"))) >= 1


@pytest.mark.parametrize("end", ["3,0.5x\n", "x,1\n", "3,1,2,3\n", "\0\n", "3,1e999999\nx"])
def test_a_damaged_log_goes_on_as_far_as_it_is_whole(end, tmp_path, capsys):
    """As a kill in the middle of a line leaves it."""
    path = tmp_path / "log" / "metrics.csv"
    path.parent.mkdir()
    path.write_text(f"step,val/accuracy\n1,0.25\n2,0.5\n{end}")
    rows = [*logged_rows(path, 9)]
    assert rows[:2] == [(1, {"val/accuracy": 0.25}), (2, {"val/accuracy": 0.5})]
    assert "metrics.csv: damaged; the log goes on without its end" in capsys.readouterr().err


def test_a_callback_has_one_form(tmp_path):
    """Its text is a part of what the run is."""
    text = " pytorch_lightning.callbacks.EarlyStopping[ patience=1, monitor = val/accuracy ]"
    words = ["run", "maml", "glyphs", "--results", str(tmp_path), "--callback", text]
    options = build_parser().parse_known_args(words)[0]
    assert workspace_of(options).callbacks == (
        "pytorch_lightning.callbacks.EarlyStopping[monitor=val/accuracy,patience=1]",
    )


def test_early_stopping_on_what_is_not_logged(stores, tmp_path):
    stop = "pytorch_lightning.callbacks.EarlyStopping[monitor=val/acc]"
    with pytest.raises(UsageError, match=r"--callback: .*`val/acc`.* it can watch .*val/accuracy"):
        run_with(tmp_path, stores, stop).execute(progress=False)


def test_a_callback_whose_file_is_broken(tmp_path, monkeypatch):
    (tmp_path / "not_python.py").write_text("def (")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=r"not_python cannot be imported: SyntaxError: .*not_pyth"):
        callback_of("not_python.X")
