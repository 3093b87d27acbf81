from itertools import combinations

import pandas as pd
import pytest

from zoo.reports.published import TRANSDUCTIVE, match, published, remarks

CELL = ["learner_key", "benchmark_key", "backbone_key", "way", "shot", "metric"]
FRAME = published()
PRIMARY = FRAME[FRAME["primary"] == 1]


def run(learner, benchmark="miniimagenet", shot=1, variant=None, way=5, family="conv4", **settings):
    return {
        "learner": learner,
        "benchmark": benchmark,
        "backbone_family": family,
        "way": way,
        "shot": shot,
        "variant": variant or {},
        "settings": settings | (variant or {}),
        "transductive": False,
    }


def pairs(row):
    return dict(pair.split("=") for pair in row["settings"].split(";") if pair)


def run_of(row, overrides):
    """The run whose settings are the row's pairs, overridden by the user or not."""
    cell = {"way": row["way"], "shot": row["shot"], "family": row["backbone_key"]}
    bare = run(row["learner_key"], row["benchmark_key"], **cell)
    return bare | {"settings": pairs(row), "variant": pairs(row) if overrides else {}}


def printed(found):
    return None if found is None else found["printed"]


def test_every_row_is_well_formed():
    assert len(FRAME) == 881
    allowed = {
        "transductive": {"yes", "no", "?"},
        "augmentation": {"yes", "no", "?"},
        "pretrained": {"yes", "no", "?"},
        "ci_over": {"episodes", "seeds", "std", "?", ""},
        "origin": {"own", "quoted", "rerun"},
        "confidence": {"read", "secondary", "remembered"},
        "primary": {0, 1},
    }
    for column, values in allowed.items():
        assert set(FRAME[column]) <= values, column
    for column in ("ensemble", "queries", "episodes"):
        assert FRAME[column].str.fullmatch(r"\d+|\?|-").all(), column
    assert FRAME["value"].notna().all()
    assert (FRAME["ci95"].isna() == (FRAME["ci_over"] == "")).all()
    accuracy = FRAME[FRAME["metric"].str.startswith("accuracy")]
    assert accuracy["value"].between(1, 100).all()
    assert (FRAME["source"] != "").all() and (FRAME["read_in"] != "").all()
    for text in FRAME["settings"]:
        names = [pair.split("=")[0] for pair in text.split(";") if pair]
        assert names == sorted(set(names)), text


def settings_class(row):
    """What published.md counts as one setting when it chooses the primary row."""
    own = {("omniglot", 1): "60", ("omniglot", 5): "60"}
    own |= {("miniimagenet", 1): "30", ("miniimagenet", 5): "20"}
    benchmark, chosen = row["benchmark_key"], pairs(row)
    if row["learner_key"] == "protonet":
        free = row["backbone_key"] != "conv4" or benchmark not in ("omniglot", "miniimagenet")
        if free or chosen.get("train_way") == own.get((benchmark, row["shot"])):
            chosen.pop("train_way", None)
    if row["learner_key"] == "matchingnet" and benchmark == "miniimagenet":
        chosen.setdefault("fce", "true")
    return str(sorted(chosen.items()))


def test_each_group_has_exactly_one_primary_row():
    numbers = FRAME[(FRAME["learner_key"] != "") & (FRAME["backbone_key"] != "?")]
    numbers = numbers[numbers["split"] != "vinyals80-20"]
    numbers = numbers[~numbers["metric"].str.startswith("claimed")]
    numbers = numbers.assign(chosen=numbers.apply(settings_class, axis=1))
    numbers.loc[numbers["learner_key"] == "mann", "shot"] = pd.NA  # the instance says it
    groups = numbers.groupby([*CELL, "chosen"], dropna=False)["primary"].sum()
    assert len(groups) == 278 and set(groups) == {1}
    assert len(PRIMARY) == 278


def test_every_primary_row_is_the_match_of_its_own_run():
    for index, row in PRIMARY.iterrows():
        for overrides in (False, True):
            found = match(run_of(row, overrides), FRAME, row["metric"])
            assert found is not None and found.name == index, row["source"]


def test_an_override_that_no_row_names_excludes_every_row():
    for _, row in PRIMARY.iterrows():
        changed = run_of(row, overrides=True)
        changed["variant"] = changed["settings"] = changed["settings"] | {"outer_lr": 0.5}
        assert match(changed, FRAME, row["metric"]) is None


def test_of_rows_with_equal_claims_to_a_run_none_is_taken():
    ties = 0
    for _, rows in PRIMARY.groupby(CELL, dropna=False):
        assert rows["settings"].is_unique
        for (_, a), (_, b) in combinations(rows.iterrows(), 2):
            both = pairs(a) | pairs(b)
            if len(pairs(a)) == len(pairs(b)) and both == pairs(b) | pairs(a):
                ties += 1
                found = match(run_of(a, True) | {"settings": both, "variant": both}, FRAME)
                assert found is None or pairs(found) == both
    assert ties  # such as first_order=true beside inner_steps=1


@pytest.mark.parametrize(
    ("case", "number"),
    [
        (run("protonet", "omniglot", train_way=60), "98.8"),
        (run("protonet", "omniglot[split=1200/423]", train_way=60), "98.8"),
        (run("protonet", "omniglot", train_way=5), "97.4"),
        (run("protonet", "omniglot", train_way=7), None),
        (run("protonet", "omniglot"), None),
        (run("maml", first_order=False, inner_steps=5), "48.70 ± 1.84"),
        (run("maml", variant={"first_order": True}), "48.07 ± 1.75"),
        (run("maml", first_order=True), "48.07 ± 1.75"),
        (run("maml", variant={"inner_lr": 0.1}), None),
        (run("maml", variant={"inner_steps": 1}), "44.40"),
        (run("maml", variant={"inner_steps": 2}), None),
        (run("maml", variant={"updates": 9000, "validations": 9, "inner_steps": 1}), "44.40"),
        (run("maml", variant={"inner_steps": 1, "first_order": True}), None),
        (run("maml", first_order=True, inner_steps=1), "48.07 ± 1.75"),  # a tie: the first
        (run("maml", shot=5, family="resnet12"), "69.54 ± 0.38"),
        (run("maml", shot=3), None),
        (run("maml", way=None), None),
        (run("reptile", "omniglot", transductive=True), "97.68 ± 0.04"),
        (run("matchingnet", "omniglot", fce=False, distance="cosine"), "98.1"),
        (run("matchingnet", "omniglot", fce=False, variant={"distance": "l2"}), "98.3"),
        (run("matchingnet", "omniglot", fce=False, variant={"normalise": "both"}), "98.1"),
        (run("matchingnet", "omniglot", fce=False, variant={"normalise": "support"}), "98.1"),
        (run("matchingnet", "omniglot", fce=False, variant={"normalise": "none"}), None),
        (run("finetune", head="linear", pretrain_head="linear"), "42.11 ± 0.71"),
        (run("finetune", variant={"head": "cosine"}, pretrain_head="linear"), None),
        (run("finetune", variant={"head": "cosine", "pretrain_head": "cosine"}), "48.24 ± 0.75"),
        (run("", "omniglot"), None),
        (run("MAML++", "miniimagenet"), None),
    ],
)
def test_match(case, number):
    assert printed(match(case, FRAME)) == number


def test_a_regression_run_has_no_way():
    sinusoid = run("maml", "sinusoid", shot=5, way=None, family="mlp")
    assert printed(match(sinusoid, FRAME, "mse")) == "0.35"
    assert match(sinusoid, FRAME) is None


@pytest.mark.parametrize(
    ("instance", "number"), [(1, "36.4"), (2, "82.8"), (10, "98.1"), (6, None)]
)
def test_an_instance_says_the_shot(instance, number):
    mann = run("mann", "omniglot", shot=9, family="lstm_memory", protocol="instances")
    assert printed(match(mann, FRAME, f"accuracy@instance{instance}")) == number
    assert match(mann, FRAME) is None


def test_remarks_name_each_departure():
    omniglot = run("maml", "omniglot", query=5)
    assert remarks(match(omniglot, FRAME), omniglot) == [
        TRANSDUCTIVE,
        "published: split 1200/423, the same test classes",
        "published: 1 query a class",
    ]
    averaged = run("maml", family="resnet12", query=15)
    assert remarks(match(averaged, FRAME), averaged) == [
        TRANSDUCTIVE,
        "published: average of 5 models",
        "published: re-run by a later paper",
    ]
    quoted = run("cnp", "omniglot[split=1200/423]", query=5)
    assert remarks(match(quoted, FRAME), quoted) == ["published: remembered, not yet read"]
    assert "published: interval over 3 seeds" in remarks(
        match(run("reptile", transductive=True), FRAME), run("reptile")
    )
    elsewhere = run("snail", "omniglot", query=1, split="lake")
    assert remarks(match(elsewhere, FRAME), elsewhere) == [
        "published: split 1200/423, other test classes",
        "published: paper writes 1632 classes and 1200/432: a slip",
    ]
    inductive = run("protonet", "omniglot", train_way=60, query=5)
    note = "published: trained with the test shot, 60 classes; trained on train+val"
    assert remarks(match(inductive, FRAME), inductive) == [note]
    assert remarks(match(inductive, FRAME), inductive | {"transductive": True}) == [
        "published: not transductive, our run is",
        note,
    ]
