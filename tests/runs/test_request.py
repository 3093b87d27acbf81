"""Requests: what they are called, which command makes them, what they resolve to."""

import pytest

from zoo.errors import UsageError
from zoo.runs.request import RunRequest
from zoo.runs.resolved import resolve_request


def test_words_and_command_of_a_request():
    request = RunRequest("maml[first_order=true]", "omniglot", 20, 5, "equal", "smoke", 3)
    assert request.words == "maml[first_order=true] 20-way 5-shot, seed 3, equal terms"
    assert request.command[3:] == [
        "run", "maml[first_order=true]", "omniglot", "--way", "20", "--shot", "5", "--seed", "3",
        "--terms", "equal", "--budget", "smoke",
    ]  # fmt: skip
    assert RunRequest("maml", "sinusoid", shot=10).words == "maml 10-shot"


def test_what_is_left_out_is_filled_in():
    resolved = resolve_request(RunRequest("maml[first_order=true]", "omniglot[split=vinyals]"))
    request = resolved.request
    assert (request.learner, request.benchmark, request.way) == ("maml", "omniglot", 5)
    assert request.flags == {"first_order": True} == resolved.changed
    assert resolved.title == "maml[first_order=true]" and request.shape == "5-way 1-shot"


def test_regression_has_outputs_and_no_ways():
    """The request stays one that can be asked for again."""
    resolved = resolve_request(RunRequest("maml", "sinusoid", shot=10))
    assert resolved.way == 1 and resolved.request.way is None
    assert resolved.request.shape == "10-shot" and "--way" not in resolved.request.command
    assert resolve_request(resolved.request).values == resolved.values


def test_a_file_gives_way_to_a_flag_and_both_are_named():
    request = RunRequest("maml", "glyphs", config={"inner_lr": 7.0, "clip": 1.0},
                         flags={"inner_lr": 8.0})  # fmt: skip
    settings = resolve_request(request).settings
    assert settings["inner_lr"][:2] == (8.0, "flag") and settings["clip"][:2] == (1.0, "config")


def test_requests_that_differ_in_flags_are_different():
    one, other = RunRequest("maml", "glyphs"), RunRequest("maml", "glyphs", flags={"updates": 0})
    assert one != other and len({one: 1, other: 2}) == 2


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (RunRequest("mamml", "glyphs"), "no learner 'mamml'"),
        (RunRequest("maml", "glyph"), "no benchmark 'glyph'"),
        (RunRequest("maml", "glyphs", way=1), "--way 1: expected"),
        (RunRequest("maml", "sinusoid", way=5), "--way 5: sinusoid is regression"),
        (RunRequest("protonet", "sinusoid"), "protonet does no regression"),
        (RunRequest("maml", "glyphs", shot=0), "--shot 0: expected"),
        (RunRequest("maml", "glyphs", seed=-1), "--seed -1: expected a whole number"),
        (RunRequest("maml", "glyphs", seed=2**32), "--seed 4294967296: expected a whole"),
        (RunRequest("maml[inner=1]", "glyphs"), "no setting 'inner'"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_named(request_, says):
    with pytest.raises(UsageError, match=says.replace("[", r"\[")):
        resolve_request(request_)
