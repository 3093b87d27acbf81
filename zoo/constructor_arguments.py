"""What a learner's constructor was called with, and which names it takes.

A constructor may hand on arguments that it does not name, as ``*given`` and ``**settings``; then
those of the next constructor in the order of inheritance count too.
"""

from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter, Signature, signature
from typing import Any

UNNAMED = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def constructor_arguments(
    cls: type, given: Sequence[Any], settings: Mapping[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """The arguments of a call ``cls(*given, **settings)``.

    Returns:
        The network and the way, which every learner takes first, and all others by name: what was
        given, and the defaults of the constructor of `cls` itself. Defaults of the constructors
        behind it are left out: it may hand them other values.
    """
    own: dict[str, Any] = {}
    for number, constructor in enumerate(constructors(cls)):
        bound = constructor.bind(*given, **settings)
        if number == 0:
            bound.apply_defaults()
        named, handed_on = {}, {}
        for name, value in bound.arguments.items():
            kind = constructor.parameters[name].kind
            if kind == Parameter.VAR_KEYWORD:
                handed_on = value
            elif kind == Parameter.KEYWORD_ONLY:
                own.setdefault(name, value)
            elif kind != Parameter.VAR_POSITIONAL:
                named[name] = value
        if len(named) >= 2:
            break
        given, settings = bound.args, handed_on
    (_, net), (_, way), *others = named.items()
    return net, way, {**handed_on, **dict(others), **own}


def constructor_names(cls: type) -> set[str]:
    """The names that the constructor takes, or hands on to one that takes them."""
    return {name for constructor in constructors(cls) for name in constructor.parameters}


def constructors(cls: type) -> Iterator[Signature]:
    """The constructor without its ``self``, and those behind it that get what it does not name."""
    for each in cls.__mro__:
        if "__init__" in vars(each):
            found = signature(vars(each)["__init__"])
            parameters = list(found.parameters.values())[1:]
            yield found.replace(parameters=parameters)
            if not any(p.kind in UNNAMED for p in parameters):
                return
