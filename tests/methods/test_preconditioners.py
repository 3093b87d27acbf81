"""Preconditioned inner loops: known answers, and meta-gradients against finite differences."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.conftest import episode_of
from zoo import Episode, InnerOptimizer, adapt, call
from zoo.baselines.maml import MAML, multi_step_weights
from zoo.batch_norm import set_batch_norm
from zoo.errors import UsageError
from zoo.losses import task_cross_entropy
from zoo.methods.preconditioners import (
    GAP,
    Chain,
    Diagonal,
    LayerRates,
    MetaCurvature,
    Only,
    PostBlock,
    Preconditioner,
    Rate,
    TNet,
    Warp,
    build_preconditioner,
)
from zoo.methods.preconditioners import PRECONDITIONERS as BUILT
from zoo.networks.backbone import Classifier, batch_norm_context, build_backbone
from zoo.networks.layers import FiLM

IMAGE = (1, 16, 16)
RATE = 0.3


class SmoothTNet(TNet):
    """MT-net near its masks: hard where they are drawn, moving with zeta by the soft ones'."""

    def drawn(self, tasks: int):
        drawn = super().drawn(tasks)
        if not hasattr(self, "origin"):  # soft masks at the point of differentiation
            self.origin = [
                1 / (1 + (-z.detach() - u).exp())
                for z, u in zip(self.log_odds, drawn.noise, strict=True)
            ]
            drawn.origin = self.origin
        return drawn

    def masks(self, layer: int) -> Tensor:
        soft = 1 / (1 + (-self.log_odds[layer] - self.noise[layer]).exp())
        return (self.origin[layer] > 0.5).double() + soft - self.origin[layer]


SOME = ["backbone.convs.3.weight", "head.weight", "head.bias"]
KINDS: dict[str, Callable[[nn.Module], Preconditioner]] = {
    "none": lambda net: Preconditioner(),
    "diagonal": Diagonal,
    "layer rates": lambda net: LayerRates(net, 2),
    "tnet": TNet,
    "mask": lambda net: TNet(net, mask=True),
    "rate": lambda net: Rate(),
    "warp": Warp,
    "post_block": lambda net: PostBlock(net, SOME),
    "meta-curvature": MetaCurvature,
    "some": lambda net: Only(SOME),
    "some by element": lambda net: Chain(Only(SOME), Diagonal(net, SOME)),
    "warp of some, by layer": lambda net: Chain(
        Only(SOME), Warp(net, SOME), LayerRates(net, 1, SOME)
    ),
}


def network() -> Classifier:
    torch.manual_seed(0)
    net = Classifier(build_backbone("conv4_strided[channels=3]", IMAGE), 3).double()
    for norm in net.backbone.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias, 0, 0.3)
    return net


def problem(kind: str, shaken: bool = True) -> nn.ModuleDict:
    """A network and its preconditioner, away from where that starts."""
    net = network()
    parts = nn.ModuleDict({"net": net, "p": KINDS[kind](net)}).double()
    if shaken:
        for p in parts["p"].parameters():
            p.data += 0.3 * torch.randn_like(p)
    return parts


def batch(tasks: int) -> Episode:
    e = episode_of(way=3, shot=2, query=2, tasks=tasks, image=IMAGE)
    s, q = (part._replace(x=part.x.double()) for part in e[:2])
    return Episode(s, q, e.way)


def outer_loss(parts: nn.ModuleDict, e: Episode, **options) -> Tensor:
    net = parts["net"]
    optimizer = InnerOptimizer(RATE, parts["p"], **options)
    torch.manual_seed(1)  # the same masks whenever they are drawn
    theta = adapt(net, e.support, task_cross_entropy, optimizer, steps=2)
    return task_cross_entropy(call(net, theta, e.query.x), e.query.y).mean()


def gradients(parts: nn.ModuleDict, e: Episode, **options) -> dict[str, Tensor]:
    parts.zero_grad()
    outer_loss(parts, e, **options).backward()
    return {name: p.grad.clone() for name, p in parts.named_parameters()}


def assert_exact(parts: nn.ModuleDict, e: Episode, grads: dict[str, Tensor]) -> None:
    """Against central differences along random directions: in W, and in what P learns."""
    g = torch.Generator().manual_seed(3)
    for group in ("net", "p"):
        mine = {name: p for name, p in parts.named_parameters() if name.startswith(group)}
        along = {name: torch.randn(p.shape, generator=g).double() for name, p in mine.items()}
        values = []
        for step in (1e-7, -2e-7):
            for name, p in mine.items():
                p.data += step * along[name]
            with torch.no_grad():
                values.append(outer_loss(parts, e).item())
        for name, p in mine.items():
            p.data += 1e-7 * along[name]
        ours = sum((grads[name] * along[name]).sum().item() for name in mine)
        assert ours == pytest.approx((values[0] - values[1]) / 2e-7, rel=1e-5, abs=1e-7), group
        assert all(grads[name].abs().max() > 1e-9 for name in mine)


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_meta_gradient_is_exact(kind, tasks):
    """In both forms of the inner loop, for W, rates, T and zeta."""
    parts, e = problem(kind), batch(tasks)
    full, low = (gradients(parts, e, memory=memory) for memory in ("full", "low"))
    for name, grad in full.items():
        torch.testing.assert_close(low[name], grad, rtol=1e-9, atol=1e-12)
    if kind == "mask":  # the straight-through gradient is that of a smooth problem
        parts["p"].__class__ = SmoothTNet
        outer_loss(parts, e)
    assert_exact(parts, e, full)


def test_in_evaluation_masks_are_means_and_have_a_gradient():
    parts, e = problem("mask").eval(), batch(2)
    assert_exact(parts, e, gradients(parts, e))


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize(
    "kind", ["diagonal", "layer rates", "tnet", "rate", "warp", "meta-curvature"]
)
def test_each_starts_as_the_gradient_itself(kind, first_order):
    e = batch(2)
    ours = gradients(problem(kind, shaken=False), e, first_order=first_order)
    for name, grad in gradients(problem("none"), e, first_order=first_order).items():
        torch.testing.assert_close(ours[name], grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_all_tasks_at_once_equal_one_by_one(kind):
    parts, e = problem(kind).eval(), batch(3)
    outer_loss(parts, e).backward()
    folded = {name: p.grad for name, p in parts.named_parameters()}
    parts.zero_grad()
    for t in range(3):
        one = Episode(*(type(s)(s.x[t : t + 1], s.y[t : t + 1]) for s in e[:2]), e.way)
        (outer_loss(parts, one) / 3).backward()
    for name, p in parts.named_parameters():
        torch.testing.assert_close(p.grad, folded[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["some by element", "warp of some, by layer"])
def test_each_of_some_starts_as_those_alone(kind):
    e = batch(2)
    ours = gradients(problem(kind, shaken=False), e)
    for name, grad in gradients(problem("some"), e).items():
        torch.testing.assert_close(ours[name], grad, rtol=1e-9, atol=1e-12)


def test_a_step_under_a_warp_by_plain_layers():
    """conv(omega, conv(theta, x)): a step on theta alone, by autograd through both."""
    net, e = network(), batch(1)
    p = Warp(net, SOME).double()
    nn.init.normal_(p.transforms[0])
    chain = Chain(Only(SOME), p)
    ours = adapt(net, e.support, task_cross_entropy, InnerOptimizer(RATE, chain), steps=2)
    omega, inner = p.transforms[0][..., None, None], dict(net.named_parameters())
    theta = [inner[name] for name in SOME]
    product = nn.functional.conv2d  # of a 1x1 kernel with a bank of kernels
    for _ in range(2):
        warped = product(theta[0].transpose(0, 1), omega).transpose(0, 1)
        layers = {SOME[0]: warped, SOME[1]: theta[1], SOME[2]: theta[2]}
        logits = torch.func.functional_call(net, layers, (e.support.x[0],))
        loss = nn.functional.cross_entropy(logits, e.support.y[0])
        theta = [q - RATE * g for q, g in zip(theta, torch.autograd.grad(loss, theta), strict=True)]
    warped = product(theta[0].transpose(0, 1), omega).transpose(0, 1)
    for name, q in zip(SOME, [warped, *theta[1:]], strict=True):
        torch.testing.assert_close(ours[name][0], q, rtol=1e-9, atol=1e-12)
        assert (q - inner[name]).abs().max() > 1e-3


def logits(parts: nn.ModuleDict, e: Episode) -> Tensor:
    optimizer = InnerOptimizer(RATE, parts["p"])
    theta = adapt(parts["net"], e.support, task_cross_entropy, optimizer, steps=2)
    return call(parts["net"], theta, e.query.x)


@pytest.mark.parametrize("kind", ["warp", "tnet"])
def test_batch_norm_takes_out_a_diagonal_and_leaves_what_mixes_channels(kind):
    """Positive numbers times the rows of T change nothing, so no rate can be learned by them."""
    parts, e = problem(kind), batch(2)
    for norm in parts["net"].modules():
        norm.eps = 0.0
    before, grads = logits(parts, e), gradients(parts, e)
    transforms = parts["p"].transforms[:4]  # of the convolutions
    for number, t in enumerate(transforms):  # nor has a row's length a gradient
        slopes = (t * grads[f"p.transforms.{number}"]).sum(1)
        assert slopes.abs().max() < 1e-9 < 1e-4 < grads[f"p.transforms.{number}"].abs().max()
    for t in transforms:
        t.data *= 0.5 + 3 * torch.rand(len(t), 1)
    torch.testing.assert_close(logits(parts, e), before, rtol=1e-8, atol=1e-8)
    for t in transforms:
        t.data += 0.3 * (1 - torch.eye(len(t)))
    assert (logits(parts, e) - before).abs().max() > 1e-2


def test_for_an_epsilon_twice_the_identity_is_as_the_identity():
    parts, e = problem("warp", shaken=False), batch(2)
    before = logits(parts, e)
    for t in parts["p"].transforms:
        t.data *= 2
    assert 0 < (logits(parts, e) - before).abs().max() < 1e-3


def test_behind_the_head_no_norm_takes_out_tnets_diagonal():
    parts, e = problem("tnet", shaken=False), batch(2)
    before, head = logits(parts, e), parts["p"].transforms[4]
    assert head.shape == (3, 3)
    head.data *= 2
    assert (logits(parts, e) - before).abs().max() > 1e-2


def test_post_block_layers_act_and_do_not_move():
    net, e = network(), batch(1)
    optimizer, x = InnerOptimizer(RATE, PostBlock(net)), e.support.x[0]
    net.double()
    assert sorted(net.backbone.after) == ["0", "1", "2", "3"]
    for p in net.backbone.after.parameters():
        nn.init.normal_(p)
    theta = adapt(net, e.support, task_cross_entropy, optimizer, steps=2)
    for name, q in net.named_parameters():
        assert torch.equal(theta[name][0], q) == ("after" in name), name
    maps = x
    for number in range(4):
        layer = net.backbone.after[str(number)]
        maps = net.backbone.block(number, maps, None)
        maps = nn.functional.conv2d(maps, layer.conv.weight, padding=1)
        scale, shift = layer.norm.weight, layer.norm.bias
        maps = nn.functional.batch_norm(maps, None, None, scale, shift, True)
    torch.testing.assert_close(net(x), net.head(maps.mean((2, 3))), rtol=1e-9, atol=1e-9)
    assert list(PostBlock(network(), SOME).parameters()) == []
    some = network()
    PostBlock(some, SOME)
    assert list(some.backbone.after) == ["3"]


@pytest.mark.parametrize("mode", ["batch", "support"])
def test_a_post_block_layer_starts_as_a_batch_norm(mode):
    """Of its block's mode; FiLM, where the block has it, by the means of the layer's input."""
    net = network()
    set_batch_norm(net, mode)
    net.backbone.norms[3].film = FiLM(3, 3)
    PostBlock(net, SOME)
    layer = net.backbone.after["3"].double()
    maps = torch.randn(6, 3, 4, 4).double()
    for p in layer.norm.film.parameters():
        nn.init.zeros_(p)
    with batch_norm_context(layer, support_rows=4):
        found = layer(maps)
    var, mean = torch.var_mean(maps[:4] if mode == "support" else maps, (0, 2, 3), correction=0)
    normed = (maps - mean.view(-1, 1, 1)) / (var + 1e-5).sqrt().view(-1, 1, 1)
    torch.testing.assert_close(found, normed, rtol=1e-9, atol=1e-9)
    assert found.min() < 0  # no ReLU
    nn.init.normal_(layer.norm.film.linear.weight)
    gamma, beta = layer.norm.film.linear(maps.mean((2, 3)))[..., None, None].chunk(2, 1)
    with batch_norm_context(layer, support_rows=4):
        torch.testing.assert_close(layer(maps), (gamma + 1) * normed + beta, rtol=1e-9, atol=1e-9)
    sizes = {name: p.numel() for name, p in layer.named_parameters()}
    assert sizes.pop("conv.weight") == 9 * 3 * 3
    assert sorted(sizes.values()) == [3, 3, 2 * 3, 2 * 3 * 3]  # norm, FiLM


@pytest.mark.parametrize("kind", [kind for kind in BUILT if kind != "none"])
def test_maml_takes_each(kind):
    """From where MAML itself starts, but for a norm; and each has its meta-gradient."""

    def maml(**options):
        torch.manual_seed(0)
        return MAML(build_backbone("conv4_strided[channels=3]", IMAGE), 3, **options).double()

    learner, e = maml(preconditioner=kind), batch(1)
    if kind != "post_block":
        torch.testing.assert_close(learner(e), maml()(e), rtol=1e-7, atol=1e-7)
    learner.meta_loss(e).backward()
    learned = dict(learner.precondition.named_parameters())
    learned |= dict(learner.net.backbone.after.named_parameters())
    learned.pop("2.norm.bias", None)  # on 2x2 pixels alike for all, which the next norm takes out
    assert learned and all(p.grad.abs().max() > 1e-9 for p in learned.values())


def test_bad_input_is_named():
    with pytest.raises(UsageError, match="for convolutions, and no step moves any"):
        MAML(build_backbone("mlp", (2,)), 1, preconditioner="warp")
    with pytest.raises(UsageError, match="preconditioner: no 'wrap': choose from none, warp"):
        MAML(build_backbone("mlp", (2,)), 1, preconditioner="wrap")
    with pytest.raises(UsageError, match="step_rates: is itself a preconditioner"):
        MAML(build_backbone("mlp", (2,)), 1, preconditioner="rate", step_rates=True)


def test_mode_products_by_numpy():
    net = Classifier(build_backbone("conv4_strided[channels=3]", IMAGE), 3).double()
    p = MetaCurvature(net, SOME).double()
    for m in p.matrices:
        nn.init.normal_(m)
    g = {name: torch.randn(2, *q.shape).double() for name, q in net.named_parameters()}
    moved = p(0, g)
    o, i, f, head_o, head_i, one = (m.detach().numpy() for m in p.matrices)
    conv = g[SOME[0]].numpy().reshape(2, 3, 3, 9)
    expected = np.einsum("toif,ao,bi,cf->tabc", conv, o, i, f).reshape(2, 3, 3, 3, 3)
    np.testing.assert_allclose(moved[SOME[0]].detach(), expected, rtol=1e-9)
    expected = one[0, 0] * np.einsum("toi,ao,bi->tab", g[SOME[1]].numpy(), head_o, head_i)
    np.testing.assert_allclose(moved[SOME[1]].detach(), expected, rtol=1e-9)
    assert moved[SOME[2]] is g[SOME[2]]
    rows = torch.randn(2, 5, 4).double()  # a shared row that became 5 has one number for all
    one_row = MetaCurvature(nn.Linear(4, 1)).double()
    one_row.matrices[0].data.fill_(3.0)
    torch.testing.assert_close(one_row(0, {"weight": rows})["weight"], 3 * rows)


def test_singular_directions_by_numpy():
    """U diag(rates) U^T g; at rates of 1 the gradient itself; a meta-gradient to each rate."""
    net = Classifier(build_backbone("conv4_strided[channels=3]", IMAGE), 3).double()
    p = GAP(net, SOME).double()
    g = {name: torch.randn(2, *q.shape).double() for name, q in net.named_parameters()}
    for name, moved in p(0, g).items():
        torch.testing.assert_close(moved, g[name], rtol=1e-6, atol=1e-6)
    p.logits[0].data[:] = torch.tensor([0.5, -1.0, 2.0])
    moved = p(0, g)[SOME[0]]
    rates = np.log1p(np.exp(2 * np.array([0.5, -1.0, 2.0]))) / 2
    for t in range(2):
        flat = g[SOME[0]][t].numpy().reshape(3, -1)
        u, s, v = np.linalg.svd(flat, full_matrices=False)
        expected = (u * rates * s) @ v
        np.testing.assert_allclose(moved[t].detach().reshape(3, -1), expected, rtol=1e-9)
    moved.square().sum().backward()
    assert (p.logits[0].grad.abs() > 1e-3).all() and len(p.logits) == 1


def test_bad_preconditioners_are_named():
    with pytest.raises(UsageError, match="preconditioner: no 'wrap': choose from none, warp"):
        build_preconditioner("wrap", network())
    with pytest.raises(UsageError, match="post_block: needs a backbone of blocks"):
        build_preconditioner("post_block", nn.Linear(2, 2))


def linear(*sizes: int) -> tuple[nn.Linear, Tensor, Tensor]:
    g = torch.Generator().manual_seed(5)
    inputs, outputs = sizes
    net = nn.Linear(inputs, outputs).double()
    x = torch.randn(2, 6, inputs, generator=g).double()
    return net, x, torch.randn(2, 6, outputs, generator=g).double()


def squared(prediction: Tensor, y: Tensor) -> Tensor:
    return (prediction - y).square().sum((1, 2)) / 2


@pytest.mark.parametrize("odds", [None, 0.0, -1.0])
def test_tnet_steps_by_numpy(odds):
    """y = T (W x + b), steps on W and b alone; each row at its mask's mean."""
    net, x, y = linear(4, 3)
    p = TNet(net, mask=odds is not None).double().eval()
    nn.init.normal_(p.transforms[0])
    if odds is not None:
        p.log_odds[0].data[:] = torch.tensor([odds, 0.0, 2.0])
    theta = adapt(net, (x, y), squared, InnerOptimizer(0.02, p), steps=3)
    t = p.transforms[0].detach().numpy()
    m = 1.0 if odds is None else 1 / (1 + np.exp(-np.array([odds, 0.0, 2.0])))[:, None]
    for task in range(2):
        w, b = net.weight.detach().numpy(), net.bias.detach().numpy()[:, None]
        u, v = x[task].numpy().T, y[task].numpy().T
        for _ in range(3):
            back = t.T @ (t @ (w @ u + b) - v)  # to the outputs of W
            w, b = w - 0.02 * m * (back @ u.T), b - 0.02 * m * back.sum(1, keepdims=True)
        np.testing.assert_allclose(theta["weight"][task].detach(), t @ w, rtol=1e-10)
        np.testing.assert_allclose(theta["bias"][task].detach(), (t @ b)[:, 0], rtol=1e-10)


def test_where_the_mask_is_zero_nothing_moves():
    parts, e = problem("mask", shaken=False), batch(2)
    for zeta in parts["p"].log_odds:
        nn.init.constant_(zeta, -30.0)
    optimizer = InnerOptimizer(RATE, parts["p"])
    theta = adapt(parts["net"], e.support, task_cross_entropy, optimizer, steps=2)
    for name, p in parts["net"].named_parameters():
        still = torch.equal(theta[name], p.expand_as(theta[name]))
        assert still != ("norms" in name), name


def test_masks_are_drawn_for_each_task_by_their_odds():
    net = nn.Linear(2, 3)
    p = TNet(net, mask=True)
    p.log_odds[0].data[:] = torch.tensor([-1.0, 0.0, 2.0])
    torch.manual_seed(0)
    drawn = p.drawn(4000)
    masks = drawn.masks(0)
    assert set(masks.unique().round(decimals=5).tolist()) == {0.0, 1.0}
    torch.testing.assert_close(masks.mean(0), torch.tensor([0.269, 0.5, 0.881]), atol=0.03, rtol=0)
    assert torch.equal(drawn.masks(0), masks)  # in every step
    assert not torch.equal(p.drawn(4000).masks(0), masks)
    assert not p.noise and next(iter(drawn.parameters())) is p.transforms[0]


def test_rates_by_hand():
    """L = w^2 / 2: w' = w - lr rate w; a step behind the last takes its rate."""
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(net.weight, 2.0)
    example = torch.ones(1, 1, 1).double(), torch.zeros(1, 1, 1).double()
    by_step, by_element = LayerRates(net, 2).double(), Diagonal(net).double()
    by_step.rates.data[:] = torch.tensor([[0.5], [0.1]])
    by_element.rates[0].data[:] = 0.2
    for p, factor in ((by_step, 0.95 * 0.99 * 0.99), (by_element, 0.98**3)):
        theta = adapt(net, example, squared, InnerOptimizer(0.1, p), steps=3)
        assert theta["weight"].item() == pytest.approx(2 * factor, rel=1e-7)


def test_the_adjoint_form_reaches_the_inputs_too():
    net, x, y = linear(4, 3)
    grads = []
    for memory in ("full", "low"):
        x = x.detach().requires_grad_()
        theta = adapt(net, (x, y), squared, InnerOptimizer(0.02, memory=memory), steps=3)
        theta["weight"].square().sum().backward()
        grads.append(x.grad)
    assert grads[0].abs().max() > 1e-3
    torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)


def test_weights_of_many_query_losses():
    """MAML++: from 1/S each to 0.03/S for all but the last."""
    assert multi_step_weights(5, 0.0) == pytest.approx([0.2] * 5)
    assert multi_step_weights(5, 0.5) == pytest.approx([0.1] * 4 + [0.6])
    assert multi_step_weights(5, 1.0) == pytest.approx([0.006] * 4 + [0.976])
    assert multi_step_weights(1, 0.3) == [1.0]
