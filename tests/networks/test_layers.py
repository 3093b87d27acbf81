"""The fast block against the plain reference, in every batch-norm mode: values and gradients."""

import functools
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from zoo import InnerOptimizer, adapt, call
from zoo.batch_norm import BATCH_NORM_MODES, set_batch_norm
from zoo.datasets.benchmarks import glyphs
from zoo.losses import task_cross_entropy
from zoo.networks.backbone import Classifier, batch_norm_context, build_backbone
from zoo.networks.layers import FixedImages, plain

NETS = {
    "conv4[channels=3]": (2, 20, 21),
    "conv4[channels=1]": (1, 16, 16),
    "conv4_strided[channels=3]": (2, 13, 16),
    "resnet12[channels=2]": (2, 16, 18),
}
ALL = pytest.mark.parametrize("text", NETS)
MODES = pytest.mark.parametrize("mode", BATCH_NORM_MODES)


class LearnedLoss(nn.Module):
    """A loss with parameters, as learned losses have."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 2, 3).double())

    def forward(self, logits, y):
        return task_cross_entropy(logits * self.weight, y) + (logits.sin() ** 2).mean((1, 2))


def network(text: str, mode: str, image) -> nn.Module:
    torch.manual_seed(0)
    net = Classifier(build_backbone(text, image), 3).double()
    for name, p in net.named_parameters():
        if "norms" in name:  # negative scales too
            nn.init.normal_(p, 0.3)
    set_batch_norm(net, mode)
    return net


def data(image, tasks: int, rows: int = 6, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(tasks, rows, *image, generator=g, dtype=torch.float64)
    return x, (torch.arange(rows) % 3).expand(tasks, -1)


def same(ours, theirs, tolerance: float = 1e-10):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@ALL
@MODES
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rows", [None, 4])
def test_outputs_gradients_and_buffers(text, mode, training, rows):
    results = []
    for reference in (False, True):
        net = network(text, mode, NETS[text]).train(training)
        x, y = data(NETS[text], 1)
        x = x[0].requires_grad_()
        with (
            batch_norm_context(net, support_rows=rows),
            plain() if reference else nullcontext(),
        ):
            out = net(x)
        task_cross_entropy(out[None], y).sum().backward()
        results.append([out, x.grad, *(p.grad for p in net.parameters()), *net.buffers()])
    same(*results)


@MODES
@pytest.mark.parametrize(("training", "rows"), [(True, None), (True, 4), (False, None)])
def test_a_norm_may_have_an_epsilon_and_a_momentum_of_its_own(mode, training, rows):
    found = []
    for reference, eps, momentum in ((False, 0.1, 0.3), (True, 0.1, 0.3), (True, 1e-5, 0.1)):
        net = network("conv4_strided[channels=3]", mode, (2, 13, 16)).train(training)
        for norm in net.backbone.norms:
            norm.eps, norm.momentum = eps, momentum
        x = data((2, 13, 16), 1)[0][0]
        with batch_norm_context(net, support_rows=rows), plain() if reference else nullcontext():
            found.append([net(x), *net.buffers()])
    same(found[0], found[1])
    assert not torch.allclose(found[1][0], found[2][0])


@functools.cache
def meta_gradients(text, mode, tasks, learned, reference, **options):
    """Of two inner steps and a query pass, the queries by the support's statistics."""
    x, y = data(NETS[text], tasks)
    queries, labels = data(NETS[text], tasks, seed=1)
    both = torch.cat([x, queries], 1)
    loss = LearnedLoss() if learned else task_cross_entropy
    net = network(text, mode, NETS[text])
    with plain() if reference else nullcontext():
        theta = adapt(net, (x, y), loss, InnerOptimizer(0.1, **options), steps=2)
        with batch_norm_context(net, support_rows=6, fixed=FixedImages(both)):
            out = call(net, theta, both)[:, 6:]
    wanted = [*net.parameters(), *(loss.parameters() if learned else [])]
    return [out, *torch.autograd.grad(task_cross_entropy(out, labels).sum(), wanted)]


@ALL
@MODES
@pytest.mark.parametrize("tasks", [1, 2])
@pytest.mark.parametrize("learned", [False, True])
def test_meta_gradients(text, mode, tasks, learned):
    case = text, mode, tasks, learned
    expected = meta_gradients(*case, True)
    same(meta_gradients(*case, False), expected)
    same(meta_gradients(*case, False, memory="low"), expected)


@ALL
@MODES
def test_first_order_meta_gradients(text, mode):
    case = text, mode, 2, False
    same(*(meta_gradients(*case, reference, first_order=True) for reference in (False, True)))


@pytest.mark.parametrize("text", ["conv4[channels=4]", "conv4_strided[channels=4]"])
@pytest.mark.parametrize("blank", [False, True])
def test_one_bit_images(text, blank):
    """Ties in every map; with `blank`, constant images too."""
    x = torch.from_numpy(glyphs.load()["train"][1][:3, :2]).double().reshape(1, 6, 1, 28, 28) / 255
    if blank:
        x[:, :3] = 0
        x[:, 3] = 1
    y = torch.tensor([[0, 0, 1, 1, 2, 2]])
    results = []
    for reference in (False, True):
        net = network(text, "batch", (1, 28, 28))
        with plain() if reference else nullcontext():
            theta = adapt(net, (x, y), task_cross_entropy, InnerOptimizer(0.1), steps=2)
            out = call(net, theta, x)
        gradients = torch.autograd.grad(task_cross_entropy(out, y).sum(), list(net.parameters()))
        results.append([out, *gradients])
    same(*results)


@ALL
def test_float32_on_a_small_case(text):
    results = []
    x, y = data(NETS[text], 2)
    for reference in (False, True):
        net = network(text, "batch", NETS[text]).float()
        with plain() if reference else nullcontext():
            theta = adapt(net, (x.float(), y), task_cross_entropy, InnerOptimizer(0.1), steps=1)
            out = call(net, theta, x.float())
        gradients = torch.autograd.grad(task_cross_entropy(out, y).sum(), list(net.parameters()))
        results.append([out, *gradients])
    same(*results, tolerance=2e-3)


@pytest.mark.parametrize("plainly", [False, True])
def test_float32_on_constant_images(plainly):
    """As near to float64 as PyTorch's own layers: the shortcut's channels have no variance."""
    image, found = (3, 32, 32), []
    x, y = torch.full((1, 6, *image), 0.7), (torch.arange(6) % 3).expand(1, -1)
    for dtype in (torch.float64, torch.float32):
        net = network("resnet12[channels=4]", "batch", image).to(dtype)
        with plain() if plainly or dtype == torch.float64 else nullcontext():
            theta = adapt(net, (x.to(dtype), y), task_cross_entropy, InnerOptimizer(0.1), steps=1)
            out = call(net, theta, x.to(dtype))
        gradients = torch.autograd.grad(task_cross_entropy(out, y).sum(), list(net.parameters()))
        found.append(torch.cat([g.double().flatten() for g in gradients]))
    assert (found[1] - found[0]).norm() < 1e-3 * found[0].norm()


def test_fixed_images_are_known_by_their_memory():
    x = torch.randn(1, 4, 2, 5, 5)
    fixed = FixedImages(x)
    assert fixed.matches(x) and fixed.matches(x[0])
    assert not fixed.matches(x.clone()) and not fixed.matches(x[:, :2]) and not fixed.matches(x.mT)
