"""The checks: what every learner must do, whatever its paper."""

import contextlib
import copy
import gc
import io
import sys
from typing import Any

import torch
from torch import Tensor

from zoo.conformance.harness import BrokenError, DoesNotApplyError, Maker, check
from zoo.episode import Episode, Examples
from zoo.learner import Learner
from zoo.runs.settings import constructor_defaults, documentation


def expect(holds: Any, otherwise: str) -> None:
    """Go on, or say what is wrong."""
    if not holds:
        raise BrokenError(otherwise)


def agree(a: Tensor, b: Tensor, what: str, tolerance: float = 1e-4) -> None:
    """Expect that two tensors are equal, but for rounding."""
    expect(a.shape == b.shape, f"{what}: shape {tuple(a.shape)} instead of {tuple(b.shape)}")
    if not torch.allclose(a, b, rtol=tolerance, atol=tolerance):
        raise BrokenError(f"{what}: they differ by up to {float((a - b).detach().abs().max()):.2g}")


def ask(learner: Learner, batch: Episode) -> Tensor:
    """Predictions; a learner that draws random numbers draws the same each time."""
    torch.manual_seed(1)
    return learner(batch)


def lose(learner: Learner, batch: Episode) -> Tensor:
    """The meta-loss, with the same random numbers each time."""
    torch.manual_seed(1)
    return learner.meta_loss(batch)


def learnable(learner: Learner) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters that training moves."""
    return [(name, p) for name, p in learner.named_parameters() if p.requires_grad]


def update(learner: Learner, batch: Episode) -> None:
    """One step of plain gradient descent."""
    loss = lose(learner.train(), batch)
    if parameters := [p for _, p in learnable(learner)]:
        loss.backward()
        torch.optim.SGD(parameters, 1e-3).step()
        learner.zero_grad()


def one_task(batch: Episode, t: int) -> Episode:
    """Task t alone."""
    support, query = (Examples(x[t : t + 1], y[t : t + 1]) for x, y in batch[:2])
    return Episode(support, query, batch.way)


@check("its file opens with its citation and departures, and it has a title, family and sentence")
def file_says_what_it_is(make: Maker) -> None:
    """As lists and tables show it."""
    cls = make.cls
    text = sys.modules[cls.__module__].__doc__ or ""
    first, _, _ = text.partition("\n")
    expect("https://" in first, "the file's first line is no citation with its link")
    expect("departures" in text.lower(), "the file's docstring has no 'Departures from the paper:'")
    expect(cls.title and cls.family, "the class has no `title` or no `family`")
    expect(cls.__doc__ and "\n" not in cls.__doc__.strip(), "the class's docstring is not one line")


@check("every setting is documented")
def settings_are_documented(make: Maker) -> None:
    """So that ``run --help`` explains it."""
    cls = make.cls
    texts = documentation(cls)
    missing = [name for name in constructor_defaults(cls) if not texts.get(name)]
    expect(not missing, f"the constructor's docstring says nothing of {', '.join(missing)}")


@check("predictions have a row a query and a column a way, for any ways, shots and tasks")
def shapes(make: Maker) -> None:
    """In regression: the shape of y."""
    for shape in ({}, {"shot": 1, "query": 1}, {"tasks": 1}, {"shot": 3}, {"way": 3}):
        batch, learner = make.episode(**shape), make(shape.get("way"))
        y = batch.query.y
        wanted = tuple(y.shape if make.regression else (*y.shape, batch.way))
        for mode in ("training", "evaluation"):
            got = tuple(ask(learner.train(mode == "training"), batch).shape)
            expect(got == wanted, f"in {mode}, of episodes {shape}: {got} instead of {wanted}")


@check("gradients reach every learnable parameter")
def gradients_reach(make: Maker) -> None:
    """And are finite."""
    learner = make()
    if not learnable(learner):
        raise DoesNotApplyError("it has no learnable parameter")
    lose(learner, make.episode()).backward()
    for name, p in learnable(learner):
        expect(p.grad is not None and p.grad.any(), f"no gradient reaches {name}")
        expect(p.grad is not None and p.grad.isfinite().all(), f"{name}'s gradient is not finite")


@check("the loss is the mean over tasks, so micro-batches add up")
def loss_is_mean_over_tasks(make: Maker) -> None:
    """A learner that needs the whole meta-batch says so."""
    learner, batch = make(), make.episode()
    if learner.joint_tasks:
        raise DoesNotApplyError("it says joint_tasks")
    whole, alone, apart = lose(copy.deepcopy(learner), batch), [], copy.deepcopy(learner)
    torch.manual_seed(1)
    for t in range(batch.tasks):  # a loss may move buffers, and draw for each task or for all
        alone.append(learner.meta_loss(one_task(batch, t)))
    if not torch.allclose(whole, mean := torch.stack(alone).mean(), rtol=1e-4, atol=1e-4):
        mean = torch.stack([lose(apart, one_task(batch, t)) for t in range(batch.tasks)]).mean()
        if not torch.allclose(make().meta_loss(batch), whole, rtol=1e-6, atol=0):
            raise DoesNotApplyError("it draws at random, and for one task other numbers")
    agree(whole, mean, "the loss, and the mean of each task's")


@check("tasks do not mix in evaluation")
def tasks_do_not_mix(make: Maker) -> None:
    """A task's predictions are the same alone."""
    learner, batch = make().eval(), make.episode()
    alone = torch.cat([ask(learner, one_task(batch, t)) for t in range(batch.tasks)])
    agree(ask(learner, batch), alone, "tasks together, and one by one")


@check("no query label is seen")
def no_query_label_is_seen(make: Maker) -> None:
    """Neither in training nor in evaluation."""
    batch = make.episode()
    blind = batch._replace(query=batch.query._replace(y=torch.zeros_like(batch.query.y)))
    for training in (True, False):
        got, wanted = (ask(make().train(training), e) for e in (blind, batch))
        expect(torch.equal(got, wanted), "`forward` follows the queries' labels")
    got, wanted = (make().eval().evaluate(e)[1] for e in (blind, batch))
    expect(torch.equal(got, wanted), "`evaluate` follows the queries' labels")


@check("the order of the support does not matter")
def support_order(make: Maker) -> None:
    """But to a sequential learner."""
    learner, batch = make().eval(), make.episode()
    if learner.sequential:
        raise DoesNotApplyError("it says sequential")
    x, y = batch.support
    shuffle = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(1))
    shuffled = batch._replace(support=Examples(x[:, shuffle], y[:, shuffle]))
    agree(ask(learner, shuffled), ask(learner, batch), "the support in another order")


@check("the support is used")
def support_is_used(make: Maker) -> None:
    """Other images behind the labels give other predictions."""
    learner, batch = make().eval(), make.episode()
    other = batch._replace(support=Examples(batch.support.x.flip(1), batch.support.y))
    same = torch.allclose(ask(learner, other), ask(learner, batch), atol=1e-6)
    expect(not same, "other images behind the support's labels change nothing")


@check("a query's prediction depends on other queries as `transductive` says")
def transductive_as_it_says(make: Maker) -> None:
    """An inductive learner predicts queries one by one."""
    learner, batch = make().eval(), make.episode()
    alone = batch._replace(query=Examples(batch.query.x[:, :1], batch.query.y[:, :1]))
    same = torch.allclose(ask(learner, alone), ask(learner, batch)[:, :1], atol=1e-4)
    said = f"its trait transductive is {learner.transductive}"
    expect(same != learner.transductive, f"{said}, but alone {'the same' if same else 'another'}")


@check("relabelled ways permute the logits")
def relabelled_ways(make: Maker) -> None:
    """Of a way_equivariant learner."""
    learner, batch = make().eval(), make.episode()
    if make.regression or not learner.way_equivariant:
        raise DoesNotApplyError("it does not promise way_equivariant")
    relabel = torch.tensor([3, 0, 4, 1, 2])
    other = batch._replace(support=Examples(batch.support.x, relabel[batch.support.y]))
    agree(ask(learner, other)[..., relabel], ask(learner, batch), "the ways under other labels")


@check("it works under no_grad and inference_mode")
def without_autograd(make: Maker) -> None:
    """And predicts the same."""
    learner = make().eval()
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            blind = ask(learner, make.episode())  # made inside: an inference tensor
        expect(not blind.requires_grad, f"under {context.__name__} it keeps a graph")
        agree(blind, ask(learner, make.episode()).detach(), f"under {context.__name__}")


@check("an update and a test leave every number on the device")
def stays_on_device(make: Maker) -> None:
    """On `meta`, which has no numbers: nothing can be asked of it, nothing of the CPU mixed in."""
    learner = make()
    if learner.asks_numbers:
        raise DoesNotApplyError(f"it asks for numbers: {learner.asks_numbers}")
    learner, batch = learner.to("meta"), on_meta(make.episode(tasks=2))
    update(learner, batch)
    learner.eval().evaluate(batch)


def on_meta(batch: Episode) -> Episode:
    """The same shapes without numbers."""
    support, query = (Examples(x.to("meta"), y.to("meta")) for x, y in batch[:2])
    return Episode(support, query, batch.way)


@check("evaluation changes nothing")
def evaluation_changes_nothing(make: Maker) -> None:
    """Neither weights nor buffers nor gradients."""
    learner = make().eval()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.evaluate(make.episode())
    for name, value in learner.state_dict().items():
        expect(torch.equal(value, before[name]), f"evaluation changed {name}")
    left = [name for name, p in learner.named_parameters() if p.grad is not None]
    expect(not left, f"evaluation left gradients in {', '.join(left)}")


@check("features stand for images that are embedded alone")
def features_for_images(make: Maker) -> None:
    """Each embedded by itself, in float64: so nothing but rounding may differ."""
    learner = make().double()
    if make.regression or not learner.embeds_alone:
        raise DoesNotApplyError("it does not promise embeds_alone")
    support, query, way = make.episode()
    support, query = (Examples(e.x.double(), e.y) for e in (support, query))
    batch = Episode(support, query, way)
    for _ in range(3):
        learner.meta_loss(batch)  # moves running statistics
    expected = learner.eval()(batch)
    learner.train()  # as training leaves it
    with learner.embedded() as net:
        support, query = (
            Examples(torch.stack([torch.cat([net(x[None]) for x in task]) for task in e.x]), e.y)
            for e in (support, query)
        )
        expect(support.x.dim() == 3, "`net` does not embed an image as a vector")
        agree(learner(Episode(support, query, way)), expected, "on features, and on images", 1e-7)
    expect(learner.net is net and net.training == learner.training, "`net` was not put back")


@check("metrics are one number a task, and right")
def metrics_are_right(make: Maker) -> None:
    """Those that every learner has, computed again."""
    learner, batch = make().eval(), make.episode()
    torch.manual_seed(1)
    metrics, prediction = learner.evaluate(batch)
    logits, y = ask(learner, batch), batch.query.y
    expect(prediction.shape == y.shape, f"predictions are {tuple(prediction.shape)}, not y's shape")
    for name, value in metrics.items():
        expect(value.shape == (batch.tasks,), f"{name} has shape {tuple(value.shape)}, not (T,)")
    if make.regression:
        right = {"mse": (logits - y).square().mean((1, 2))}
    else:
        p = logits.softmax(-1).gather(-1, y[..., None]).squeeze(-1)
        right = {"accuracy": (logits.argmax(-1) == y).float().mean(1), "nll": -p.log().mean(1)}
    for name in right.keys() & metrics.keys():
        agree(metrics[name], right[name], name)


@check("weights survive a round trip through state_dict")
def weights_survive(make: Maker) -> None:
    """Into a learner that started with others."""
    first, second, file = make(), make(seed=1), io.BytesIO()
    for seed in range(2):
        update(first, make.episode(seed=seed))
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    got, wanted = (ask(learner.eval(), make.episode()) for learner in (second, first))
    agree(got, wanted, "loaded into another, which then predicts")


@check("it follows from its seed")
def follows_from_seed(make: Maker) -> None:
    """Bit by bit."""
    first, second = (make().meta_loss(make.episode()) for _ in range(2))
    expect(torch.equal(first, second), "the same seed twice gives different losses")


@check("memory does not grow over updates")
def memory_does_not_grow(make: Maker) -> None:
    """Tensors alive after 3 updates and tests, and after 4 more."""
    gc.freeze()  # only what is made from here on is looked at
    try:
        learner, held = make(), []
        for seed in range(7):
            update(learner, make.episode(seed=seed))
            learner.eval().evaluate(make.episode(seed=seed))
            if seed in (2, 6):
                held.append(tensors_alive())
    finally:
        gc.unfreeze()
    count, size = (after - before for before, after in zip(*held, strict=True))
    expect(count <= 0 and size <= 0, f"4 updates left {count} tensors and {size:,} bytes more")


def tensors_alive() -> tuple[int, int]:
    """How many tensors Python holds, and the bytes of their storages."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    sizes: dict[int, int] = {}
    for tensor in tensors:
        with contextlib.suppress(RuntimeError, NotImplementedError):  # sparse ones have no storage
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return len(tensors), sum(sizes.values())
