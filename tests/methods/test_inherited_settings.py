"""Settings that are handed on: in signature and docstring, with their sources, and no others."""

import inspect

import pytest

from zoo import learners
from zoo.errors import UsageError
from zoo.methods.inherited_settings import takes_settings_of
from zoo.runs.settings import constructor_defaults, documentation, parse_flags


class First:
    def __init__(
        self, net: str, way: int, *, rate: float = 0.5, steps: int = 5, low: bool = False
    ) -> None:
        """The first paper's.

        Args:
            net: of all.
            way: N.
            rate: of the steps,
                in their first paper [Table 7].
            steps: how many; ``n`` [authors' code], or 0.
            low: in less memory [not in the paper].
        """
        self.given = {"net": net, "way": way, "rate": rate, "steps": steps, "low": low}


class Second(First):
    @takes_settings_of(First, without=("low",), rate=0.1)
    def __init__(self, net: str, way: int, *, mask: bool = False, **first) -> None:
        """The second paper's.

        Args:
            net: of all.
            way: N, here too.
            mask: of rows [Table 1].
            steps: how many here [Table 2].
            **first: as the first has them.
        """
        super().__init__(net, way, **first)
        self.mask = mask


class Third(Second):
    @takes_settings_of(Second, sources=True, steps=1)
    def __init__(self, net: str, way: int, *, rate: float = 0.2, **second) -> None:
        """The third paper's."""
        super().__init__(net, way, rate=2 * rate, **second)


def test_the_signature_is_what_may_be_given():
    """Own parameters first; the parent's with their types, and with defaults of their own here."""
    assert str(inspect.signature(Second)) == (
        "(net: str, way: int, *, mask: bool = False, rate: float = 0.1, steps: int = 5)"
    )
    assert str(inspect.signature(Third)) == (
        "(net: str, way: int, *, rate: float = 0.2, mask: bool = False, steps: int = 1)"
    )
    assert "**" not in Second.__init__.__doc__


def test_the_parent_gets_what_was_given_and_else_the_default_here():
    first = {"net": "conv", "way": 5, "low": False}
    assert Second("conv", 5).given == {**first, "rate": 0.1, "steps": 5}
    given = Second("conv", way=5, rate=0.3, mask=True)
    assert given.mask and given.given == {**first, "rate": 0.3, "steps": 5}
    third = Third("conv", 5, mask=True)
    assert third.mask and third.given == {**first, "rate": 0.4, "steps": 1}


@pytest.mark.parametrize("settings", [{"low": True}, {"tempo": 1}, {"first": {}}])
def test_what_is_in_no_signature_is_refused(settings):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(settings))}'"):
        Second("conv", 5, **settings)
    with pytest.raises(TypeError, match="missing a required argument: 'way'"):
        Second("conv")


def test_a_default_of_what_the_parent_has_not_is_a_mistake():
    with pytest.raises(KeyError, match="tempo"):
        takes_settings_of(First, tempo=1)(Second.__init__)


def test_words_are_inherited_and_sources_only_where_asked():
    """A source is a place in the parent's paper; the learner's own words win."""
    assert Second.__init__.__doc__.startswith("The second paper's.\n\nArgs:\n    net: of all.\n")
    second, third = documentation(Second), documentation(Third)
    assert second["rate"] == "of the steps, in their first paper."
    assert second["way"] == "N, here too."
    assert third["mask"] == "of rows [Table 1]."
    assert third["steps"] == "how many here [Table 2]."
    sources = {name: setting.source for name, setting in constructor_defaults(Second).items()}
    assert (sources["rate"], sources["mask"], sources["steps"]) == ("", "Table 1", "Table 2")
    assert "low" not in second


def test_the_parser_knows_the_types():
    assert parse_flags(Second, ["--rate", "0.25", "--mask", "true"]) == {"rate": 0.25, "mask": True}
    with pytest.raises(UsageError, match="steps"):
        parse_flags(Second, ["--steps", "many"])
    with pytest.raises(UsageError, match="no flag --low"):
        parse_flags(Second, ["--low", "true"])


@pytest.mark.parametrize(
    ("key", "without"),
    [
        ("anil", {"preconditioner", "step_rates", "multi_step", "memory"}),
        ("metasgd", {"inner_lr", "preconditioner", "step_rates", "multi_step"}),
        ("tnet", {"preconditioner", "step_rates", "multi_step"}),
        ("trlearner", {"multi_step"}),
    ],
)
def test_learners_that_take_mamls_settings(key, without):
    maml, cls = (inspect.signature(learners.get(name)).parameters for name in ("maml", key))
    assert maml.keys() - cls.keys() == without
    for name in maml.keys() & cls.keys():
        assert cls[name].annotation == maml[name].annotation, name
    for name in without:
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            learners.get(key)(None, 5, **{name: 1})
    if "inner_lr" in cls:
        assert parse_flags(learners.get(key), ["--inner_lr", "0.1"]) == {"inner_lr": 0.1}
