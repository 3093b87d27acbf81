"""What a learner's constructor was called with, and which names it takes.

A constructor may take ``*given`` and ``**settings`` and pass them on to the next constructor in the
order of inheritance. Then the arguments of that one count too.
"""

from collections.abc import Iterator, Mapping, Sequence
from inspect import Parameter, Signature, signature
from typing import Any

VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)  # *args and **kwargs


def constructor_arguments(
    cls: type, given: Sequence[Any], settings: Mapping[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """The arguments of a call ``cls(*given, **settings)``.

    Returns:
        The network and the way, which every learner takes first, and all other arguments by name:
        those given, and the defaults of the constructor of `cls` itself. The defaults of
        constructors that it calls are left out, because it may pass them other values.
    """
    keyword_only: dict[str, Any] = {}
    for number, constructor in enumerate(constructors(cls)):
        bound = constructor.bind(*given, **settings)
        if number == 0:
            bound.apply_defaults()
        positional, passed_on = {}, {}
        for name, value in bound.arguments.items():
            kind = constructor.parameters[name].kind
            if kind == Parameter.VAR_KEYWORD:
                passed_on = value
            elif kind == Parameter.KEYWORD_ONLY:
                keyword_only.setdefault(name, value)
            elif kind != Parameter.VAR_POSITIONAL:
                positional[name] = value
        if len(positional) >= 2:  # this one names network and way
            break
        given, settings = bound.args, passed_on
    (_, net), (_, way), *others = positional.items()
    return net, way, {**passed_on, **dict(others), **keyword_only}


def constructor_names(cls: type) -> set[str]:
    """The names of arguments that the constructor takes or passes on to one that takes them."""
    return {name for constructor in constructors(cls) for name in constructor.parameters}


def constructors(cls: type) -> Iterator[Signature]:
    """Signatures, without ``self``, of the constructor and of those it passes arguments on to."""
    for base in cls.__mro__:
        if "__init__" in vars(base):
            with_self = signature(vars(base)["__init__"])
            parameters = list(with_self.parameters.values())[1:]
            yield with_self.replace(parameters=parameters)
            if not any(p.kind in VARIADIC for p in parameters):
                return
