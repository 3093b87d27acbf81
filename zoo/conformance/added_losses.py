"""The check of losses that are added to a host's: neither may drown the other."""

from dataclasses import replace

import torch

from zoo.conformance.checks import agree, expect, lose
from zoo.conformance.harness import DoesNotApplyError, Maker
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
    terms = learner.loss_terms(batch) if learner.adds_losses else {}
    if len(terms) < 2:
        raise DoesNotApplyError("it adds no loss to a host's")
    expect(
        next(iter(terms)) == "host", f"the first of `loss_terms` is {next(iter(terms))}, not host"
    )
    total = torch.stack([*terms.values()]).sum()
    agree(lose(make(), batch), total, "`meta_loss`, and the sum of `loss_terms`")
    if make.regression:
        pull_as_they_should(make, {"tasks": 4})
    else:
        for net, image in NETS.items():
            pull_as_they_should(replace(make, backbone=net, image=image), SHAPE)


def pull_as_they_should(make: Maker, shape: dict[str, int]) -> None:
    """Expect it of one network, and episodes of a shape."""
    learner = make()
    torch.manual_seed(1)
    terms = learner.loss_terms(make.episode(**shape))
    host = terms.pop("host")
    for name, term in terms.items():
        ratio = float(compare_gradients(host, term, learner.parameters())[0])
        where = "points" if make.regression else f"images of {make.image[1]}x{make.image[2]}"
        expect(
            LEAST <= ratio <= MOST,
            f"on {where} the gradient of {name} has {ratio:.3g} times the norm of the host's; "
            f"expected 1/20 to 1: change its scale or its weight",
        )
