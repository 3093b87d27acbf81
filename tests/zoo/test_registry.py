"""Registers and variants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import UsageError
from zoo.registry import Registry, benchmarks, learners, usual_learners
from zoo.values import LARGEST
from zoo.variants import format_variant, parse_variant, split_variants


def test_the_zoo_has_its_learners_and_benchmarks():
    assert {"maml", "protonet"} <= set(learners.names())
    assert {"glyphs", "omniglot", "miniimagenet", "cifarfs", "fc100"} <= set(benchmarks.names())


def test_a_learner_may_be_in_tables_by_name_alone():
    assert {*learners.names()} - {*usual_learners(of_tables=True)} == {"vsml"}
    assert {*usual_learners(of_tables=True)} - {*usual_learners()} == {"linear", "mean"}


def test_an_unknown_key_is_named_back():
    with pytest.raises(UsageError, match="no learner 'mamml': did you mean 'maml'"):
        learners.get("mamml")
    with pytest.raises(UsageError, match=r"no learner 'xyz': choose from .*protonet"):
        learners.get("xyz")


def test_a_file_is_found_without_importing_it(tmp_path):
    (tmp_path / "mine.py").write_text(
        '"""My Paper (Me, 2030)."""\nraise RuntimeError\n'
        '@register("mine")\nclass Mine:\n    """Does it.\n\n    At length."""\n'
    )
    registry = Registry("learner", "register", "folder", tmp_path)
    assert registry.names() == ["mine"]
    assert registry.entries["mine"] == ("folder.mine", "Does it.", "My Paper (Me, 2030).")


def test_a_key_taken_twice_names_both(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text('@register("mine")\ndef f(): pass\n')
    with pytest.raises(UsageError, match=r"'mine' is registered twice: by p\.one and by p\.two"):
        Registry("learner", "register", "p", tmp_path).names()


@pytest.mark.parametrize(
    ("text", "key", "overrides"),
    [
        ("maml", "maml", {}),
        ("maml[first_order=true,inner_lr=0.1]", "maml", {"first_order": True, "inner_lr": 0.1}),
        ("a[clip=null, b=x]", "a", {"clip": None, "b": "x"}),
        ("a[host=maml[inner_lr=1,steps=2],k=3]", "a", {"host": "maml[inner_lr=1,steps=2]", "k": 3}),
        ("a[b=*,c='x]", "a", {"b": "*", "c": "'x"}),
        ("omniglot[split=1200/423]", "omniglot", {"split": "1200/423"}),
    ],
)
def test_variants(text, key, overrides):
    assert parse_variant(text) == (key, overrides)
    assert parse_variant(format_variant(key, overrides)) == (key, overrides)


@pytest.mark.parametrize("text", ["maml[a=1", "maml[a]", "maml[=1]", "maml[a=[b]"])
def test_bad_variants_are_named(text):
    with pytest.raises(UsageError) as error:
        parse_variant(text)
    assert "\n" not in str(error.value) and text.partition("[")[2].rstrip("]")[:1] in str(
        error.value
    )


def test_lists_of_variants():
    assert split_variants("a[x=1,y=2], b c,d") == ["a[x=1,y=2]", "b", "c", "d"]


names = st.text("abcdefg_", min_size=1)
values = (
    st.none()
    | st.booleans()
    | st.integers(-LARGEST, LARGEST)
    | st.floats(allow_nan=False, allow_infinity=False)
)


@given(names, st.dictionaries(names, values))
def test_variants_survive_a_round_trip(key, overrides):
    assert parse_variant(format_variant(key, overrides)) == (key, overrides)


def test_a_register_is_used_like_a_dictionary():
    assert [*learners] == learners.names() and len(learners) == len(learners.names())
    assert learners["maml"] is learners.get("maml")
    assert "maml" in learners and "mamml" not in learners
    with pytest.raises(UsageError, match="no learner 'mamml': did you mean 'maml'"):
        _ = learners["mamml"]


@pytest.mark.parametrize(
    "key",
    ["", "my learner", "my\nlearner", "my/learner", "x" * 300, "größe", "-x", "a[b]", "all", 5],
)
def test_a_key_that_could_not_be_written_everywhere_is_refused(key):
    with pytest.raises(UsageError) as error:
        learners.register(key)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250
    assert key not in learners
