"""A run is the same run on any machine, and with code that has more settings since."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import zoo.runs.checkpoints
import zoo.runs.identity
from tests.runs.test_run import SMALL, KilledError, kill_at, plan
from zoo import learners
from zoo.commands.rename_records import rename_records
from zoo.commands.run_set import load_records
from zoo.errors import UsageError
from zoo.registry import learner_of
from zoo.runs.identity import (
    identity_of_record,
    later_settings,
    name_in_use,
    run_identity,
    run_name,
    version_of,
)
from zoo.runs.record import write_record
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.workspace import UNDER_WAY, Workspace
from zoo.variants import format_variant

RESULTS = Path(__file__).parents[2] / "results"
SHORT = {**SMALL, "updates": 4, "validations": 1, "val_episodes": 8, "test_episodes": 16}


def committed() -> list[dict]:
    """Every committed record of a run that trained its own weights."""
    found = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))]
    assert len(found) > 100
    return found


def class_of(record: dict) -> type:
    return learner_of(format_variant(record["learner"], record["variant"]))[1]


def test_every_committed_record_has_the_name_of_its_run():
    for record in committed():
        assert (
            run_name(identity_of_record(record, class_of(record)), record["variant"])
            == (record["run"])
        )


def test_a_new_setting_leaves_every_old_record_its_name(monkeypatch):
    """One of a learner and one of all runs, each at the value that old records had."""
    monkeypatch.setitem(zoo.runs.identity.SETTINGS_ADDED_LATER, "weather", "dry")
    for record in committed():
        cls = class_of(record)
        newer = type(cls.__name__, (cls,), {"added_later": {"colour": None}})
        settings = {name: entry["value"] for name, entry in record["settings"].items()}
        rest = (
            record["data"]["splits"],
            {stage["name"]: stage["hash"] for stage in record.get("stages") or ()},
            newer,
            record.get("version", 1),
        )
        new = run_identity(record, {**settings, "weather": "dry", "colour": None}, *rest)
        assert run_name(new, record["variant"]) == record["run"]
        for changed in ({"weather": "wet", "colour": None}, {"weather": "dry", "colour": "red"}):
            other = run_identity(record, {**settings, **changed}, *rest)
            assert run_name(other, record["variant"]) != record["run"]


def test_what_is_added_later_is_a_setting_and_is_inherited():
    for key in learners.names():
        cls = learners.get(key)
        for name in later_settings(cls):
            assert name in plan_of(key).settings, f"{key} has no setting {name}"

    class Parent(learners.get("maml")):
        added_later: Mapping[str, Any] = {"first": 1}

    class Child(Parent):
        added_later: Mapping[str, Any] = {"second": 2}

    assert {"first": 1, "second": 2}.items() <= later_settings(Child).items()


def test_a_record_is_called_by_what_it_was_made_with(tmp_path):
    """Matching Networks' records from before `normalise` are of what is no longer the default."""
    (path,) = list(RESULTS.glob("matchingnet-omniglot-5w1s-paper-quick-s0-*.json"))
    (tmp_path / path.name).write_bytes(path.read_bytes())
    row = load_records(tmp_path).iloc[0]
    assert json.loads(path.read_text())["variant"] == {}
    assert row["variant"] == {"normalise": "both"} and row["settings"]["normalise"] == "both"


def plan_of(key: str) -> Run:
    return Run(RunRequest(key, "glyphs", budget="none"), Workspace(threads=1))


def test_a_record_says_the_settings_that_are_newer(tmp_path):
    (path,) = list(RESULTS.glob("maml-glyphs-5w1s-paper-quick-s0-*.json"))
    (tmp_path / path.name).write_bytes(path.read_bytes())
    (settings,) = load_records(tmp_path)["settings"]
    assert "sampler" not in json.loads(path.read_text())["settings"]
    assert settings["sampler"] == "plain" and settings["superclasses"] is None


def test_the_machine_is_no_part_of_a_run(stores, tmp_path):
    request = RunRequest("maml", "glyphs", flags=SMALL)
    names = set()
    for threads, micro_batch in ((1, 1), (2, 4), (1, None)):
        flags = {**SMALL, "micro_batch": micro_batch}
        workspace = Workspace(tmp_path, tmp_path / "results", tmp_path / "runs", "cpu", threads)
        run = Run(RunRequest("maml", "glyphs", flags=flags), workspace, stores)
        names.add(run.name.rpartition("-")[2])
    assert names == {Run(request, Workspace(threads=2), stores).name.rpartition("-")[2]}
    flags = {**SMALL, "micro_batch": 1}
    first, second = plan(tmp_path, stores, flags=flags), plan(tmp_path, stores)
    assert first.name == second.name, "the words of a name say no more than its hash"


def test_rates_that_once_shared_a_name(stores, tmp_path):
    """Of a hash of 32 bits these two were equal, and the second printed the first's number."""
    rates = (0.000116818, 0.000188498)
    names = [plan(tmp_path, stores, flags={**SMALL, "outer_lr": rate}).name for rate in rates]
    assert len({name.rpartition("-")[2] for name in names}) == 2
    assert all(len(name.rpartition("-")[2]) == 16 for name in names)
    assert names[0].startswith("maml-outer_lr=0.000116818_backbone=conv4")


def test_a_record_of_another_run_is_refused(stores, tmp_path):
    run = plan(tmp_path, stores, flags=SHORT)
    record = run.execute(progress=False)
    record["settings"]["inner_lr"]["value"] = 0.3
    write_record(run.record_path, {k: v for k, v in record.items() if k != "checksum"})
    with pytest.raises(UsageError, match=r"another run: inner_lr is 0\.3 there, 0\.4 is asked"):
        plan(tmp_path, stores, flags=SHORT).execute(progress=False)


def test_a_record_is_found_whatever_the_words_before_its_hash(tmp_path):
    end = "0123456789abcdef"
    (tmp_path / "runs" / f"maml-old-{end}").mkdir(parents=True)
    asked = f"maml-new-{end}"
    assert name_in_use(asked, tmp_path, tmp_path / "runs") == f"maml-old-{end}"
    (tmp_path / f"maml-older-{end}.json").touch()
    assert name_in_use(asked, tmp_path, tmp_path / "runs") == f"maml-older-{end}"
    (tmp_path / f"{asked}.json").touch()
    assert name_in_use(asked, tmp_path, tmp_path / "runs") == asked
    assert name_in_use("maml-new-fedcba9876543210", tmp_path, tmp_path / "runs") == (
        "maml-new-fedcba9876543210"
    )


def test_the_first_of_two_records_stays(stores, tmp_path, monkeypatch):
    """Written by another process, with another folder of runs, while this one was testing."""
    run = plan(tmp_path, stores, flags=SHORT)
    other = plan(tmp_path, stores, flags=SHORT)
    other.workspace = Workspace(tmp_path, tmp_path / "results", tmp_path / "other", "cpu", 1)
    test = run.test

    def slow_test(*arguments):
        other.execute(progress=False)
        return test(*arguments)

    monkeypatch.setattr(run, "test", slow_test)
    record = run.execute(progress=False)
    assert record == other.record()


def test_what_a_campaign_began_is_gone_on_with(stores, tmp_path):
    run = plan(tmp_path, stores, flags=SHORT)
    assert run.folder == tmp_path / "runs" / run.name
    (tmp_path / "results" / UNDER_WAY / run.name).mkdir(parents=True)
    assert run.folder == tmp_path / "results" / UNDER_WAY / run.name


def test_a_version_of_a_learner_is_part_of_its_runs(stores, tmp_path, monkeypatch):
    first = plan(tmp_path, stores, flags=SHORT)
    record = first.execute(progress=False)
    assert "version" not in record and "version" not in first.identity
    monkeypatch.setattr(learners.get("maml"), "version", 2)
    second = plan(tmp_path, stores, flags=SHORT)
    assert second.name != first.name
    assert second.execute(progress=False)["version"] == 2


def test_a_version_counts_those_of_what_a_learner_is_made_of(monkeypatch):
    host, plug_in = learners.get("maml"), learner_of("trlearner[host=maml]")[1]
    before = version_of(plug_in)
    assert before > version_of(host) == 1
    monkeypatch.setattr(host, "version", 3, raising=False)
    assert version_of(host) == 3 and version_of(plug_in) == before + 2


def test_a_run_resumed_on_another_machine_goes_on_and_is_marked(stores, tmp_path, monkeypatch):
    """Its checkpoint counts micro-batches, so it keeps theirs; every task is seen once."""
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)

    def planned(folder, threads, micro_batch):
        flags = {**SHORT, "micro_batch": micro_batch}
        workspace = Workspace(tmp_path, folder / "results", folder / "runs", "cpu", threads)
        return Run(RunRequest("maml", "glyphs", flags=flags), workspace, stores)

    whole = planned(tmp_path / "whole", 1, 2).execute(progress=False)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "meta_loss", 5)  # in the third update
        planned(tmp_path / "killed", 1, 2).execute(progress=False)
    record = planned(tmp_path / "killed", 2, 4).execute(progress=False)
    torch.set_num_threads(1)
    assert record["updates"] == {"total": 4, "executed_by_this_process": 2}
    assert record["tasks_at_once"]["training"] == 2
    assert record["validation"][0] == pytest.approx(whole["validation"][0])
    (other,) = record["environment"]["other_machines"]
    assert (other["threads"], record["environment"]["threads"]) == (1, 2)
    assert not whole["environment"]["other_machines"]
    frame = load_records(tmp_path / "killed" / "results")
    assert frame["other_machines"].item() == [other]


def test_a_test_that_another_machine_began_goes_on(stores, tmp_path, monkeypatch):
    """Recorded five at a time there, eight here: each episode once, in their order."""
    monkeypatch.setattr(zoo.runs.checkpoints, "SECONDS_BETWEEN_SAVES", -1.0)
    whole = plan(tmp_path / "whole", stores, flags=SHORT).execute(progress=False)
    run = plan(tmp_path / "killed", stores, flags=SHORT)
    run.data.eval_batch = 5
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        kill_at(patch, "on_test_batch_end", 1)
        run.execute(progress=False)
    record = plan(tmp_path / "killed", stores, flags=SHORT).execute(progress=False)
    assert record["episodes"]["count"] == 16 and record["test_passes_begun"] == 1
    assert record["metrics"]["accuracy"] == pytest.approx(whole["metrics"]["accuracy"])


# --- renaming ------------------------------------------------------------------------------------


def old_folder(tmp_path: Path) -> Path:
    """A folder with one record of today, under a name as they were before."""
    (path,) = list(RESULTS.glob("maml-glyphs-5w1s-paper-quick-s0-*.json"))
    record = {k: v for k, v in json.loads(path.read_text()).items() if k != "checksum"}
    folder = tmp_path / "old"
    folder.mkdir()
    write_record(folder / "maml-0badcafe.json", {**record, "run": "maml-0badcafe"})
    (folder / "maml-0badcafe.npz").write_bytes(path.with_suffix(".npz").read_bytes())
    return folder


def test_records_are_renamed_and_else_as_they_were(tmp_path):
    folder = old_folder(tmp_path)
    before = json.loads((folder / "maml-0badcafe.json").read_text())
    renamed, kept = rename_records(folder)
    new = renamed["maml-0badcafe"]
    assert not kept and new.startswith("maml-glyphs-5w1s-paper-quick-s0-")
    assert sorted(path.name for path in folder.iterdir()) == [f"{new}.json", f"{new}.npz"]
    after = json.loads((folder / f"{new}.json").read_text())
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"run", "checksum"}
    frame, _ = zoo.reports.records.load(folder)
    assert frame["checksum"].item() == "holds"
    assert rename_records(folder) == ({}, {})


def test_a_rename_that_was_killed_goes_on(tmp_path, monkeypatch):
    folder = old_folder(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(Path, "unlink", lambda *a, **k: (_ for _ in ()).throw(KilledError))
        rename_records(folder)
    renamed, kept = rename_records(folder)
    assert not kept and len(list(folder.iterdir())) == 2 and len(renamed) == 1


def test_of_two_records_of_a_run_the_first_stays(tmp_path):
    folder = old_folder(tmp_path)
    content = json.loads((folder / "maml-0badcafe.json").read_text())
    rename_records(folder)
    second = {k: v for k, v in content.items() if k != "checksum"}
    second |= {"run": "maml-second", "test_passes_begun": 3}
    write_record(folder / "maml-second.json", second)
    renamed, kept = rename_records(folder)
    assert not renamed and "was there first" in kept["maml-second.json"]
    assert (folder / "maml-second.json").exists()


def test_an_edited_record_keeps_its_name(tmp_path):
    folder = old_folder(tmp_path)
    path = folder / "maml-0badcafe.json"
    path.write_text(path.read_text().replace('"test_passes_begun": 1', '"test_passes_begun": 2'))
    renamed, kept = rename_records(folder)
    assert not renamed and "checksum does not match" in kept[path.name]
