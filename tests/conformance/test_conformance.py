"""The battery itself: sound learners pass it, and each check catches what it is there for."""

import pytest

from tests.support.broken_learners import (
    BROKEN,
    SOUND,
    Fixed,
    Raising,
    SaysTransductive,
    Sound,
)
from zoo import learners
from zoo.commands import main
from zoo.conformance import Check, Maker, makers
from zoo.conformance.checks import on_meta
from zoo.conformance.harness import CHANGE, DONE
from zoo.conformance.resuming import BATTERY
from zoo.runs.settings import constructor_defaults


@pytest.fixture
def register(registers):
    def enter(cls: type) -> str:
        learners.register(cls.__name__)(cls)
        return cls.__name__

    return enter


def failing(key: str, without: str = "") -> dict[str, str]:
    """The checks that fail, of images or of functions, and why."""
    found = {}
    for make in makers(key):
        for check in BATTERY:
            if check.run.__name__ != without:
                verdict, why = check.verdict(make)
                if verdict == "fails":
                    found[check.run.__name__] = why
    return found


@pytest.mark.parametrize("cls", SOUND)
def test_sound_learners_pass(register, cls):
    assert not failing(register(cls))


@pytest.mark.parametrize("cls", BROKEN)
def test_a_broken_learner_is_caught_by_its_check_alone(register, cls):
    slow = "" if "resumes" in cls.breaks else "resumes"
    found = failing(register(cls), without=slow)
    assert cls.breaks[0] in found and found.keys() <= set(cls.breaks), found
    assert all(why.count(CHANGE) == 1 and "\n" not in why for why in found.values()), found


def test_every_check_catches_somebody():
    assert {check.run.__name__ for check in BATTERY} == {cls.breaks[0] for cls in BROKEN}


def test_without_parameters_what_concerns_gradients_does_not_apply(register):
    make = Maker(register(Fixed))
    verdicts = {check.run.__name__: check.verdict(make)[0] for check in BATTERY}
    assert verdicts["gradients_reach"] == verdicts["resumes"] == "n/a"
    assert verdicts["memory_does_not_grow"] == verdicts["weights_survive"] == "holds"


def test_who_asks_for_numbers_says_why():
    """Pairing classes by SciPy; and that it is not said in vain."""
    (check,) = [check for check in BATTERY if check.run.__name__ == "stays_on_device"]
    make = Maker("trlearner", {"say": "aligned", "inner_steps": 1, "test_steps": 1})
    assert check.verdict(make) == ("n/a", "`why_it_syncs` says why it must: SciPy pairs classes")
    learner, episode = make().to("meta"), on_meta(make.episode(tasks=2))
    with pytest.raises(NotImplementedError, match="meta"):
        learner.meta_loss(episode)
    encoders = Maker("trlearner", {"say": "encoders", "inner_steps": 1, "test_steps": 1})
    assert check.verdict(encoders) == ("holds", "")


def test_a_batch_norm_mode_is_checked_once():
    """The default is not tried again by its name."""
    for key in ("maml", "protonet", "trlearner"):
        default = constructor_defaults(learners.get(key))["batch_norm"].value
        modes = [m.options.get("batch_norm", default) for m in makers(key) if not m.regression]
        assert len(modes) == len(set(modes)) > 1, modes


def test_an_error_is_one_line_with_its_place(register):
    key = register(Raising)
    (check,) = [check for check in BATTERY if check.run.__name__ == "shapes"]
    verdict, why = check.verdict(Maker(key))
    assert verdict == "fails" and why.startswith("RuntimeError: a single shot is too few (")
    assert "broken_learners.py:" in why
    assert f"{DONE}`forward`, in training mode, given 4 tasks, 5-way 1-shot (support.x is (4" in why


@pytest.mark.parametrize(
    ("broken", "check", "says"),
    [
        ("Summed", "loss_is_mean_over_tasks", ["4 tasks together", "set `joint_tasks = True`"]),
        ("Ordered", "support_order", ["`sequential` is False", "set `sequential = True`"]),
        (
            "SecretlyTransductive",
            "transductive_as_it_says",
            ["among all 15 queries (difference up to 0.0", "set `transductive = True`; or, if"],
        ),
        ("SaysTransductive", "transductive_as_it_says", ["set `transductive = False`"]),
        ("Biased", "relabelled_ways", ["(difference up to 3)", "set `way_equivariant = False`"]),
        ("Squaring", "features_for_images", ["embedded alone", "set `embeds_alone = False`"]),
        ("AskingForNumbers", "stays_on_device", ["`.item()`", "says why: `why_it_syncs = "]),
        ("AlwaysFive", "shapes", ["has shape (4, 9, 5); expected (4, 9, 3)", "`episode.way`"]),
    ],
)
def test_a_message_says_what_came_out_and_which_trait_to_set(register, broken, check, says):
    cls = next(cls for cls in BROKEN if cls.__name__ == broken)
    (part,) = [part for part in BATTERY if part.run.__name__ == check]
    verdict, why = part.verdict(Maker(register(cls)))
    assert verdict == "fails" and all(words in why for words in says), why


def test_an_error_on_regression_alone_says_which_trait_to_unset(register):
    class OfLabels(Sound):
        """Takes numbers for labels."""

        def classify(self, support, query, episode):
            return super().classify(support, query, episode) + 0 * episode.support.y.one_hot

    (check,) = [check for check in BATTERY if check.run.__name__ == "shapes"]
    verdict, why = check.verdict(Maker(register(OfLabels), regression=True))
    assert verdict == "fails" and "classes alone, set `regression = False`" in why


def test_check_prints_what_holds_and_what_does_not(register, capsys, monkeypatch):
    few = [c for c in BATTERY if c.run.__name__ in ("shapes", "gradients_reach", "relabelled_ways")]
    monkeypatch.setattr("zoo.commands.learners.BATTERY", few)
    assert main(["check", "maml[inner_steps=1,first_order=true]"]) == 0
    out = capsys.readouterr().out
    assert "holds the loss has a gradient" in out and "n/a   other numbers for the classes" in out
    assert "2 hold, 0 fail, 1 do not apply" in out
    broken = register(next(cls for cls in BROKEN if cls.breaks[0] == "gradients_reach"))
    assert main(["check", "protonet", broken]) == 1
    out = capsys.readouterr().out
    assert "FAILS the loss has a gradient" in out and f"2 learners, broken: {broken}" in out
    words = " ".join(out.split())
    assert f"{broken}: after `meta_loss(episode).backward()` the parameter `spare` has no" in words
    assert f"{broken} on regression: after `meta_loss" in words
    assert words.count("What to change:") == 1  # the same of both
    assert "A trait such as" not in out and all(len(line) <= 100 for line in out.splitlines()[8:])


def test_check_tells_an_error_once_and_where_traits_are_set(register, capsys, monkeypatch):
    class Misspelt(SaysTransductive):
        """No episode has such a thing."""

        def classify(self, support, query, episode):
            return episode.suport

    few = [c for c in BATTERY if c.run.__name__ in ("shapes", "support_is_used")]
    monkeypatch.setattr("zoo.commands.learners.BATTERY", few)
    assert main(["check", register(Misspelt)]) == 1
    words = " ".join(capsys.readouterr().out.split())
    error = "AttributeError: 'Episode' object has no attribute 'suport' ("
    assert words.count(f"Misspelt: {error}") == words.count("What was done:") == 1
    assert words.count(f"Misspelt: as above, {error}") == 1
    few = [c for c in BATTERY if c.run.__name__ == "transductive_as_it_says"]
    monkeypatch.setattr("zoo.commands.learners.BATTERY", few)
    assert main(["check", register(SaysTransductive)]) == 1
    assert "A trait such as `transductive` is set in the class" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("mamml", "no learner 'mamml': did you mean 'maml'"),
        ("maml[inner=1]", "maml[inner=1]: no setting 'inner'"),
        ("maml[meta_batch=2]", "meta_batch is a setting of runs"),
        ("maml[batch_norm=running]", "batch_norm running"),
    ],
)
def test_check_refuses_in_one_line(name, says, capsys):
    assert main(["check", name]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1


def test_a_check_is_named_once():
    assert len({check.title for check in BATTERY}) == len(BATTERY)
    assert all(isinstance(check, Check) for check in BATTERY)
