"""The checks: what every learner must do, whatever its paper.

Titles and messages are written for somebody who wrote a first learner: what was done, what came
out, and what to change in the file.
"""

import contextlib
import copy
import gc
import io
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.conformance.harness import (
    BrokenError,
    DoesNotApplyError,
    Maker,
    check,
    described,
    doing,
)
from zoo.episode import Episode, Examples
from zoo.learner import Learner
from zoo.runs.settings import constructor_defaults, documentation

# A rounded number may fall on the other side of a ReLU, so gradients through steps differ by more.
DOUBLE_ROUNDING = 0.01
CITATION = '"""Title (Authors, Venue Year). https://arxiv.org/abs/0000.00000'


def expect(holds: Any, problem: str, change: str) -> None:
    """Fail with the problem, and what to change, unless the condition `holds`."""
    if not holds:
        raise BrokenError(problem, change)


def agree(
    a: Tensor, b: Tensor, problem: str, change: str, *, ending: str = "", tolerance: float = 1e-4
) -> None:
    """Expect that two tensors are equal apart from rounding.

    Args:
        a: what came out.
        b: what it should be.
        problem: what it means if they differ; the size of the difference is put after it.
        change: what to change then.
        ending: what the message about the problem ends with.
        tolerance: of the difference, relative and absolute.
    """
    if a.shape != b.shape or not torch.allclose(a, b, rtol=tolerance, atol=tolerance):
        raise BrokenError(f"{problem} ({difference_in_words(a, b)}){ending}", change)


def difference_in_words(a: Tensor, b: Tensor) -> str:
    """How two tensors differ, in words."""
    if a.shape != b.shape:
        return f"shape {tuple(a.shape)} instead of {tuple(b.shape)}"
    if not (a.isfinite().all() and b.isfinite().all()):
        return "some of these numbers are nan or infinite"
    return f"difference up to {float((a - b).detach().abs().max()):.2g}"


def mode_of(learner: Learner) -> str:
    """The mode that a learner is in, in words."""
    return "training mode" if learner.training else "evaluation mode"


def ask(learner: Learner, batch: Episode) -> Tensor:
    """What `forward` returns, with the same random numbers each time."""
    torch.manual_seed(1)
    with doing(f"`forward`, in {mode_of(learner)}, given {described(batch)}"):
        return learner(batch)


def lose(learner: Learner, batch: Episode) -> Tensor:
    """What `meta_loss` returns, with the same random numbers each time."""
    torch.manual_seed(1)
    with doing(f"`meta_loss`, in {mode_of(learner)}, given {described(batch)}"):
        return learner.meta_loss(batch)


def judge(learner: Learner, batch: Episode) -> tuple[dict[str, Tensor], Tensor]:
    """What `evaluate` returns, with the same random numbers each time."""
    torch.manual_seed(1)
    with doing(f"`evaluate`, in {mode_of(learner)}, given {described(batch)}"):
        return learner.evaluate(batch)


def learnable(learner: Learner) -> list[tuple[str, torch.nn.Parameter]]:
    """The parameters that training changes, by name."""
    return [(name, p) for name, p in learner.named_parameters() if p.requires_grad]


def update(learner: Learner, batch: Episode) -> None:
    """One step of plain gradient descent."""
    loss = lose(learner.train(), batch)
    if parameters := [p for _, p in learnable(learner)]:
        with doing("the backward pass of the loss"):
            loss.backward()
        torch.optim.SGD(parameters, 1e-3).step()
        learner.zero_grad()


def one_task(batch: Episode, t: int) -> Episode:
    """The meta-batch of task t alone."""
    support, query = (Examples(x[t : t + 1], y[t : t + 1]) for x, y in batch[:2])
    return Episode(support, query, batch.way)


@check("the file says what the learner is: citation, departures, title, family and a sentence")
def file_says_what_it_is(make: Maker) -> None:
    """Lists and tables show all of this."""
    cls = make.cls
    text = sys.modules[cls.__module__].__doc__ or ""
    first, _, _ = text.partition("\n")
    expect(
        "https://" in first,
        f"the first line of the file's docstring is {first!r}, without a link",
        f"let the file begin with its citation and a link in one line, such as {CITATION}",
    )
    expect(
        "departures" in text.lower(),
        "the file's docstring does not say where the code departs from the paper",
        "below the citation write 'Departures from the paper:' and a numbered list, or 'none'",
    )
    for name in ("title", "family"):
        expect(
            getattr(cls, name),
            f"the class {cls.__name__} has no `{name}`, which lists and tables show",
            f'write `{name} = "..."` below the docstring of the class',
        )
    lines = len((cls.__doc__ or "").strip().splitlines())
    expect(
        lines == 1,
        f"the docstring of the class {cls.__name__} has {lines} lines, and `zoo list` shows one",
        "describe in one sentence on one line what the learner does",
    )


@check("every setting of the constructor is documented")
def settings_are_documented(make: Maker) -> None:
    """``run --help`` shows the documentation."""
    cls = make.cls
    texts = documentation(cls)
    missing = [name for name in constructor_defaults(cls) if not texts.get(name)]
    if missing:
        raise BrokenError(
            f"the docstring of `__init__` says nothing about {', '.join(missing)}, so "
            "`zoo run --help` cannot explain it",
            "in that docstring, below a first sentence, write `Args:` and below that, indented, "
            f"`{missing[0]}: what it is`",
        )


@check("predictions have one row per query and one column per way, for any ways, shots and tasks")
def shapes(make: Maker) -> None:
    """In regression, predictions have the shape of y."""
    for shape in ({}, {"shot": 1, "query": 1}, {"tasks": 1}, {"shot": 3}, {"way": 3}):
        batch, learner = make.episode(**shape), make(shape.get("way"))
        y = batch.query.y
        wanted = tuple(y.shape if make.regression else (*y.shape, batch.way))
        meaning = "that of query.y" if make.regression else "tasks, queries per task, ways"
        for training in (True, False):
            with any_shape_taken() if shape else contextlib.nullcontext():
                got = tuple(ask(learner.train(training), batch).shape)
            expect(
                got == wanted,
                f"in {mode_of(learner)} `forward` was given {described(batch)}, and what it "
                f"returned has shape {got}; expected {wanted}: {meaning}",
                "take these numbers from the episode, not from constants: `episode.tasks`, "
                "`episode.query.x.shape[1]` and `episode.way` (or the constructor's `way`)",
            )


def any_shape_taken() -> contextlib.AbstractContextManager[None]:
    """Say of an error inside this block that the shape causes it, because 5-way 2-shot worked."""
    change = "let `forward` take any number of ways, shots, queries and tasks"
    return doing("the same with 4 tasks, 5-way 2-shot, had worked", change)


@check("in evaluation, the same episode always gets the same predictions")
def same_predictions_again(make: Maker) -> None:
    """Whatever the state of torch's and NumPy's random numbers is."""
    learner, batch = make().eval(), make.episode()
    first = ask(learner, batch)
    with torch.random.fork_rng([]), doing("`forward` in evaluation mode, a second time"):
        torch.manual_seed(2)
        again = learner(batch)
    agree(
        again,
        first,
        "in evaluation mode the same episode was given twice, and got other predictions the second "
        "time",
        "draw no random numbers in `forward` in evaluation mode, and let it change nothing that it "
        "reads the next time; what must be random should follow from the episode, as "
        "`zoo.datasets.episodes.hash_random` draws from numbers",
    )


@check("the loss has a gradient in every parameter that is to be learned")
def gradients_reach(make: Maker) -> None:
    """The gradient must be finite and not zero."""
    learner = make()
    if not learnable(learner):
        raise DoesNotApplyError("it has no parameters to learn")
    loss = lose(learner, make.episode())
    with doing("`meta_loss(episode).backward()`"):
        loss.backward()
    for name, p in learnable(learner):
        expect(
            p.grad is not None and p.grad.any(),
            f"after `meta_loss(episode).backward()` the parameter `{name}` has "
            f"{'no gradient' if p.grad is None else 'a gradient of zeros'}, so training never "
            "changes it",
            f"use `{name}` on the way from the images to the loss, and look there for something "
            "that stops gradients (`.detach()`, `torch.no_grad()`, `argmax`); if it is not to be "
            "learned, delete it, call `.requires_grad_(False)` on it, or make it a buffer by "
            "`self.register_buffer(...)`",
        )
        expect(
            p.grad is not None and p.grad.isfinite().all(),
            f"after `meta_loss(episode).backward()` the gradient of `{name}` has nan or infinity",
            "look for a division by zero, the log or square root of 0, or the norm of a vector of "
            "zeros, and keep its input above 0, for instance by `.clamp(min=1e-6)`",
        )


@check("the loss of several tasks is the mean of each task's loss, unless `joint_tasks` is True")
def loss_is_mean_over_tasks(make: Maker) -> None:
    """Then the losses of micro-batches add up; a learner that needs all tasks at once says so."""
    learner, batch = make(), make.episode()
    if learner.joint_tasks:
        raise DoesNotApplyError("`joint_tasks` is True: the tasks of a meta-batch need each other")
    tasks = [one_task(batch, t) for t in range(batch.tasks)]
    unused = copy.deepcopy(learner)  # a loss may change buffers
    whole = lose(copy.deepcopy(learner), batch)
    # Random numbers may be drawn task after task, so they go on from task to task here ...
    torch.manual_seed(1)
    losses = []
    for task in tasks:
        with doing(f"`meta_loss`, given {described(task)}"):
            losses.append(learner.meta_loss(task))
    mean = torch.stack(losses).mean()
    if not torch.allclose(whole, mean, rtol=1e-4, atol=1e-4):
        # ... or once for all tasks, so they are the same for each task here.
        mean = torch.stack([lose(unused, task) for task in tasks]).mean()
        if not torch.allclose(make().meta_loss(batch), whole, rtol=1e-6, atol=0):
            raise DoesNotApplyError(
                "it draws random numbers, and others for one task than for several"
            )
    expect(
        torch.allclose(whole, mean, rtol=1e-4, atol=1e-4),
        f"in training `meta_loss` of {batch.tasks} tasks together is {float(whole.detach()):.4g}, "
        f"but the mean of `meta_loss` of each task alone is {float(mean.detach()):.4g}; with "
        "`joint_tasks` False they must be equal, because a meta-batch may be computed in parts "
        "(`micro_batch`)",
        "take the mean over tasks where the sum is taken; if the tasks do need each other, for "
        "instance because one batch norm sees the images of all of them, set `joint_tasks = True`",
    )


@check("in evaluation, a task's predictions do not depend on the other tasks")
def tasks_do_not_mix(make: Maker) -> None:
    """A task given alone gets the same predictions."""
    learner, batch = make().eval(), make.episode()
    alone = torch.cat([ask(learner, one_task(batch, t)) for t in range(batch.tasks)])
    agree(
        ask(learner, batch),
        alone,
        f"in evaluation mode, {batch.tasks} tasks given to `forward` together get other "
        "predictions than when each is given alone",
        "compute nothing over dimension 0, the tasks: no mean, softmax or count of tasks; batch "
        "norm by statistics of the batch must see one task at a time (`torch.stack([self.net(task) "
        'for task in x])`), or be in mode `batch_norm="running"`',
    )


@check("the labels of the queries are not used to predict them")
def no_query_label_is_seen(make: Maker) -> None:
    """In training and in evaluation."""
    batch = make.episode()
    unlabelled = batch._replace(query=batch.query._replace(y=torch.zeros_like(batch.query.y)))
    change = (
        "read `episode.query.y` nowhere but in the loss and in metrics, and predict from "
        "`episode.support` and `episode.query.x` alone"
    )
    learner = make()
    for training in (True, False):  # copies, because a prediction may move running statistics
        learner.train(training)
        got, wanted = (ask(copy.deepcopy(learner), e) for e in (unlabelled, batch))
        expect(
            torch.equal(got, wanted),
            f"in {mode_of(learner)}, `forward` returns other "
            f"predictions when all labels in `episode.query.y` are set to 0 "
            f"({difference_in_words(got, wanted)})",
            change,
        )
    got, wanted = (judge(copy.deepcopy(learner), e)[1] for e in (unlabelled, batch))
    expect(
        torch.equal(got, wanted),
        "`evaluate` returns other predictions when all labels in `episode.query.y` are set to 0",
        change,
    )


@check("the order of the support examples does not matter, unless `sequential` is True")
def support_order(make: Maker) -> None:
    """Predictions stay the same when the support examples are shuffled."""
    learner, batch = make().eval(), make.episode()
    if learner.sequential:
        raise DoesNotApplyError("`sequential` is True: the order may matter")
    x, y = batch.support
    shuffle = torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(1))
    shuffled = batch._replace(support=Examples(x[:, shuffle], y[:, shuffle]))
    agree(
        ask(learner, shuffled),
        ask(learner, batch),
        "the same support examples, each with its label, give other predictions in another order",
        "find the examples of a class by `episode.support.y`, never by their place (they are not "
        "sorted by class); if the learner reads them one after the other, set `sequential = True`",
        ending=", but `sequential` is False",
    )


@check("the images of the support are used")
def support_is_used(make: Maker) -> None:
    """Other images for the same labels give other predictions."""
    if not make.cls.uses_inputs:
        raise DoesNotApplyError("`uses_inputs` is False: it predicts from the outputs alone")
    learner, batch = make().eval(), make.episode()
    other = batch._replace(support=Examples(batch.support.x.flip(1), batch.support.y))
    same = torch.allclose(ask(learner, other), ask(learner, batch), atol=1e-6)
    expect(
        not same,
        "the support inputs were reversed and the labels were not, so that each label has other "
        "inputs, and all predictions stay as they were",
        "let what `forward` returns depend on `episode.support.x` together with "
        "`episode.support.y`; look for something that is computed from them and then not used",
    )


@check("a query's predictions depend on the other queries only if `transductive` is True")
def transductive_as_it_says(make: Maker) -> None:
    """If no prediction depends on the other queries, `transductive` must be False."""
    learner, batch = make().eval(), make.episode()
    first_query = batch._replace(query=Examples(batch.query.x[:, :1], batch.query.y[:, :1]))
    alone, among = ask(learner, first_query), ask(learner, batch)[:, :1]
    same = torch.allclose(alone, among, atol=1e-4)
    count, difference = batch.query.x.shape[1], difference_in_words(alone, among)
    expect(
        same or learner.transductive,
        f"in evaluation mode, the first query of a task given alone gets other predictions than "
        f"among all {count} queries ({difference}), but `transductive` is False",
        "set `transductive = True`; or, if queries are not to influence each other, compute "
        "nothing over all queries and keep them out of batch norm's statistics: "
        '`batch_norm="running"`, or `batch_norm="support"` with the network called inside '
        "`with batch_norm_context(self.net, support_rows=...)`",
    )
    expect(
        not (same and learner.transductive),
        f"`transductive` is True, but in evaluation mode the first query of a task given alone "
        f"gets the same predictions as among all {count} queries",
        "set `transductive = False`; where it follows from a setting, set it in the constructor, "
        'as in `self.transductive = self.batch_norm == "batch"`',
    )


@check("other numbers for the classes only reorder the logits, if `way_equivariant` is True")
def relabelled_ways(make: Maker) -> None:
    """A class keeps its logits when it gets another number."""
    learner, batch = make().eval(), make.episode()
    if make.regression:
        raise DoesNotApplyError("regression has no classes")
    if not learner.way_equivariant:
        raise DoesNotApplyError("`way_equivariant` is False: a class's number may matter")
    relabel = torch.tensor([3, 0, 4, 1, 2])
    other = batch._replace(support=Examples(batch.support.x, relabel[batch.support.y]))
    agree(
        ask(learner, other)[..., relabel],
        ask(learner, batch),
        "with the labels 0, 1, 2, 3, 4 of the support replaced by 3, 0, 4, 1, 2, the logits of a "
        "class are not those that it had under its old number",
        "treat all classes alike, whatever their numbers; if each class number has weights of its "
        "own, as the rows of a linear head, set `way_equivariant = False`",
        ending=", but `way_equivariant` is True",
    )


@check("it predicts the same under torch.no_grad and torch.inference_mode")
def without_autograd(make: Maker) -> None:
    """It also keeps no graph there."""
    learner = make().eval()
    for context in (torch.no_grad, torch.inference_mode):
        name = f"torch.{context.__name__}()"
        with (
            context(),
            doing(
                f"this was under `{name}`, as a test is",
                "where `forward` takes a gradient, switch gradients on; `zoo.adapt` and the "
                "functions of zoo/methods/inner_loop.py do so, and around code of your own write "
                "`with torch.inference_mode(False), torch.enable_grad():` and clone in it the "
                "tensors that come from outside",
            ),
        ):
            predictions = ask(learner, make.episode())  # of an episode made inside the context
        expect(
            not predictions.requires_grad,
            f"under `{name}` the predictions require a gradient, so a test keeps all that they "
            "were computed from in memory",
            "where `forward` switches gradients on, return `.detach()` of the result if "
            "`torch.is_grad_enabled()` was False before",
        )
        agree(
            predictions,
            ask(learner, make.episode()).detach(),
            f"under `{name}` the predictions differ from those without it",
            "compute the same whether `torch.is_grad_enabled()` or not: look for a gradient that "
            "is zero or missing there",
        )


@check("an update and a test never ask for the numbers in a tensor, for which a GPU would wait")
def stays_on_device(make: Maker) -> None:
    """Torch's device `meta` has no numbers, and like a GPU refuses tensors of the CPU."""
    learner = make()
    if learner.why_it_syncs:
        raise DoesNotApplyError(f"`why_it_syncs` says why it must: {learner.why_it_syncs}")
    learner, batch = learner.to("meta"), on_meta(make.episode(tasks=2))
    with doing(
        'this was on torch\'s device "meta", whose tensors have shapes but no numbers',
        "in that line use neither `.item()`, `.tolist()`, `float(tensor)`, `if tensor:` "
        "nor a mask as an index; make new tensors where the others are, by `x.new_zeros(...)` or "
        "`torch.zeros(..., device=x.device)`, and keep constants by `self.register_buffer(...)`; a "
        'learner that must have numbers says why: `why_it_syncs = "SciPy ..."`',
    ):
        update(learner, batch)
        judge(learner.eval(), batch)


def on_meta(batch: Episode) -> Episode:
    """The same meta-batch on the device `meta`: shapes without numbers."""
    support, query = (Examples(x.to("meta"), y.to("meta")) for x, y in batch[:2])
    return Episode(support, query, batch.way)


@check("in 64-bit numbers it computes what it computes in 32-bit ones, but for rounding")
def double_precision(make: Maker) -> None:
    """The loss, its gradient and the predictions, as under a Trainer of precision 64-true."""
    change = (
        "make new tensors of the type of the others, by `.to(x)` or `x.new_zeros(...)`, and "
        "convert nothing to a fixed type, as `.float()` does"
    )
    found: list[dict[str, Tensor]] = []
    for dtype in (torch.float32, torch.float64):
        learner, tested = make().to(dtype), make().to(dtype).eval()
        batch = make.episode().to(dtype)
        values: dict[str, Tensor] = {}
        with default_type(dtype), doing(f"all numbers were {dtype}", change):
            loss = lose(learner.train(), batch)
            if parameters := [p for _, p in learnable(learner)]:
                loss.backward()
                values = {
                    "gradient": torch.cat(
                        [p.grad.flatten() for p in parameters if p.grad is not None]
                    )
                }
            values |= {"loss": loss.detach(), "predictions": ask(tested, batch).detach()}
        for name, value in values.items():
            expect(
                value.dtype == dtype,
                f"with weights and images of {dtype} the {name} came out as {value.dtype}",
                change,
            )
        found.append(values)
    single, double = found
    for name, value in double.items():
        difference = float((single[name] - value).norm() / value.norm().clamp(min=1e-6))
        expect(
            difference < DOUBLE_ROUNDING,
            f"with weights and images of float64 the {name} differs from that of float32 by "
            f"{difference:.1g} of its size, which is more than rounding",
            change,
        )


@contextlib.contextmanager
def default_type(dtype: torch.dtype) -> Iterator[None]:
    """In this block new tensors have this type, as in the steps of a Trainer of its precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@check("a test changes nothing in the learner")
def evaluation_changes_nothing(make: Maker) -> None:
    """No weights, buffers or gradients."""
    learner = make().eval()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    judge(learner, make.episode())
    for name, value in learner.state_dict().items():
        expect(
            name in before and torch.equal(value, before[name]),
            f"in evaluation mode `evaluate(episode)` changed `{name}`, a parameter or buffer",
            "change it in training alone (`if self.training:`, or in `meta_loss`); steps on "
            "weights belong to a copy of them, as `zoo.adapt` makes one",
        )
    with_gradient = [name for name, p in learner.named_parameters() if p.grad is not None]
    expect(
        not with_gradient,
        f"`evaluate(episode)` left a gradient in `.grad` of {', '.join(with_gradient)}, which the "
        "next update would add to its own",
        "take gradients by `torch.autograd.grad(loss, tensors)`, which returns them, instead of "
        "`loss.backward()`",
    )


@check("features of single images can take the place of images, if `embeds_alone` is True")
def features_for_images(make: Maker) -> None:
    """Each image is embedded alone, in float64, and the predictions must be those on images."""
    learner = make()
    if make.regression:
        raise DoesNotApplyError("regression has no images")
    if not learner.embeds_alone:
        raise DoesNotApplyError("`embeds_alone` is False: features may depend on other images")
    learner.double()
    batch = make.episode().to(torch.float64)
    with doing(
        "all numbers were float64",
        "make new tensors of the type of the others, by `.to(x)` or `x.new_zeros(...)`",
    ):
        for _ in range(3):
            lose(learner, batch)  # moves running statistics
        expected = ask(learner.eval(), batch)
    learner.train()  # as training leaves it
    change = (
        "do to images nothing but pass them to `self.net`, and go on with what it returns; where "
        "the features of an image depend on other images, as by batch norm that is not in mode "
        "`running`, set `embeds_alone = False`"
    )
    with learner.embedded() as net:
        support, query = (embedded_one_by_one(examples, net) for examples in batch[:2])
        expect(
            support.x.dim() == 3,
            f"`self.net` makes of one image an array of shape {tuple(support.x.shape[2:])}; "
            "expected a vector, because `embeds_alone` is True",
            "let the network end with `.flatten(1)`, or set `embeds_alone = False`",
        )
        features = Episode(support, query, batch.way)
        with doing(
            "these were features in place of images, which `self.net` passes on, because "
            "`embeds_alone` is True",
            change,
        ):
            got = ask(learner, features)
        agree(
            got,
            expected,
            "each image was embedded alone by `self.net`, and `forward` was given the features in "
            "place of the images, because `embeds_alone` is True: the predictions are not those "
            "on the images",
            change,
            tolerance=1e-7,
        )
    expect(
        learner.net is net and net.training == learner.training,
        "after a test on features `self.net` is another network than before, or in another mode",
        "do not assign `self.net`, nor call its `.train()` or `.eval()`, in `forward`",
    )


def embedded_one_by_one(examples: Examples, net: torch.nn.Module) -> Examples:
    """Features (T, n, D) in place of images; each image goes through `net` alone."""
    tasks = [torch.cat([net(x.unsqueeze(0)) for x in task]) for task in examples.x]
    return Examples(torch.stack(tasks), examples.y)


@check("the metrics of a test are one number per task, and right")
def metrics_are_right(make: Maker) -> None:
    """Those that every learner has are computed again here."""
    learner, batch = make().eval(), make.episode()
    metrics, prediction = judge(learner, batch)
    logits, y = ask(learner, batch), batch.query.y
    expect(
        prediction.shape == y.shape,
        f"the second thing that `evaluate` returns, the predictions, has shape "
        f"{tuple(prediction.shape)}; expected that of query.y, {tuple(y.shape)}",
        "return the predicted label of each query, `logits.argmax(-1)` (in regression what "
        "`forward` returns)",
    )
    for name, value in metrics.items():
        expect(
            value.shape == (batch.tasks,),
            f"`evaluate` was given {batch.tasks} tasks and returned {name} of shape "
            f"{tuple(value.shape)}; expected ({batch.tasks},), a number per task",
            "take the mean over queries, not over tasks: `.mean(-1)`",
        )
    if make.regression:
        right = {"mse": ((logits - y).square().mean((1, 2)), "the mean squared error")}
    else:
        p = logits.softmax(-1).gather(-1, y[..., None]).squeeze(-1)
        correct = (logits.argmax(-1) == y).float().mean(1)
        right = {
            "accuracy": (correct, "the share of queries classified correctly, from 0 to 1"),
            "nll": (-p.log().mean(1), "the mean cross-entropy in nats"),
        }
    for name in right.keys() & metrics.keys():
        value, meaning = right[name]
        agree(
            metrics[name],
            value,
            f"`evaluate` returns for {name} other numbers than follow from what `forward` returns",
            "compute it so, or leave `evaluate` as it is inherited; a metric of your own needs "
            "another name",
            ending=f": {name} must be {meaning}",
        )


@check("saved weights, loaded into a new learner, give the same predictions")
def weights_survive(make: Maker) -> None:
    """The new learner starts with other weights."""
    first, second, file = make(), make(seed=1), io.BytesIO()
    for seed in range(2):
        update(first, make.episode(seed=seed))
    torch.save(first.state_dict(), file)
    file.seek(0)
    with doing("`load_state_dict`, of a learner built with another seed"):
        second.load_state_dict(torch.load(file, weights_only=True))
    got, wanted = (ask(learner.eval(), make.episode()) for learner in (second, first))
    agree(
        got,
        wanted,
        "`state_dict()` of a learner after two updates was loaded into one built with another "
        "seed, whose predictions then differ",
        "keep every tensor that predictions depend on as an `nn.Parameter`, or by "
        '`self.register_buffer("name", tensor)`; a plain attribute `self.name = tensor` is not '
        "saved, nor is a module in a plain list (use `nn.ModuleList`)",
    )


@check("the same seed gives the same loss")
def follows_from_seed(make: Maker) -> None:
    """Bit for bit."""
    with doing("`meta_loss`, in training mode"):
        first, second = (make().meta_loss(make.episode()) for _ in range(2))
    expect(
        torch.equal(first, second),
        "two learners were built with the same seed, and `meta_loss` of the same episode is "
        f"{float(first.detach())!r} for one and {float(second.detach())!r} for the other",
        "draw random numbers by torch alone (`torch.rand`, `torch.randn`, `nn.init`), which the "
        "run seeds; not by `os.urandom`, the time, or a generator without a seed",
    )


@check("the memory in use does not grow from update to update")
def memory_does_not_grow(make: Maker) -> None:
    """Compares the tensors alive after 3 updates and tests with those after 4 more."""
    gc.freeze()  # so that only tensors made from here on are counted
    try:
        learner, alive = make(), []
        for seed in range(7):
            update(learner, make.episode(seed=seed))
            judge(learner.eval(), make.episode(seed=seed))
            if seed in (2, 6):
                alive.append(tensors_alive())
    finally:
        gc.unfreeze()
    (count_before, bytes_before), (count_after, bytes_after) = alive
    more, more_bytes = count_after - count_before, bytes_after - bytes_before
    expect(
        more <= 0 and more_bytes <= 0,
        f"after 7 updates and tests there are {more} tensors and {more_bytes:,} bytes more than "
        "after 3",
        "look for an attribute that keeps tensors from update to update, such as "
        "`self.losses.append(loss)` or `torch.cat([self.seen, x])`: keep none, or only the last; "
        "what you want to look at later goes into the log by `self.log(name, loss.detach())`",
    )


def tensors_alive() -> tuple[int, int]:
    """How many tensors Python holds, and the bytes of their storages."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if issubclass(type(each), Tensor)]
    sizes: dict[int, int] = {}
    for tensor in tensors:
        with contextlib.suppress(RuntimeError, NotImplementedError):  # sparse ones have no storage
            storage = tensor.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
    return len(tensors), sum(sizes.values())
