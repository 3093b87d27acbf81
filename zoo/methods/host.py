"""Learners whose forward has three parts, and plug-ins that ask for each of them."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from zoo.episode import Episode, Examples
from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.methods.inner_loop import Params, call, expanded_parameters
from zoo.networks.backbone import batch_norm_context
from zoo.registry import learners


class Host(Learner):
    """A learner that adapts a model to each support set, and predicts by it.

    What is adapted is a tensor with a leading T, or a dict of such, so that the models of other
    tasks can be put in the place of a task's own.
    """

    wrappable = True
    adapts_encoder = False  # whether a model has the backbone's parameters too

    def encode(self, episode: Episode) -> Episode:
        """What every model is given: the episode, or features (T, n, D) in place of its images."""
        return episode

    def begin(self, tasks: int) -> Params:
        """What adaptation starts from, the same of all T tasks: of gradient learners theta."""
        theta, precondition = (
            expanded_parameters(self.net, tasks),
            getattr(self, "precondition", None),
        )
        return precondition.start(theta) if precondition else theta

    def models(self, episode: Episode) -> Any:
        """What adaptation to each support set leaves, of an encoded episode."""
        raise NotImplementedError

    def predict(self, models: Any, episode: Episode) -> Tensor:
        """What T models say of the queries of T encoded tasks, each of its own: (T, N*Q, N)."""
        raise NotImplementedError

    def forward(self, episode: Episode) -> Tensor:
        """Encode, adapt to each support set, predict its queries: logits (T, N*Q, N)."""
        known = self.encode(episode)
        return self.predict(self.models(known), known)


class PlugIn(Host):
    """What is added to a host, whichever is asked for: ``class Mine(PlugIn)``.

    Its constructor has a setting `host`, a learner's key, and passes ``**settings`` on. The class
    to register is one of it and its default host, ``class MineOnMAML(Mine, MAML)``; its constructor
    has the settings of both, and so have those that `as_asked` makes for other hosts.
    """

    wrappable = False  # not twice
    without: tuple[str, ...] = ()  # settings of hosts that it cannot have

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if len(cls.__bases__) == 2:
            plugin, host = cls.__bases__
            cls.title = f"{host.title} + {plugin.title}"  # type: ignore[attr-defined]
            default = inspect.signature(plugin.__init__).parameters["host"].default  # type: ignore
            cls.host_key = cls.__dict__.get("host_key", default)
            cls.__init__ = _joined(cls, plugin, host)  # type: ignore[method-assign]

    @classmethod
    def as_asked(cls, overrides: Mapping[str, Any]) -> type[Learner]:
        """The class on the host that is asked for."""
        key = overrides.get("host", cls.host_key)
        return cls if key == cls.host_key else _on(cls, key)  # type: ignore[arg-type]


@cache
def _on(cls: type[PlugIn], key: str) -> type[Learner]:
    host = learners.get(str(key))
    if not host.wrappable:
        able = [name for name in learners.names() if learners.get(name).wrappable]
        raise UsageError(f"host {key}: cannot be one; choose from {', '.join(able)}")
    body = {"__doc__": cls.__doc__, "__module__": cls.__module__, "host_key": key}
    return type(f"{cls.__name__}On{host.__name__}", (cls.__bases__[0], host), body)


def _joined(cls: type[PlugIn], plugin: type[PlugIn], host: type) -> Callable[..., None]:
    """A constructor with the settings of both, each with its documentation."""
    own, hosts = (inspect.getattr_static(c, "__init__") for c in (plugin, host))

    def construct(self: Any, *given: Any, **settings: Any) -> None:
        if (asked := settings.get("host", cls.host_key)) != cls.host_key:
            raise UsageError(f"host {asked}: name it in the learner's brackets, [host={asked}]")
        own(self, *given, **settings)

    first, second = (inspect.signature(f).parameters for f in (own, hosts))
    ours = [p for p in first.values() if p.kind != p.VAR_KEYWORD]
    theirs = [p for name, p in second.items() if name not in {*first, *plugin.without}]
    construct.__signature__ = inspect.Signature(ours + theirs)  # type: ignore[attr-defined]
    text, more = (inspect.getdoc(f) or "" for f in (own, hosts))
    construct.__doc__ = text.partition("    **settings")[0] + more.partition("Args:\n")[2]
    return construct


def taken(models: Any, tasks: Tensor) -> Any:
    """The models of those tasks, in their order."""
    if isinstance(models, Tensor):
        return models[tasks]
    return {name: p[tasks] for name, p in models.items()}


def embed(net: nn.Module, theta: Params, episode: Episode, batch_norm: str) -> Episode:
    """Features (T, n, D) by each task's parameters in place of images, each batch norm its own.

    Args:
        net: from images to D features.
        theta: its parameters, with a leading T.
        episode: of images.
        batch_norm: ``batch``, of support and query each, or ``support``.
    """
    (x, y), (asked, labels), way = episode
    if batch_norm != "support":
        z, z_asked = call(net, theta, x), call(net, theta, asked)
    else:
        with batch_norm_context(net, support_rows=x.shape[1]):
            both = call(net, theta, torch.cat([x, asked], 1))
        z, z_asked = both[:, : x.shape[1]], both[:, x.shape[1] :]
    return Episode(Examples(z, y), Examples(z_asked, labels), way)
