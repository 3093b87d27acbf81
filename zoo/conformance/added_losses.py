"""The check of losses that are added to a host's: neither may drown the other."""

from dataclasses import replace

import torch
from torch import Tensor

from zoo.conformance.checks import agree, expect, lose
from zoo.conformance.harness import DoesNotApplyError, Maker, described, doing
from zoo.episode import Episode
from zoo.learner import Learner
from zoo.losses import compare_gradients

NETS = {"conv4_strided": (1, 28, 28), "conv4": (3, 32, 32), "conv4[channels=32]": (3, 84, 84)}
LEAST, MOST = 1 / 20, 1.0
SHAPE = {"shot": 1, "query": 1, "tasks": 2}  # of images, where an update takes seconds


def added_losses(make: Maker) -> None:
    """Of each, the weighted gradient at the start has 1/20 to 1 times the norm of the host's.

    On nets of 28x28, 32x32 and 84x84 images, whose features differ in number and size. In training
    the log says the same: ``train/gradient_ratio`` and ``train/gradient_cosine``.
    """
    learner, batch = make(), make.episode()
    torch.manual_seed(1)
    terms = terms_of(learner, batch) if learner.adds_losses else {}
    if len(terms) < 2:
        raise DoesNotApplyError("it has one loss: `loss_terms` adds none to it")
    expect(
        next(iter(terms)) == "host",
        f"the first name in what `loss_terms` returns is {next(iter(terms))}",
        'name the loss to which others are added "host" and put it first: '
        '`{"host": ..., "mine": ...}`',
    )
    total = torch.stack([*terms.values()]).sum()
    agree(
        lose(make(), batch),
        total,
        "`meta_loss` is not the sum of what `loss_terms` returns",
        "override `loss_terms` alone and leave `meta_loss` as it is inherited, which sums them",
    )
    if make.regression:
        pull_as_they_should(make, {"tasks": 4})
    else:
        for net, image in NETS.items():
            pull_as_they_should(replace(make, backbone=net, image=image), SHAPE)


def terms_of(learner: Learner, batch: Episode) -> dict[str, Tensor]:
    """What `loss_terms` says."""
    with doing(f"`loss_terms`, given {described(batch)}"):
        return learner.loss_terms(batch)


def pull_as_they_should(make: Maker, shape: dict[str, int]) -> None:
    """Expect it of one network, and episodes of a shape."""
    learner = make()
    torch.manual_seed(1)
    terms = terms_of(learner, make.episode(**shape))
    host = terms.pop("host")
    for name, term in terms.items():
        ratio = float(compare_gradients(host, term, learner.parameters())[0])
        where = "regression" if make.regression else f"images of {make.image[1]}x{make.image[2]}"
        much = "too little to matter" if ratio < LEAST else "so much that it drowns the host's"
        expect(
            LEAST <= ratio <= MOST,
            f"on {where}, before training, the gradient of the added loss {name} has {ratio:.3g} "
            f"times the norm of the gradient of `host`, {much}; expected 1/20 to 1",
            f"multiply {name} by another weight; if this number is another on images of other "
            "sizes, first make the loss independent of the number of features: a mean over them "
            "instead of a sum, or cosines",
        )
