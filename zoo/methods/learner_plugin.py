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
            join = takes_settings_of(host, without=cls.without, sources=True)
            cls.__init__ = join(_of_one_host(cls, plugin))  # type: ignore[method-assign]

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
    body: dict[str, Any] = {"__doc__": cls.__doc__, "__module__": cls.__module__, "host_key": key}
    body["registered_as"] = cls.registered_as
    # No module has this class under its name, so `pickle` is told how to make it again.
    body["__reduce__"] = lambda self: (_empty, (cls, key), self.__getstate__())
    return type(f"{cls.__name__}On{host.__name__}", (cls.__bases__[0], host), body)


def _empty(cls: type[PlugIn], key: str) -> Learner:
    """A learner without weights and settings, which `pickle` gives it afterwards."""
    made = cls.as_asked({"host": key})
    learner: Learner = made.__new__(made)
    return learner


def _of_one_host(cls: type[PlugIn], plugin: type[PlugIn]) -> Callable[..., None]:
    """The plug-in's constructor, which refuses any other host than the one of `cls`."""
    own = inspect.getattr_static(plugin, "__init__")

    @wraps(own)
    def construct(self: Any, *given: Any, **settings: Any) -> None:
        if (asked := settings.get("host", cls.host_key)) != cls.host_key:
            raise UsageError(f"host {asked}: name it in the learner's brackets, [host={asked}]")
        own(self, *given, **settings)

    return construct
