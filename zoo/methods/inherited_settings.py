"""Let a learner's constructor take all settings of its parent's without naming them again."""

import inspect
import re
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from docstring_parser import parse as parse_docstring


def takes_settings_of(
    parent: type, *, without: Collection[str] = (), sources: bool = False, **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of a constructor that passes ``**settings`` on to the constructor of `parent`.

    Parsers and tables read settings from a constructor's signature and docstring. In both, the
    decorated constructor shows the parameters that it names, and then the parent's other ones. If
    it describes a parameter itself, its description replaces the parent's. A name that neither has
    is refused with a TypeError, as by any constructor.

    Args:
        parent: the class whose constructor gets the settings.
        without: parameters of the parent that callers may not give, because they make no sense
            here or the constructor passes a value of its own.
        sources: whether the parent's descriptions keep their sources, "[Table 7]". A learner of
            another paper has other sources, or none.
        **defaults: new defaults for parameters of the parent.
    """
    parent_init = inspect.getattr_static(parent, "__init__")

    def decorate(init: Callable[..., None]) -> Callable[..., None]:
        own_parameters = inspect.signature(init).parameters
        named = [p for p in own_parameters.values() if p.kind != p.VAR_KEYWORD]
        inherited = {
            name: p
            for name, p in inspect.signature(parent_init).parameters.items()
            if name not in own_parameters and name not in without
        }
        for name, value in defaults.items():
            inherited[name] = inherited[name].replace(default=value)
        signature = inspect.Signature([*named, *inherited.values()])

        @wraps(init)
        def construct(self: Any, *given: Any, **settings: Any) -> None:
            signature.bind(self, *given, **settings)
            init(self, *given, **{**defaults, **settings})

        construct.__signature__ = signature  # type: ignore[attr-defined]
        construct.__doc__ = _joined_docstring(init, parent_init, signature.parameters, sources)
        return construct

    return decorate


def _joined_docstring(
    init: Callable[..., None],
    parent_init: Callable[..., None],
    names: Collection[str],
    sources: bool,
) -> str:
    """The docstring of `init`, with a description under Args of each name that either has."""
    text = inspect.getdoc(init) or ""
    descriptions = _documentation(inspect.getdoc(parent_init) or "")
    if not sources:
        for name, description in descriptions.items():
            descriptions[name] = re.sub(r"\s*\[[^][]*\]", "", description)
    descriptions |= _documentation(text)
    lines = [f"    {name}: {descriptions[name]}" for name in names if name in descriptions]
    return "\n".join([text.partition("\nArgs:")[0].rstrip(), "", "Args:", *lines])


def _documentation(docstring: str) -> dict[str, str]:
    """Parameter -> its description, in one line."""
    params = parse_docstring(docstring).params
    return {p.arg_name: " ".join((p.description or "").split()) for p in params}
