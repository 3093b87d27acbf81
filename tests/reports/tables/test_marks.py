"""What tables say of agreement with papers, of seeds, and of records that are not whole."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.tables.test_comparison import frame as frame  # a fixture
from tests.reports.tables.test_comparison import record
from tests.support.table_cells import cells_under, note_texts, texts_under
from zoo.reports.estimates import Estimate, estimate
from zoo.reports.published import AGREEMENT, BELOW, REACHED, agreement, published, remarks
from zoo.reports.records import checksum, load, values
from zoo.reports.tables.cells import doubts
from zoo.reports.tables.comparison import compared_rows, comparison_numbers, comparison_table
from zoo.reports.tables.two_terms import ranks

PUBLISHED = published()
NAN = float("nan")


def plus_minus(value, half):
    return Estimate(value, value - half, value + half)


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (plus_minus(95.0, 0.3), (95.42, 0.3), ""),  # 0.3 hypot 0.3 is 0.424
        (plus_minus(95.0, 0.3), (95.43, 0.3), BELOW),
        (plus_minus(95.0, 0.3), (94.58, 0.3), ""),
        (plus_minus(95.0, 0.3), (94.57, 0.3), REACHED),
        (plus_minus(95.0, 0.3), (95.42, NAN), ""),  # printed without an interval: it has ours
        (plus_minus(95.0, 0.3), (95.43, NAN), BELOW),
        (plus_minus(95.0, 0.3), (95.4, 0.0), BELOW),
        (Estimate(99.5, 99.0, 99.7), (99.8, 0.1), BELOW),  # the side that looks at the other
        (Estimate(99.5, 99.0, 99.7), (99.2, 0.1), ""),
        (plus_minus(95.0, NAN), (90.0, NAN), ""),  # without an interval there is nothing to say
        (Estimate(95.0), (90.0, 0.1), ""),
        (Estimate(NAN), (95.5, NAN), ""),  # nothing was measured
    ],
)
def test_agreement_is_by_the_interval_of_the_difference(ours, theirs, found):
    assert agreement(ours, *theirs) == found


@given(*[st.floats(-1e3, 1e3)] * 2, *[st.floats(0, 10)] * 3)
def test_better_is_the_opposite_of_worse(ours, theirs, below, above, their_ci95):
    mirrored = {"": "", BELOW: REACHED, REACHED: BELOW}
    found = agreement(Estimate(ours, ours - below, ours + above), theirs, their_ci95)
    other = agreement(Estimate(-ours, -ours - above, -ours + below), -theirs, their_ci95)
    assert other == mirrored[found]


def whole(folder, *records):
    """Records with their episodes, read back."""
    for each in records:
        found = np.asarray(each.pop("values"))
        each["metrics"] = {"accuracy": {"mean": float(found.mean()), "ci95": 0.1}}
        each["episodes"] = {"split": "test", "count": len(found), "fingerprint": "same"}
        each["checksum"] = checksum(each)
        (folder / f"{each['run']}.json").write_text(json.dumps(each), encoding="utf-8")
        prediction = np.zeros((len(found), 2), np.uint8)
        np.savez(folder / f"{each['run']}.npz", accuracy=found, prediction=prediction)
    measured, problems = load(folder)
    episodes, broken = values(folder, measured)
    assert not problems and not broken
    return measured, episodes


def seeded(learner, rng, seed, **changes):
    values = changes.pop("values", rng.random(30))
    return record(learner, 1, 0.5, seed=seed, **changes) | {"values": values}


def test_several_seeds_have_the_interval_for_a_new_one(tmp_path):
    rng = np.random.default_rng(0)
    runs = [seeded("new", rng, seed) for seed in range(3)]
    every = np.stack([run["values"] for run in runs])
    measured, episodes = whole(tmp_path, *runs)
    table = comparison_table(measured, PUBLISHED, "omniglot", values=episodes)
    expected = estimate(every, "accuracy")
    (cell,) = cells_under(table, "5-way 1-shot")
    assert cell.text == f"{100 * expected.value:.2f} ± {100 * expected.half:.2f}"
    assert cell.footnotes == ["seeds 0, 1, 2"]
    assert "with several seeds for a new seed and new test episodes" in table.caption
    (line,) = comparison_numbers(measured, PUBLISHED, "omniglot", (), episodes).to_dict("records")
    ends = line["value"], line["value_low"], line["value_high"]
    assert ends == pytest.approx(tuple(expected))
    found = compared_rows(measured, "omniglot")
    assert found["seed"].tolist() == [0, 1, 2] and set(found["metric"]) == {"accuracy"}


def test_bold_and_arrows_are_where_they_should_be(tmp_path):
    rng = np.random.default_rng(0)
    spread = np.tile([-0.005, 0.005], 15)  # an interval of ± 0.18 points
    near = seeded("maml", rng, 0, values=0.986 + spread, settings={"first_order": False})
    far = seeded("protonet", rng, 0, values=0.5 + spread, settings={"train_way": 60})
    above = seeded("reptile", rng, 0, values=0.988 + spread, settings={"transductive": True})
    measured, episodes = whole(tmp_path, near, far, above)
    bold = {("5-way 1-shot", "Reptile"), ("another column", "MAML")}
    table = comparison_table(measured, PUBLISHED, "omniglot", values=episodes, bold=bold)
    learners = texts_under(table, "learner")
    theirs = dict(zip(learners, cells_under(table, "published"), strict=True))
    assert {name: cell.sign for name, cell in theirs.items()} == {
        "ProtoNet": BELOW, "Reptile": REACHED, "MAML": "",
    }  # fmt: skip
    assert table.legend == AGREEMENT and list(table.legend) == [BELOW, REACHED]
    assert [cell.bold for row in table.rows for cell in row].count(True) == 1
    assert dict(zip(learners, cells_under(table, "5-way 1-shot"), strict=True))["Reptile"].bold
    assert "In bold" in table.caption


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"checksum": "0"}, "edited since it was made: its checksum does not match"),
        ({"checksum": None}, "record without a checksum"),
        ({"environment": {"dirty": True}}, "made from uncommitted code"),
        ({"environment": {"other_commits": ["abc"]}}, "begun under another commit"),
        (
            {"environment": {"other_files": [{"file": "maml.py", "then": "1", "now": "2"}]}},
            "begun with another version of the learner's files",
        ),
        (
            {"environment": {"unchecked": ["last.ckpt"]}},
            "goes on from a file without a checksum",
        ),
        ({"test_passes_begun": 3}, "the test split was opened 3 times"),
        ({"test_passes_begun": 1, "environment": {"dirty": False, "other_commits": []}}, None),
    ],
)
def test_a_record_that_is_less_than_whole_is_marked(tmp_path, changes, says):
    each = record("new", 1, 0.5, **changes)
    if "checksum" in changes:
        each["checksum"] = changes["checksum"]
    (tmp_path / f"{each['run']}.json").write_text(json.dumps(each), encoding="utf-8")
    measured, problems = load(tmp_path)
    assert not problems
    notes = note_texts(comparison_table(measured, PUBLISHED, "omniglot"))
    assert notes == ([says] if says else [])
    assert doubts(measured.iloc[0].to_dict()) == notes


def test_a_record_that_does_not_cover_its_episodes_is_marked_beside_one_that_does(frame):
    """In a table of earlier records alone, nothing sets them apart."""
    mark = ["what each episode gave is not under the record's checksum"]
    old = [record("new", 1, 0.5), record("other", 1, 0.6, title="Other")]
    assert note_texts(comparison_table(frame(*old), PUBLISHED, "omniglot")) == []
    covered = record("third", 1, 0.7, title="Third", arrays={"results": "ab", "episodes": "cd"})
    failed = record("fourth", 1, title="Fourth")
    table = comparison_table(frame(*old, covered, failed), PUBLISHED, "omniglot")
    found = {cell.text: cell.footnotes for cell in cells_under(table, "learner")}
    assert [found[name] for name in ("New", "Other", "Third", "Fourth")] == [mark, mark, [], []]


def test_a_record_whose_episodes_are_lost_is_marked(tmp_path):
    rng = np.random.default_rng(0)
    measured, episodes = whole(tmp_path, *(seeded("new", rng, seed) for seed in range(2)))
    mark = "per-episode results are missing or damaged: not compared with other rows"
    for known, marks in ((None, 0), (episodes, 0), ({}, 1), (dict([*episodes.items()][:1]), 1)):
        table = comparison_table(measured, PUBLISHED, "omniglot", values=known)
        assert note_texts(table).count(mark) == marks


def test_the_checksum_is_of_all_but_itself():
    each = record("new", 1, 0.5)
    assert checksum(each) == each["checksum"] == checksum({**each, "checksum": "x"})
    assert checksum({**each, "seed": 1}) != each["checksum"]


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([0.5, np.nan], "accuracy of some episode is not finite"),
        ([0.5, 0.5, 0.5], "3 episodes, the record has 2"),
        ([0.5, 0.9], "its mean accuracy is 0.7, the record's 0.5"),
    ],
)
def test_episodes_that_do_not_fit_the_record_are_left_out(tmp_path, found, says):
    each = record("new", 1, 0.5, episodes={"count": 2, "fingerprint": "x"}, run="a")
    (tmp_path / "a.json").write_text(json.dumps(each), encoding="utf-8")
    np.savez(tmp_path / "a.npz", accuracy=np.array(found))
    kept, problems = values(tmp_path, load(tmp_path)[0])
    assert kept == {} and problems == [f"a.npz: left out, {says}"]


def test_a_slip_and_another_width_are_said():
    def of(row, backbone):
        run = record("x", 1, 0.5, settings={"backbone": backbone})
        run["settings"] = {name: entry["value"] for name, entry in run["settings"].items()}
        return remarks(row, run | {"transductive": False})

    wide = PUBLISHED[PUBLISHED["backbone"] == "conv4-32"].iloc[0]
    assert "published: 32 channels" in of(wide, "conv4")
    assert "published: 32 channels" not in of(wide, "conv4[channels=32]")
    slip = PUBLISHED[PUBLISHED["note"].str.contains("1200/432")].iloc[0]
    assert f"published: {slip['note']}" in of(slip, "conv4")


def test_ranks_under_two_terms(tmp_path):
    rng = np.random.default_rng(0)
    means = {"paper": {"a": 0.9, "b": 0.8, "c": 0.7}, "equal": {"a": 0.6, "b": 0.8}}
    runs = [
        seeded(name, rng, seed, terms=terms, title=name.upper(), values=np.full(4, mean),
               run=f"{name}-{terms}-{seed}")
        for terms, each in means.items() for name, mean in each.items() for seed in range(3)
    ]  # fmt: skip
    measured, episodes = whole(tmp_path, *runs)
    parts = {terms: measured[measured["terms"] == terms] for terms in means}
    table = ranks(parts, "omniglot", "Omniglot", (), episodes)
    assert texts_under(table, "rank", "5-way 1-shot") == ["1 → 2", "2 → 1", "–"]
    equal = texts_under(table, "equal", "5-way 1-shot")
    assert [text[:5] for text in equal] == ["60.00", "80.00", "–"]
    assert table.title == "Omniglot, terms paper and equal"
    alone = {terms: part[part["seed"] == 0] for terms, part in parts.items()}
    columns = [column.name for column in ranks(alone, "omniglot", "O", (), episodes).columns]
    assert columns == ["learner", "paper", "equal"]
