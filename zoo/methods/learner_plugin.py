"""Plug-ins: learners that add something to another learner, their host."""

import inspect
from collections.abc import Callable, Mapping
from functools import cache, wraps
from typing import Any

from zoo.errors import UsageError
from zoo.learner import Learner
from zoo.methods.host import Host
from zoo.methods.inherited_settings import takes_settings_of
from zoo.registry import learners


class PlugIn(Host):
    """A learner that adds something to its host, which a setting names: ``class Mine(PlugIn)``.

    The constructor of `Mine` has a setting `host`, a learner's key, and passes ``**settings`` on.
    What is registered is a class of `Mine` and its default host, ``class MineOnMAML(Mine, MAML)``.
    `class_for` makes such a class for any other host. Their constructors have the settings of both.
    """

    wrappable = False  # a plug-in cannot be a host
    without: tuple[str, ...] = ()  # settings of the host that the plug-in does not take

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if len(cls.__bases__) == 2:
            plugin, host = cls.__bases__
            cls.title = f"{host.title} + {plugin.title}"  # type: ignore[attr-defined]
            default = inspect.signature(plugin.__init__).parameters["host"].default  # type: ignore
            cls.host_key = cls.__dict__.get("host_key", default)
            with_host_settings = takes_settings_of(host, without=cls.without, sources=True)
            constructor = with_host_settings(_of_one_host(cls, plugin))
            cls.__init__ = constructor  # type: ignore[method-assign]

    @classmethod
    def class_for(cls, overrides: Mapping[str, Any]) -> type[Learner]:
        """The class for the host that `overrides` name; if they name none, this class."""
        key = overrides.get("host", cls.host_key)
        return cls if key == cls.host_key else _on_host(cls, key)  # type: ignore[arg-type]


@cache
def _on_host(cls: type[PlugIn], key: str) -> type[Learner]:
    """The class of the same plug-in on another host, the learner `key`.

    Raises:
        UsageError: that learner cannot be a host.
    """
    host = learners.get(str(key))
    if not host.wrappable:
        hosts = [name for name in learners.names() if learners.get(name).wrappable]
        raise UsageError(f"host {key}: cannot be one; choose from {', '.join(hosts)}")
    body: dict[str, Any] = {
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "host_key": key,
        "registered_as": cls.registered_as,
        # `pickle` would look for this class by name in a module, and no module has it.
        "__reduce__": lambda self: (_empty, (cls, key), self.__getstate__()),
    }
    return type(f"{cls.__name__}On{host.__name__}", (cls.__bases__[0], host), body)


def _empty(cls: type[PlugIn], key: str) -> Learner:
    """A learner without weights and settings, which `pickle` fills afterwards."""
    on_host = cls.class_for({"host": key})
    learner: Learner = on_host.__new__(on_host)
    return learner


def _of_one_host(cls: type[PlugIn], plugin: type[PlugIn]) -> Callable[..., None]:
    """The plug-in's constructor, which refuses any other host than that of `cls`."""
    init = inspect.getattr_static(plugin, "__init__")

    @wraps(init)
    def construct(self: Any, *given: Any, **settings: Any) -> None:
        host = settings.get("host", cls.host_key)
        if host != cls.host_key:
            raise UsageError(f"host {host}: name it in the learner's brackets, [host={host}]")
        init(self, *given, **settings)

    return construct
