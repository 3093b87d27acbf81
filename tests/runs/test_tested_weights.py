"""Trained weights tested elsewhere: nothing is trained, and the record says what was done."""

import json

import numpy as np
import pytest

from tests.conftest import blobs
from tests.runs.test_run import SMALL, numbers_of, plan
from tests.runs.test_weights import SHORT
from zoo.commands.rename_records import rename_records
from zoo.datasets.benchmarks.image_sets import Omniglot
from zoo.errors import UsageError
from zoo.reports import records
from zoo.runs.named_weights import find_weights
from zoo.runs.record import write_record
from zoo.runs.request import RunRequest
from zoo.runs.run import Run
from zoo.runs.tested_weights import TESTED_FOLDER, WeightsTest
from zoo.runs.weights import weights_path
from zoo.runs.workspace import Workspace


@pytest.fixture(scope="module")
def trained(stores, tmp_path_factory):
    """Runs by learner, made once."""
    folder = tmp_path_factory.mktemp("trained")
    runs = {name: plan(folder, stores, name, flags=SHORT) for name in ("protonet", "maml")}
    for run in runs.values():
        run.execute(progress=False)
    return runs


@pytest.fixture
def tested(trained, stores, tmp_path, monkeypatch):
    """Plans a test of the weights of one of these runs; nothing may be trained."""
    monkeypatch.setattr(Run, "train", None)

    def make(learner="protonet", benchmark="glyphs", stores=stores, **options):
        weights = find_weights(weights_path(trained[learner].record_path))
        place = Workspace(results=tmp_path / "results", runs=tmp_path / "runs", threads=1)
        return WeightsTest(weights, benchmark, place, stores, **options)

    return make


@pytest.mark.parametrize("learner", ["protonet", "maml"])
def test_on_its_own_test_it_is_the_run_to_the_digit(learner, tested, trained):
    run = trained[learner]
    same, record = tested(learner), run.record()
    again = same.execute(progress=False)
    assert again["metrics"] == record["metrics"] and again["episodes"] == record["episodes"]
    ours, theirs = numbers_of(same), numbers_of(run)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    for what in ("validation", "tested_update", "settings", "stages", "training_tasks", "variant"):
        assert again[what] == record[what]
    for what in ("train", "updates", "updates_cpu"):
        assert again["seconds"][what] == record["seconds"][what], "what the weights cost"
    assert again["updates"] == {"total": 4, "executed_by_this_process": 0}
    assert again["weights"] is None and again["weights_of"] == run.name


def test_the_record_is_of_its_own_kind(tested, trained, tmp_path):
    run, record = trained["protonet"], trained["protonet"].record()
    test = tested(benchmark="omniglot", stores={"test": blobs(40, seed=9)}, shot=5, query=2)
    made = test.execute(progress=False)
    assert test.record_path.parent == tmp_path / "results" / TESTED_FOLDER
    assert test.name.startswith(f"{run.name}-on-omniglot-5w5s-") and made["run"] == test.name
    assert made["trained_on"] == {
        "benchmark": "glyphs", "data": record["data"]["fingerprint"],
        "weights": record["weights"]["hash"], "mean": [0.0], "std": [1.0],
    }  # fmt: skip
    assert (made["benchmark"], made["way"], made["shot"]) == ("omniglot", 5, 5)
    assert made["settings"]["query"] == {"value": 2, "origin": "flag", "source": ""}
    assert [*made["data"]["splits"]] == ["test"], "the benchmark's training images play no part"
    found = json.loads(test.record_path.read_text())
    assert found == made == test.record(), "its identity follows from its record"
    frame, problems = records.load(test.record_path.parent)
    assert not problems and list(frame["run"]) == [test.name]


def test_another_shape_count_or_weights_are_another_test(tested, stores):
    other = {"test": blobs(40, seed=9)}
    names = [
        tested(**options).name
        for options in (
            {}, {"shot": 2}, {"way": 3}, {"query": 2}, {"test_episodes": 5}, {"stores": other},
            {"benchmark": "omniglot"},
        )
    ]  # fmt: skip
    assert len({*names}) == len(names) and names[0] == tested().name


def test_queries_are_those_of_the_run_at_home_and_the_benchmarks_elsewhere(tested):
    assert tested()["query"] == SMALL["query"] == 3
    assert tested(benchmark="omniglot")["query"] == 5


def test_the_normalisation_is_that_of_the_weights(tested, monkeypatch):
    """Where the benchmark has other numbers, the accuracy stays what it was."""
    before = tested(benchmark="omniglot").execute(progress=False)
    monkeypatch.setattr(Omniglot, "mean", (0.3,))
    monkeypatch.setattr(Omniglot, "std", (0.2,))
    after = tested(benchmark="omniglot")
    assert (after.data.mean, after.data.std) == ((0.0,), (1.0,))
    assert after.execute(progress=False)["metrics"] == before["metrics"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"way": 31}, "way 31: test has only 30 classes"),
        ({"shot": 18}, r"shot 18 \+ query 3: the smallest class has only 20"),
        ({"shot": 0}, "--shot 0: expected a whole number of at least 1"),
        ({"way": 1}, "--way 1: expected a whole number of at least 2"),
        ({"benchmark": "sinusoid"}, "was trained for classification, sinusoid is regression"),
        ({"benchmark": "cifarfs"}, "trained on images of 1x28x28, cifarfs has 3x32x32"),
        ({"benchmark": "glyph"}, "no benchmark 'glyph': did you mean 'glyphs'"),
        (
            {"learner": "maml", "way": 3},
            "maml has one output for each way: .* at 5 ways and is tested at 5 only, not at 3",
        ),
    ],
)
def test_what_cannot_be_tested_is_refused_in_a_line(options, said, tested):
    with pytest.raises(UsageError, match=said) as error:
        tested(**options)
    assert "\n" not in str(error.value)


def test_weights_without_their_record_or_of_another_version_are_refused(
    tested, trained, tmp_path, monkeypatch
):
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes(weights_path(trained["protonet"].record_path).read_bytes())
    with pytest.raises(UsageError, match=r"a test needs the record .*, alone\.json"):
        WeightsTest(find_weights(alone), "glyphs")
    monkeypatch.setattr(trained["protonet"].cls, "version", 2)
    with pytest.raises(UsageError, match="was trained with version 1 of protonet, this is ver"):
        tested()


def test_functions_are_tested_at_other_shots(tmp_path, monkeypatch):
    flags = {"updates": 4, "validations": 2, "val_episodes": 8, "test_episodes": 8}
    place = Workspace(results=tmp_path / "results", runs=tmp_path / "runs", threads=1)
    run = Run(RunRequest("maml", "sinusoid", shot=5, flags=flags), place)
    record = run.execute(progress=False)
    monkeypatch.setattr(Run, "train", None)
    weights = find_weights(run.name, place.results)
    same = WeightsTest(weights, "sinusoid", place).execute(progress=False)
    assert same["metrics"] == record["metrics"] and same["way"] is None
    more = WeightsTest(weights, "sinusoid", place, shot=10)
    assert more.execute(progress=False)["shot"] == 10 and "-on-sinusoid-10s-" in more.name
    with pytest.raises(UsageError, match="leave it out"):
        WeightsTest(weights, "sinusoid", place, way=5)
    with pytest.raises(UsageError, match="trained for regression, glyphs is classification"):
        WeightsTest(weights, "glyphs", place)


def test_a_record_follows_its_run_to_a_new_name(stores, tmp_path):
    """As `zoo rename-records` gives it, and the test is found again."""
    run = plan(tmp_path, stores, "protonet", flags=SHORT)
    run.execute(progress=False)
    folder = run.workspace.results
    weights = find_weights(run.name, folder)
    test = WeightsTest(weights, "glyphs", run.workspace, stores, shot=2)
    test.execute(progress=False)
    (old,) = (folder / TESTED_FOLDER).glob("*.json")
    for path in (run.record_path, old):  # named as earlier code would have
        content = json.loads(path.read_text().replace(run.name, f"old-{run.name}"))
        content.pop("checksum")
        for each in (path.with_suffix(end) for end in (".json", ".npz", ".safetensors")):
            if each.exists():
                each.rename(each.with_name(f"old-{each.name}"))
        write_record(path.with_name(f"old-{path.name}"), content)
    renamed, kept = rename_records(folder)
    assert renamed.pop(f"old-{run.name}") == run.name and not kept
    assert [*renamed.values()] == [test.name] and test.record()["weights_of"] == run.name
