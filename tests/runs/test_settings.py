"""Settings: which value wins, and that the file says nothing that no learner has."""

import re
from dataclasses import replace
from itertools import product
from typing import Literal

import pytest

from zoo import learners
from zoo.datasets.benchmarks.base import TORCHMETA, find_benchmark
from zoo.errors import UsageError
from zoo.networks.backbone import build_backbone
from zoo.registry import backbones, benchmarks, learner_of
from zoo.runs.request import RunRequest
from zoo.runs.settings import (
    SHARED_SETTING_NAMES,
    Protocol,
    constructor_defaults,
    documentation,
    load_rows,
    paper_tasks,
    parse_flags,
    parse_values,
    resolve,
    settings_rows,
)

ROWS = settings_rows()
MAML = learners.get("maml")
NO_EPISODES = [
    "finetune",
    "linear",
    "mean",
    "pixelnn",
    "pretrained",
]  # learn in none, nor of equal terms
TERMS, BUDGETS = ("paper", "equal"), ("smoke", "quick", "hour", "paper")
JOB = RunRequest("maml", "omniglot", 5, 1, "paper", "quick")


def solve(job=JOB, rows=ROWS, **options):
    return resolve(replace(job, **options), learners.get(job.learner), rows, query=5)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row["when"]))
def test_every_key_of_the_file_is_an_argument(row):
    chosen = row["when"].get("learner", learners.names())
    for key in [chosen] if isinstance(chosen, str) else chosen:
        known = constructor_defaults(learner_of(key)[1])
        if "learner" in row["when"]:
            assert set(row["set"]) <= set(known)
        else:
            assert set(row["set"]) <= SHARED_SETTING_NAMES
    chosen = row["when"].get("benchmark", [])
    for name in [chosen] if isinstance(chosen, str) else chosen:
        # Loaders of torchmeta are made by a function, which rows do not name.
        assert name in TORCHMETA or find_benchmark(name).variant == name
    assert row["source"]


@pytest.mark.parametrize("key", learners.names())
@pytest.mark.parametrize("benchmark", benchmarks.names())
def test_every_combination_resolves(key, benchmark):
    """Whatever the terms, the budget and the shots."""
    names = set()
    for terms, budget, shot in product(TERMS, ("none", *BUDGETS), (1, 5)):
        job = RunRequest(key, benchmark, 5, shot, terms, budget)
        settings, changed = solve(job)
        names.add(settings["backbone"].value)
        assert not changed, job
        untrained = budget == "none" or key in NO_EPISODES
        assert (settings["updates"].value == 0) == untrained, job
    for name in names:
        build_backbone(name, (3, 84, 84))


@pytest.mark.parametrize("key", learners.names())
def test_every_setting_is_documented(key):
    cls = learners.get(key)
    assert set(constructor_defaults(cls)) <= set(documentation(cls))


HOSTS = ("anil", "maml", "metasgd", "protonet", "tnet")
HOSTED = [
    (host, benchmark)
    for host in HOSTS
    for benchmark in ("omniglot", "miniimagenet", "cifarfs", "glyphs", "sinusoid")
    if (host, benchmark) != ("protonet", "sinusoid")  # no regression
]


@pytest.mark.parametrize(("host", "benchmark"), HOSTED)
@pytest.mark.parametrize("budget", BUDGETS)
def test_a_plug_in_has_its_hosts_settings(host, benchmark, budget):
    """But ProtoNet's one task an update: four; and fewer updates where one takes three times."""
    job = RunRequest(host, benchmark, 5, 1, "paper", budget)
    own, _ = solve(job)
    variant = f"trlearner[host={host}]"
    theirs, _ = resolve(replace(job, learner="trlearner"), learner_of(variant)[1], ROWS, query=5)
    differ = {name for name in own.keys() & theirs.keys() if own[name][:2] != theirs[name][:2]}
    assert own.keys() - theirs.keys() <= {"multi_step"}
    tasks = [s["meta_batch"].value * s["updates"].value for s in (own, theirs)]
    if host == "protonet":
        assert differ <= {"meta_batch", "updates"}
        assert budget == "smoke" or tasks[1] == pytest.approx(tasks[0], rel=0.07)
    elif budget == "hour" and benchmark != "sinusoid":
        assert differ == {"updates"} and tasks[1] < tasks[0]
    elif (
        budget == "quick"
        and host != "anil"
        and benchmark in ("omniglot", "cifarfs", "miniimagenet")
    ):
        assert differ == {"updates"} and tasks[1] < tasks[0]
    else:
        assert not differ


def layers(*names):
    when = {"settings": {}, "terms": {"terms": "paper"}, "budget": {"budget": "quick"}}
    rows = [{"when": when[n], "set": {"inner_lr": i}, "source": n} for i, n in enumerate(names)]
    return solve(rows=rows)[0]["inner_lr"]


def test_who_wins():
    assert solve(rows=[])[0]["inner_lr"].origin == "constructor"
    assert layers("settings").origin == "settings"
    assert layers("terms", "settings") == (0, "terms", "terms")
    assert layers("budget", "terms", "settings") == (0, "budget", "budget")
    settings, changed = solve(config={"inner_lr": 7.0, "clip": 1.0}, flags={"inner_lr": 8.0})
    assert settings["inner_lr"][:2] == (8.0, "flag") and settings["clip"][:2] == (1.0, "config")
    assert changed == {"inner_lr": 8.0, "clip": 1.0}


def test_a_flag_that_changes_nothing_is_no_change():
    default = solve()[0]["inner_lr"].value
    assert solve(flags={"inner_lr": default})[1] == {}


def test_the_papers_rates_are_for_the_mean_loss():
    """0.4, 0.1 and 0.01 on a loss summed over 5, 20 and 5 ways."""
    job = RunRequest("maml", "omniglot", 5, 1, "paper", "paper")
    assert solve(job)[0]["inner_lr"].value == 0.4 * 5
    assert solve(replace(job, way=20))[0]["inner_lr"].value == 0.1 * 20
    assert solve(replace(job, benchmark="miniimagenet"))[0]["inner_lr"].value == 0.01 * 5
    for shot in (1, 5):  # +-10 on the authors' sum
        clip = solve(replace(job, benchmark="miniimagenet", shot=shot))[0]["clip"].value
        assert clip == pytest.approx(10 * shot / (5 * 15), abs=1e-3)


@pytest.mark.parametrize("benchmark", benchmarks.names())
def test_equal_terms_are_equal(benchmark):
    for budget, (way, shot) in product(BUDGETS, [(5, 1), (5, 5), (20, 1)]):
        first = None
        for key in learners.names():
            if key not in NO_EPISODES:
                job = RunRequest(key, benchmark, way, shot, "equal", budget)
                settings, _ = solve(job)
                values = {name: settings[name].value for name in Protocol.__dataclass_fields__}
                first = first or values
                assert values == first, job
        assert first


def test_the_papers_tasks_are_known_or_not():
    assert paper_tasks(JOB, ROWS) == 60000 * 32
    assert paper_tasks(replace(JOB, benchmark="miniimagenet", shot=5), ROWS) == 60000 * 2
    assert paper_tasks(replace(JOB, benchmark="cifarfs"), ROWS) is None
    assert paper_tasks(replace(JOB, learner="protonet"), ROWS) is None


def test_train_shape_follows_the_test():
    job = RunRequest("maml", "miniimagenet", 7, 3, "paper", "quick")
    settings, _ = solve(job, flags={"query": 11})
    assert [settings[f"train_{p}"].value for p in ("way", "shot", "query")] == [7, 3, 11]


@pytest.mark.parametrize("budget", ["none", "quick"])
@pytest.mark.parametrize("key", learners.names())
def test_the_budgets_of_enlarged_cifar_are_those_of_images_as_large(key, budget):
    names = ("updates", "meta_batch", "val_episodes", "test_episodes", "pretrain_updates")
    resolved = []
    for benchmark in ("miniimagenet", "cifarfs[size=84]", "fc100[size=84]"):
        settings, _ = solve(RunRequest(key, benchmark, 5, 1, "paper", budget))
        resolved.append({name: settings[name].value for name in names})
    for other in resolved[1:]:
        assert other | {"meta_batch": 0} == resolved[0] | {"meta_batch": 0}
        assert other["meta_batch"] <= resolved[0]["meta_batch"]


def test_benchmark_options_take_the_benchmarks_rows():
    with_option, without = solve(replace(JOB, benchmark="omniglot[split=1200/423]"))[0], solve()[0]
    assert {n: s.value for n, s in with_option.items()} == {n: s.value for n, s in without.items()}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: parse_flags(MAML, ["--inner_lrr", "1"]), "--inner_lrr: did you mean 'inner_lr'"),
        (lambda: parse_flags(MAML, ["--inner_lr", "much"]), "--inner_lr 'much': expected a number"),
        (lambda: parse_flags(MAML, ["loose"]), "'loose': expected a flag"),
        (lambda: parse_values(MAML, {"clipp": 1}, "x.yaml"), "x.yaml: no setting 'clipp': did you"),
        (lambda: parse_values(MAML, {"clip": "a"}, "x.yaml"), "x.yaml: clip 'a': expected"),
        (lambda: solve(flags={"meta_batch": 0}), "--meta_batch 0: expected"),
        (lambda: solve(flags={"updates": -1}), "--updates -1: expected"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(call, says):
    with pytest.raises(UsageError) as error:
        call()
    assert says in str(error.value) and "\n" not in str(error.value)


def test_types_are_kept():
    parsed = parse_flags(MAML, ["--inner_lr=1", "--clip", "null", "--first_order", "true"])
    assert parsed == {"inner_lr": 1.0, "clip": None, "first_order": True}


def test_a_bad_file_is_named(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("- when: {lerner: maml}\n  set: {}\n")
    with pytest.raises(UsageError, match=r"s\.yaml: selector 'lerner': did you mean 'learner'"):
        load_rows(path)
    path.write_text("- when: {")
    with pytest.raises(UsageError, match=r"s\.yaml: cannot be read"):
        load_rows(path)


def test_backbones_are_registered():
    assert {"conv4", "conv4_strided"} <= set(backbones.names())


PICTURES = ("miniimagenet", "tieredimagenet", "cifarfs", "fc100", "cub", "folder")


@pytest.mark.parametrize("benchmark", benchmarks.names())
@pytest.mark.parametrize("key", learners.names())
def test_images_are_augmented_on_equal_terms_and_characters_never(key, benchmark):
    """Under terms paper none: no paper of ours says that it does."""
    asked = RunRequest(key, benchmark, 5, 5, "equal", "quick")
    expected = "shift flip" if benchmark in PICTURES and key not in NO_EPISODES else ""
    assert solve(asked)[0]["augment"].value == expected
    assert solve(asked, terms="paper")[0]["augment"].value == ""


def test_functions_are_validated_on_enough_tasks_to_see_what_diverges():
    for benchmark, budget in product(("sinusoid", "gp", "completion"), ("quick", "paper")):
        for key, tasks in (("anil", 2000), ("cnp", 2000), ("snail", 200)):
            asked = RunRequest(key, benchmark, None, 5, "paper", budget)
            assert solve(asked)[0]["val_episodes"].value == tasks, asked


class WithOtherTypes:
    """A learner's constructor as a plug-in may have it."""

    def __init__(
        self,
        backbone: object,
        way: int,
        *,
        kind: Literal["a", "b"] = "a",
        sizes: list[int] = (1,),  # type: ignore[assignment]
        either: int | str = 1,
        bare=3,
    ) -> None:
        """Of types that are read by jsonargparse.

        Args:
            backbone: a network.
            way: N.
            kind: one of two.
            sizes: several.
            either: of two types.
            bare: of no type.
        """


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        (["--kind", "b"], "b"),
        (["--sizes", "[1, 2]"], [1, 2]),
        (["--either", "5"], 5),
        (["--either=x y"], "x y"),
        (["--bare", "4"], 4),
        (["--bare", "4.5"], 4.5),
    ],
)
def test_settings_of_other_types(flag, value):
    (found,) = parse_flags(WithOtherTypes, flag).values()
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("flag", "says"),
    [(["--kind", "c"], '"kind": Expected'), (["--sizes", "[1,x]"], '"sizes": Expected'),
     (["--sizes", "[1e400]"], "--sizes '[1e400]': expected"), (["--bare", "9" * 40], "15 digits")],
)  # fmt: skip
def test_bad_settings_of_other_types(flag, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        parse_flags(WithOtherTypes, flag)


def test_a_setting_may_be_negative_where_the_learner_says_so():
    vsml = learners.get("vsml")
    request = replace(JOB, learner="vsml", benchmark="glyphs")
    settings, _ = resolve(replace(request, flags={"gate_bias": -1.0}), vsml, ROWS, query=5)
    assert settings["gate_bias"].value == -1.0
    with pytest.raises(UsageError, match=r"--bound -1\.0: expected a number of at least 0"):
        resolve(replace(request, flags={"bound": -1.0}), vsml, ROWS, query=5)
