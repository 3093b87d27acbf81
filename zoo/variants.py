"""Read and write variants, keys with overrides: `maml[first_order=true,inner_lr=0.1]`.

They look the same everywhere: command line, settings, records, tables.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from itertools import product
from typing import Any

from zoo.errors import UsageError
from zoo.values import format_value, parse_value, shown


def hint(word: str, choices: Iterable[str]) -> str:
    """What to write instead of an unknown word: the nearest choice, or a list of all."""
    choices = list(choices)
    near = get_close_matches(word, choices, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(choices)}"


def parse_variant(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``key[name=value,...]`` into key and overrides, read by `parse_value`.

    Raises:
        UsageError: brackets do not match, an override is not ``name=value`` or is given twice, or
            its value is a number that cannot be read.
    """
    if not isinstance(text, str):  # as it may be in a file
        raise UsageError(f"{shown(text)}: expected a text, a key or key[name=value,...]")
    key, bracket, rest = (part.strip() for part in text.partition("["))
    if not bracket:
        return key, {}
    if not rest.endswith("]"):
        raise UsageError(
            f"{shown(text)}: expected key[name=value,...], the closing bracket is missing"
        )
    overrides: dict[str, Any] = {}
    for part in split_variants(rest[:-1], ","):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or not name:
            raise UsageError(f"{shown(text)}: {shown(part)} is not of the form name=value")
        if name in overrides:
            raise UsageError(f"{shown(text)}: {name} is given twice; leave one out")
        try:
            overrides[name] = parse_value(value)
        except ValueError as error:
            raise UsageError(f"{shown(text)}: {name}={shown(value)}: {error}") from None
    return key, overrides


def variants_in(text: str) -> list[str]:
    """The variants in a list, each grid replaced by its variants (`expand_grid`)."""
    return [variant for part in split_variants(text) for variant in expand_grid(part)]


def expand_grid(text: str) -> list[str]:
    """The variants of a grid: ``maml[inner_lr=0.1,0.4,inner_steps=1,5]`` stands for four.

    A value without a name is a further value of the setting before it. From one variant to the next
    the last setting changes first. A variant without such values stands for itself.

    Raises:
        UsageError: a value stands before any name.
    """
    key, bracket, rest = text.partition("[")
    if not bracket or not rest.endswith("]"):
        return [text]
    settings: list[list[str]] = []  # for each setting, its values as texts name=value
    for part in split_variants(rest[:-1], ","):
        name, equals, _ = part.partition("=")
        if equals and "[" not in name:
            settings.append([part])
        elif settings:
            settings[-1].append(f"{settings[-1][0].partition('=')[0]}={part}")
        else:
            raise UsageError(f"{shown(text)}: {shown(part)} is not of the form name=value")
    return [f"{key}[{','.join(values)}]" for values in product(*settings)]


def format_variant(key: str, overrides: dict[str, Any]) -> str:
    """The inverse of `parse_variant`, overrides sorted by name."""
    if not overrides:
        return key
    pairs = (f"{name}={format_value(overrides[name])}" for name in sorted(overrides))
    return f"{key}[{','.join(pairs)}]"


def split_variants(text: str, separators: str = ", ") -> list[str]:
    """Split a list of variants at separators outside brackets: 'a[x=1,y=2], b' -> two parts."""
    parts = [""]
    depth = 0  # of brackets
    for char in text:
        if char == "[":
            depth += 1
        elif char == "]":
            depth -= 1
        if char in separators and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    if depth:
        raise UsageError(f"{shown(text)}: brackets do not match")
    return [part.strip() for part in parts if part.strip()]
