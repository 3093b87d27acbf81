"""Read and write variants, keys with overrides: `maml[first_order=true,inner_lr=0.1]`.

They look the same everywhere: command line, settings, records, tables.
"""

import json
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import yaml

from zoo.errors import UsageError


def hint(word: str, choices: Iterable[str]) -> str:
    """What to write instead of an unknown word: the nearest choice, or a list of all."""
    choices = list(choices)
    near = get_close_matches(word, choices, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(choices)}"


def parse_variant(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``key[name=value,...]`` into key and overrides; values are JSON or YAML scalars.

    Raises:
        UsageError: brackets do not match, or an override is not ``name=value``.
    """
    key, bracket, rest = text.strip().partition("[")
    if not bracket:
        return key, {}
    if not rest.endswith("]"):
        raise UsageError(f"{text!r}: expected key[name=value,...], the closing bracket is missing")
    overrides = {}
    for part in split_variants(rest[:-1], ","):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{text!r}: {part!r} is not of the form name=value")
        overrides[name.strip()] = _scalar(value.strip())
    return key, overrides


def _scalar(text: str) -> Any:
    """A value from its text: JSON, else YAML, else the text itself."""
    try:
        return json.loads(text)  # before YAML 1.1, which reads 1e-5 as text
    except ValueError:
        pass
    if "[" in text:  # a variant inside a variant
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def format_variant(key: str, overrides: dict[str, Any]) -> str:
    """The inverse of `parse_variant`, overrides sorted by name."""
    if not overrides:
        return key
    pairs = (f"{name}={format_value(overrides[name])}" for name in sorted(overrides))
    return f"{key}[{','.join(pairs)}]"


def format_value(value: Any) -> str:
    """A setting's value as it is written in variants, tables and published.csv."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


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
        raise UsageError(f"{text!r}: brackets do not match")
    return [part.strip() for part in parts if part.strip()]
