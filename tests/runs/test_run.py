"""Runs: trained, interrupted, resumed, refused, recorded."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo.runs.checkpoints
import zoo.runs.environment
from tests.conftest import blobs
from tests.runs.test_settings import NO_EPISODES
from zoo import learners
from zoo.errors import UsageError
from zoo.files import alone_in
from zoo.reports import records
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import Workspace

ROOT = Path(__file__).parents[2]
SMALL = {
    "backbone": "conv4_strided[channels=8]", "updates": 12, "validations": 3, "val_episodes": 20,
    "test_episodes": 40, "meta_batch": 4, "query": 3,
}  # fmt: skip


def plan(folder: Path, stores, learner="maml", flags=SMALL, **options) -> Run:
    workspace = Workspace(results=folder / "results", runs=folder / "runs", threads=1)
    return Run(RunRequest(learner, "glyphs", flags=flags, **options), workspace, stores=stores)


def numbers_of(run: Run) -> dict[str, np.ndarray]:
    """What a run measured, episode by episode."""
    with np.load(run.record_path.with_suffix(".npz")) as arrays:
        return dict(arrays)


def numbers(run: Run) -> dict[str, np.ndarray]:
    """What a run measured, and the weights it ended with."""
    measured = numbers_of(run)
    weights = torch.load(run.workspace.runs / run.name / "best.ckpt", weights_only=True)
    return {**measured, **{name: value.numpy() for name, value in weights.items()}}


@pytest.fixture(scope="module")
def undisturbed(stores, tmp_path_factory):
    """MAML, run to its end: four micro-batches an update, so that a kill can fall between."""
    torch.set_num_threads(1)
    run = plan(tmp_path_factory.mktemp("undisturbed"), stores, flags={**SMALL, "micro_batch": 1})
    record = run.execute(progress=False)
    return run, record, numbers(run)


class KilledError(Exception):
    """Stands for kill -9: what is on disk stays, nothing else does."""


def kill_at(monkeypatch, hook: str, count: int) -> None:
    """Die at the count-th call of a hook of Lightning's, or of MAML's loss of a micro-batch."""
    calls = iter(range(1, 10**6))
    keepers = zoo.runs.checkpoints
    cls = keepers.TestRecorder if "test" in hook else keepers.CheckpointKeeper
    cls = learners.get("maml") if hook == "meta_loss" else cls
    original = getattr(cls, hook)

    def dying(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        if next(calls) == count:
            raise KilledError
        return result

    monkeypatch.setattr(cls, hook, dying)


# An update is 4 micro-batches; saves come after update 2, 3 (a validation at 4), ...
@pytest.mark.parametrize(
    ("hook", "count", "executed"),
    [
        ("on_train_start", 1, 12),  # before anything was saved
        ("on_train_batch_end", 1, 11),  # just after the save of update 1
        ("meta_loss", 11, 10),  # between micro-batches
        ("on_train_batch_end", 4, 9),  # before the validation of update 4
        ("on_validation_batch_end", 2, 9),  # within a validation
        ("on_validation_end", 1, 8),
        ("on_validation_end", 3, 0),  # the last
        ("on_train_end", 1, 0),
        ("on_test_batch_end", 3, 0),
    ],
)
def test_a_killed_run_ends_as_an_undisturbed_one(
    hook, count, executed, undisturbed, stores, tmp_path, monkeypatch
):
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)  # at every update
    flags = {**SMALL, "micro_batch": 1}
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, hook, count)
        plan(tmp_path, stores, flags=flags).execute(progress=False)
    run = plan(tmp_path, stores, flags=flags)
    assert run.record() is None
    record = run.execute(progress=False)
    assert record["updates"]["executed_by_this_process"] == executed
    expected_run, expected_record, expected = undisturbed
    assert run.name == expected_run.name
    got = numbers(run)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert np.array_equal(got[name], value), name
    assert record["validation"] == expected_record["validation"]
    assert record["metrics"] == expected_record["metrics"]
    assert record["test_passes_begun"] == 1


def test_random_numbers_resume_too(stores, tmp_path, monkeypatch):
    """With a learner that draws some, as one with dropout does."""
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
    cls = learners.get("maml")
    loss = cls.meta_loss
    monkeypatch.setattr(cls, "meta_loss", lambda self, e: loss(self, e) * torch.rand(()))
    whole = plan(tmp_path / "whole", stores)
    whole.execute(progress=False)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_train_batch_end", 6)
        plan(tmp_path / "killed", stores).execute(progress=False)
    killed = plan(tmp_path / "killed", stores)
    killed.execute(progress=False)
    for name, value in numbers(whole).items():
        assert np.array_equal(numbers(killed)[name], value), name


def test_a_longer_run_goes_on_from_a_shorter_one(undisturbed, stores, tmp_path):
    """Bit by bit as if it had been trained from the start, where it validates as often."""
    whole, record, _ = undisturbed  # 12 updates, 3 validations
    flags = {**SMALL, "micro_batch": 1}
    short = plan(tmp_path, stores, flags={**flags, "updates": 8, "validations": 2})
    short.execute(progress=False)
    longer = plan(tmp_path, stores, flags=flags)
    found = longer.execute(progress=False)
    assert found["updates"] == {"total": 12, "executed_by_this_process": 4}
    assert found["validation"] == record["validation"]
    for name, value in numbers(whole).items():
        assert np.array_equal(numbers(longer)[name], value), name
    other = plan(tmp_path, stores, flags={**SMALL, "updates": 16, "validations": 2})
    assert other.execute(progress=False)["updates"]["executed_by_this_process"] == 16


def test_weights_of_losses_that_change_over_the_training_start_anew(stores, tmp_path):
    plain, multi = (
        plan(tmp_path, stores, flags={**SMALL, "inner_steps": 2, "multi_step": each})
        for each in (False, True)
    )
    assert plain.trajectory and not multi.trajectory


def test_a_rate_that_falls_over_the_updates_starts_anew(stores, tmp_path):
    for updates in (4, 8):
        flags = {**SMALL, "updates": updates, "validations": updates // 4, "meta_batch": 1}
        run = plan(tmp_path, stores, "protonet", flags=flags)
        assert run.execute(progress=False)["updates"]["executed_by_this_process"] == updates


@pytest.mark.slow
def test_kill_9(tmp_path):
    """The real thing: a process killed in training, the same command again."""
    words = [
        sys.executable, "-m", "zoo", "run", "maml", "glyphs", "--threads", "1", "--updates", "60",
        "--backbone", "conv4_strided[channels=8]", "--val_episodes", "20", "--test_episodes", "20",
    ]  # fmt: skip
    environment = {**os.environ, "ZOO_SECONDS_BETWEEN_SAVES": "0.2"}

    def command(name: str) -> list[str]:
        return [*words, "--results", f"{tmp_path}/{name}", "--runs", f"{tmp_path}/{name}-runs"]

    def record(name: str) -> dict:
        (path,) = (tmp_path / name).glob("maml*.json")
        return json.loads(path.read_text())

    subprocess.run(command("whole"), cwd=ROOT, env=environment, check=True, capture_output=True)
    process = subprocess.Popen(
        command("killed"), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("killed-runs/*/last.ckpt")):
        assert process.poll() is None, "ended before it was killed"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "killed").glob("*.json"))
    subprocess.run(command("killed"), cwd=ROOT, env=environment, check=True, capture_output=True)
    whole, killed = record("whole"), record("killed")
    assert killed["metrics"] == whole["metrics"] and killed["validation"] == whole["validation"]
    assert 0 < killed["updates"]["executed_by_this_process"] < 60


def test_a_record_says_what_was_run(undisturbed):
    run, record, measured = undisturbed
    assert record["status"] == "done" and record["updates"]["total"] == 12
    assert record["settings"]["updates"] == {"value": 12, "origin": "flag", "source": ""}
    assert record["variant"]["meta_batch"] == 4
    assert record["training_tasks"]["seen"] == 48
    assert measured["accuracy"].shape == (40,) and measured["prediction"].shape == (40, 15)
    right = (measured["prediction"] == np.repeat(np.arange(5), 3)).mean(1)
    assert np.allclose(right, measured["accuracy"])
    assert record["metrics"]["accuracy"]["mean"] == pytest.approx(right.mean())
    assert len(record["validation"]) == 3
    best = max(record["validation"], key=lambda point: point[1])
    assert record["tested_update"] == best[0]
    frame, problems = records.load(run.workspace.results)
    assert not problems and list(frame["run"]) == [run.name]
    episodes = run.workspace.results / f"episodes-{record['episodes']['fingerprint']}.npz"
    with np.load(episodes) as arrays:
        assert np.array_equal(arrays["classes"], run.data.test_indices().classes)


def test_a_finished_run_is_not_run_again(undisturbed, monkeypatch):
    run, record, _ = undisturbed
    monkeypatch.setattr(Run, "train", None)
    assert run.execute(progress=False) == record


def test_the_same_command_gives_the_same_numbers(undisturbed, stores, tmp_path):
    run = plan(tmp_path, stores, flags={**SMALL, "micro_batch": 1})
    run.execute(progress=False)
    for name, value in undisturbed[2].items():
        assert np.array_equal(numbers(run)[name], value), name


def test_test_episodes_are_shared_by_learners_and_seeds(undisturbed, stores, tmp_path):
    prints = {
        plan(tmp_path, stores, learner, flags=flags, seed=seed).data.test_fingerprint()
        for learner in learners.names()
        for flags in [SMALL | ({"updates": 0} if learner in NO_EPISODES else {})]
        for seed in (0, 1)
    }
    assert prints == {undisturbed[1]["episodes"]["fingerprint"]}


def test_identities_differ(stores, tmp_path):
    runs = [
        plan(tmp_path, stores),
        plan(tmp_path, stores, seed=1),
        plan(tmp_path, stores, shot=2),
        plan(tmp_path, stores, flags={**SMALL, "inner_lr": 0.3}),
        plan(tmp_path, {**stores, "train": blobs(30, seed=9)}),
    ]
    assert len({run.name for run in runs}) == len(runs)


@pytest.mark.parametrize("more", [{}, {"sampler": "adaptive"}])
def test_a_killed_augmented_run_ends_as_an_undisturbed_one(more, stores, tmp_path, monkeypatch):
    few = {"meta_batch": 2, "updates": 4, "validations": 1, "val_episodes": 2, "test_episodes": 2}
    flags = {**SMALL, **few, "micro_batch": 1, "augment": "crop shift jitter flip", **more}
    whole = plan(tmp_path / "whole", stores, flags=flags)
    whole.execute(progress=False)
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "meta_loss", 5)  # within the third update
        plan(tmp_path / "killed", stores, flags=flags).execute(progress=False)
    killed = plan(tmp_path / "killed", stores, flags=flags)
    assert killed.execute(progress=False)["updates"]["executed_by_this_process"] == 2
    for name, value in numbers(whole).items():
        assert np.array_equal(numbers(killed)[name], value), name


def test_runs_without_augmentation_decay_or_clipping_keep_their_names(stores, tmp_path):
    run = plan(tmp_path, stores)
    later = {"augment": "", "outer_decay": "paper", "gradient_clip_val": None}
    assert not {*later, "gradient_clip_algorithm"} & {*run.identity["settings"]}
    same = {**SMALL, **later}
    assert plan(tmp_path, stores, flags=same).name == run.name
    others = [
        {"augment": "flip"}, {"augment": "shift"}, {"outer_decay": "cosine"},
        {"gradient_clip_val": 0.5}, {"gradient_clip_val": 0},
        {"gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
    ]  # fmt: skip
    names = {plan(tmp_path, stores, flags={**SMALL, **other}).name for other in others}
    assert len(names | {run.name}) == 7


def test_words_that_there_are_not(stores, tmp_path):
    with pytest.raises(UsageError, match="--augment 'turn': 'turn' is no augmentation; choose"):
        plan(tmp_path, stores, flags={**SMALL, "augment": "turn"})
    with pytest.raises(UsageError, match="--outer_decay linear: choose from paper, cosine"):
        plan(tmp_path, stores, flags={**SMALL, "outer_decay": "linear"})
    for clip, said in (
        (
            {"gradient_clip_algorithm": "sum", "gradient_clip_val": 1.0},
            "sum: choose from norm, val",
        ),
        ({"gradient_clip_algorithm": "value"}, "value: clips nothing by itself; add --gradient_cl"),
    ):
        with pytest.raises(UsageError, match=f"--gradient_clip_algorithm {said}"):
            plan(tmp_path, stores, flags={**SMALL, **clip})
    with pytest.raises(
        UsageError, match="--augment 'flip': changes images, and sinusoid is regression"
    ):
        Run(RunRequest("maml", "sinusoid", flags={"augment": "flip"}))


@pytest.mark.parametrize("key", ["maml", "protonet", "reptile"])
def test_the_rate_falls_by_a_cosine_whatever_the_learners_own(key, stores, tmp_path, monkeypatch):
    """Of every update; and no longer run goes on from it, for there the rates are others."""
    rates = []

    def seen(self, trainer, pl_module, batch, batch_idx):
        rates.append(trainer.optimizers[0].param_groups[0]["lr"] / pl_module.outer_lr)

    monkeypatch.setattr(zoo.runs.checkpoints.CheckpointKeeper, "on_train_batch_start", seen)
    few = {"meta_batch": 1, "updates": 4, "validations": 1, "val_episodes": 2, "test_episodes": 2}
    run = plan(tmp_path, stores, key, flags={**SMALL, **few, "outer_decay": "cosine"})
    run.execute(progress=False)
    assert rates == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])
    assert run.trajectory == ""


@pytest.mark.parametrize(
    ("clip", "largest", "element"),
    [
        ({"gradient_clip_val": 1e-3}, 1e-3, None),
        ({"gradient_clip_val": 1e-4, "gradient_clip_algorithm": "value"}, None, 1e-4),
        ({"clip": 1e-4}, None, 1e-4),  # MAML's own
        ({"clip": 1e-4, "gradient_clip_val": 0}, None, None),  # in place of it, none
    ],
)
def test_a_run_clips_the_outer_gradient_as_asked(
    clip, largest, element, stores, tmp_path, monkeypatch
):
    seen = []

    def watch(self, trainer, pl_module, optimizer):
        grads = [p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]
        seen.extend([torch.cat(grads)] if grads else [])

    monkeypatch.setattr(zoo.runs.checkpoints.CheckpointKeeper, "on_before_zero_grad", watch)
    few = {"meta_batch": 2, "updates": 3, "validations": 1, "val_episodes": 2, "test_episodes": 2}
    run = plan(tmp_path, stores, flags={**SMALL, **few, **clip})
    record = run.execute(progress=False)
    norm = max(float(gradient.norm()) for gradient in seen)
    highest = max(float(gradient.abs().max()) for gradient in seen)
    assert norm == pytest.approx(largest, rel=1e-4) if largest else norm > 2e-3
    assert highest == pytest.approx(element, rel=1e-4) if element else highest > 1e-4
    for name, value in clip.items():
        assert record["settings"][name]["value"] == value and record["variant"][name] == value


def test_divergence_is_recorded_and_not_tried_again(stores, tmp_path):
    run = plan(tmp_path, stores, flags={**SMALL, "outer_lr": 1e30, "clip": None})
    record = run.execute(progress=False)
    assert record["status"] == "failed" and 1 <= record["failure"]["update"] <= 12
    assert "loss is" in record["failure"]["reason"]
    assert not record["metrics"] and record["test_passes_begun"] == 0
    frame, problems = records.load(tmp_path / "results")
    assert not problems and frame["failure"].item() == record["failure"]["reason"]
    assert run.execute(progress=False) == record


def test_a_run_in_use_is_refused(stores, tmp_path):
    run = plan(tmp_path, stores)
    folder = tmp_path / "runs" / run.name
    folder.mkdir(parents=True)
    with alone_in(folder), pytest.raises(UsageError, match=f"in use by process {os.getpid()} on"):
        run.execute(progress=False)


def test_no_updates_means_untrained(stores, tmp_path):
    flags = {name: value for name, value in SMALL.items() if name != "updates"}
    run = plan(tmp_path, stores, flags=flags, budget="none")
    before = {name: value.clone() for name, value in run.learner.state_dict().items()}
    record = run.execute(progress=False)
    assert record["updates"] == {"total": 0, "executed_by_this_process": 0}
    after = run.learner.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_without_validation_classes_the_last_weights_are_tested(stores, tmp_path):
    run = plan(tmp_path, {"train": stores["train"], "test": stores["test"]})
    record = run.execute(progress=False)
    assert record["validation"] == [] and record["tested_update"] == 12
    assert record["metrics"]["accuracy"]["mean"] > 0


def test_micro_batches_add_up_to_the_meta_batch(stores, tmp_path, monkeypatch):
    """One clip an update, of the mean gradient over all its tasks, however they are cut."""
    seen: dict[int, list[torch.Tensor]] = {1: [], 2: [], 4: []}
    cls = learners.get("maml")
    for micro, gradients in seen.items():

        def clip(self, *arguments, gradients=gradients, **options):
            gradients.append(torch.cat([p.grad.flatten() for p in self.parameters()]))

        monkeypatch.setattr(cls, "configure_gradient_clipping", clip)
        flags = {**SMALL, "micro_batch": micro, "updates": 3, "validations": 1}
        plan(tmp_path / str(micro), stores, flags=flags).execute(progress=False)
    assert [len(gradients) for gradients in seen.values()] == [3, 3, 3]
    for gradients in (seen[1], seen[2]):
        torch.testing.assert_close(gradients[0], seen[4][0], rtol=1e-3, atol=1e-5)
    assert seen[4][0].abs().max() > 1e-2


def test_a_damaged_record_is_named(undisturbed, stores, tmp_path):
    run = plan(tmp_path, stores)
    run.record_path.parent.mkdir()
    run.record_path.write_text('{"schema": 1, ')
    with pytest.raises(UsageError, match="is not a whole record: delete it"):
        run.execute(progress=False)


def test_a_folder_in_a_records_place_is_named(stores, tmp_path):
    run = plan(tmp_path, stores)
    run.record_path.mkdir(parents=True)
    with pytest.raises(UsageError, match="is a folder: move it away"):
        run.record()


@pytest.mark.parametrize(
    "environment", [5, "x", {"plugins": 5}, {"plugins": [5]}, {"plugins": [{}]}]
)
def test_a_record_of_another_environment_than_we_write_is_named(environment, stores, tmp_path):
    run = plan(tmp_path, stores, flags={**SMALL, "updates": 1, "validations": 1})
    record = run.execute(progress=False)
    run.record_path.write_text(json.dumps({**record, "environment": environment}))
    with pytest.raises(UsageError, match=r"not a whole record: .*environment"):
        run.record()


def test_who_deletes_a_record_gets_a_new_run(stores, tmp_path):
    flags = {**SMALL, "updates": 2, "validations": 1}
    run = plan(tmp_path, stores, flags=flags)
    run.execute(progress=False)
    run.record_path.unlink()
    again = plan(tmp_path, stores, flags=flags).execute(progress=False)
    assert again["updates"]["executed_by_this_process"] == 2 and again["test_passes_begun"] == 2


def test_ctrl_c_is_no_failure(stores, tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(zoo.runs.checkpoints.CheckpointKeeper, "on_train_batch_end", stop)
    with pytest.raises(KeyboardInterrupt):
        plan(tmp_path, stores).execute(progress=False)
    signal.signal(signal.SIGINT, before)  # Lightning ignores it while it shuts down


def test_a_record_names_the_code_it_started_with(stores, tmp_path, monkeypatch):
    heads = iter([("first", False), ("second", True)])
    monkeypatch.setattr(zoo.runs.environment, "commit", lambda: next(heads))
    made_with = plan(tmp_path, stores).execute(progress=False)["environment"]
    assert (made_with["commit"], made_with["dirty"]) == ("first", False)
    assert made_with["other_commits"] == []


def test_many_ways_fit_into_the_predictions(tmp_path):
    stores = {split: blobs(300, 3) for split in ("train", "test")}
    flags = {
        **SMALL,
        "updates": 0,
        "query": 1,
        "train_query": 1,
        "test_episodes": 1,
        "train_way": 5,
    }
    run = plan(tmp_path, stores, "protonet", flags=flags, way=300)
    run.execute(progress=False)
    assert numbers_of(run)["prediction"].max() > 255


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"flags": {**SMALL, "train_way": 7}}, "--train_way 7 must equal --way 5"),
        ({"flags": {**SMALL, "micro_batch": 3}}, "--micro_batch 3: must divide --meta_batch 4"),
        ({"way": 31}, "--way 31: val has only 30 classes"),
        ({"shot": 18}, "shot 18 + query 3: the smallest class has only 20 images; take --"),
        ({"learner": "mamll"}, "no learner 'mamll': did you mean 'maml'"),
        ({"learner": "maml[inner=1]"}, "maml[inner=1]: no setting 'inner'"),
        ({"flags": {**SMALL, "backbone": "conv9"}}, "no backbone 'conv9'"),
        ({"flags": {**SMALL, "batch_norm": "none"}}, "no mode 'none'"),
    ],
)
def test_what_cannot_be_run_is_said_before_it_starts(options, says, stores, tmp_path):
    with pytest.raises(UsageError) as error:
        plan(tmp_path, stores, **options)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_second_order_maml_keeps_one_tasks_graph():
    """At most 1.1 GB of anonymous memory: Conv4-32, 84x84, 5-way 5-shot, 4 tasks, 5 steps."""
    code = "from zoo.runs.tune_cpu import tune_cpu; tune_cpu(); from tests.bench import ours; "
    code += "step = ours.maml_step(32, 'second'); step(); print(ours.timed(step, 0)['megabytes'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert 200 < float(done.stdout.split()[-1]) <= 1100
