"""Settings that a learner's constructor takes only to hand them on to another's."""

import inspect
import re
from collections.abc import Callable, Collection
from functools import wraps
from typing import Any

from docstring_parser import parse as parse_docstring


def takes_settings_of(
    parent: type, *, without: Collection[str] = (), sources: bool = False, **defaults: Any
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of a constructor that hands ``**settings`` on to that of `parent`.

    In its signature and its docstring, where parsers and tables read settings, the constructor
    then has its own parameters and behind them those of the parent that it does not name itself.
    What its own docstring says of one of these takes the place of the parent's words. A name that
    is no parameter of either is refused with a TypeError, as by any constructor.

    Args:
        parent: the class whose constructor gets the settings.
        without: parameters of the parent that no caller may give: they make no sense here, or the
            constructor hands on a value of its own.
        sources: whether the parent's words keep their sources, "[Table 7]". A learner of another
            paper has its own, or none.
        **defaults: of the parent's parameters, where they are others here.
    """
    parents = inspect.getattr_static(parent, "__init__")

    def decorate(own: Callable[..., None]) -> Callable[..., None]:
        ours, theirs = (inspect.signature(f).parameters for f in (own, parents))
        named = [p for p in ours.values() if p.kind != p.VAR_KEYWORD]
        rest = {name: p for name, p in theirs.items() if name not in {*ours, *without}}
        rest |= {name: rest[name].replace(default=value) for name, value in defaults.items()}
        signature = inspect.Signature([*named, *rest.values()])

        @wraps(own)
        def construct(self: Any, *given: Any, **settings: Any) -> None:
            signature.bind(self, *given, **settings)
            own(self, *given, **{**defaults, **settings})

        construct.__signature__ = signature  # type: ignore[attr-defined]
        construct.__doc__ = _joined_docstring(own, parents, signature.parameters, sources)
        return construct

    return decorate


def _joined_docstring(
    own: Callable[..., None], parents: Callable[..., None], names: Collection[str], sources: bool
) -> str:
    """The text of `own`, and under Args what either says of each name."""
    text, parents_text = (inspect.getdoc(f) or "" for f in (own, parents))
    said = _documentation(parents_text)
    if not sources:
        said = {name: re.sub(r"\s*\[[^][]*\]", "", words) for name, words in said.items()}
    said |= _documentation(text)
    lines = [f"    {name}: {said[name]}" for name in names if name in said]
    return "\n".join([text.partition("\nArgs:")[0].rstrip(), "", "Args:", *lines])


def _documentation(docstring: str) -> dict[str, str]:
    """What it says of each parameter, in one line."""
    params = parse_docstring(docstring).params
    return {p.arg_name: " ".join((p.description or "").split()) for p in params}
