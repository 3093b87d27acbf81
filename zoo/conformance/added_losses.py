"""The check of losses that are added to a host's loss: neither gradient may drown the other."""

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
SHAPE = {"shot": 1, "query": 1, "tasks": 2}  # small, because an update on images takes seconds


def added_losses(make: Maker) -> None:
    """Before training, each added loss has a gradient of 1/20 to 1 times the norm of the host's.

    It is tried on networks for 28x28, 32x32 and 84x84 images, whose features differ in number and
    size. In training, ``train/gradient_ratio`` and ``train/gradient_cosine`` in the log tell how it
    goes on.
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
        "override `loss_terms` alone; the inherited `meta_loss` sums the terms",
    )
    if make.regression:
        expect_balance(make, {"tasks": 4})
    else:
        for net, image in NETS.items():
            expect_balance(replace(make, backbone=net, image=image), SHAPE)


def terms_of(learner: Learner, batch: Episode) -> dict[str, Tensor]:
    """What `loss_terms` returns."""
    with doing(f"`loss_terms`, given {described(batch)}"):
        return learner.loss_terms(batch)


def expect_balance(make: Maker, shape: dict[str, int]) -> None:
    """Expect gradients of the right size, for one network and one shape of episodes."""
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
            f"multiply {name} by another weight; if this number differs between sizes of images, "
            "first make the loss independent of the number of features: a mean over them instead "
            "of a sum, or cosines",
        )
