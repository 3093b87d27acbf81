"""What every learner in the zoo must do, whatever its paper: the battery, and the house's rules."""

import inspect

import pytest

from zoo import learners
from zoo.conformance import CHECKS, Check, DoesNotApplyError, Maker, makers
from zoo.conformance.checks import double_precision, stays_on_device
from zoo.conformance.resuming import BATTERY, resumes
from zoo.errors import UsageError

# Fewer steps at a test than their papers take, which say as much of these promises.
FEWER = {"reptile": {"test_steps": 5}, "finetune": {"head_steps": 10}}


def trials():
    """Every check of every learner, in every mode; but runs, which take seconds, in few."""
    for key in learners.names():
        fewer = FEWER.get(key, {})
        for make in makers(key, fewer):
            for check in BATTERY if make.options == fewer else CHECKS:
                repeats = check.run is resumes and make.regression and key != "maml"
                takes_seconds = check.run in (stays_on_device, double_precision)
                another_mode = make.options != fewer and takes_seconds
                marks = [pytest.mark.full] if repeats or another_mode else []
                yield pytest.param(make, check, id=f"{make}-{check.run.__name__}", marks=marks)


@pytest.mark.parametrize(("make", "check"), list(trials()))
def test_it_conforms(make: Maker, check: Check):
    try:
        check.run(make)
    except DoesNotApplyError as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("key", learners.names())
def test_features_are_refused_where_images_are_not_embedded_alone(key):
    for make in makers(key):
        if not (learner := make()).embeds_alone:
            with pytest.raises(UsageError, match="features of an image depend"), learner.embedded():
                pass


@pytest.mark.parametrize("key", learners.names())
def test_its_file_opens_with_its_citation(key):
    cls = learners.get(key)
    first = (inspect.getmodule(cls).__doc__ or "").splitlines()[0]
    assert "arxiv.org" in first or (cls.family == "reference" and "https://" in first)
