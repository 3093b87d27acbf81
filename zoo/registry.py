"""The registers: a key for every learner, backbone and benchmark of the zoo.

A register knows its keys without importing what they name: ``scan`` reads the source files, and
``get`` imports the one module that is asked for. So ``python -m zoo list`` starts at once.

A key with overrides is a *variant*, written the same everywhere (command line, settings,
records, tables): ``maml[first_order=true,inner_lr=0.1]``.
"""

import ast
import json
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from zoo.errors import UsageError

T = TypeVar("T")


class Entry(NamedTuple):
    """Where a key is defined, and what it is."""

    module: str
    summary: str  # first sentence of the docstring
    source: str  # first line of the module's docstring: for a learner, its citation


class Registry:
    """Keys of one kind of thing, each entered by a decorator in the file that defines it."""

    def __init__(self, kind: str, decorator: str) -> None:
        self.kind = kind
        self.decorator = decorator
        self.entries: dict[str, Entry] = {}
        self._objects: dict[str, Any] = {}

    def register(self, key: str) -> Callable[[T], T]:
        """Decorator that enters a class or function under `key`."""

        def enter(thing: T) -> T:
            module = thing.__module__
            holder = self.entries.get(key)
            if (holder and holder.module != module) or key in self._objects:
                where = holder.module if holder else "this module"
                raise UsageError(f"{self.kind} {key!r} of {module} is taken already, by {where}")
            summary, _, _ = (thing.__doc__ or "").partition("\n")
            source, _, _ = (getattr(sys.modules.get(module), "__doc__", "") or "").partition("\n")
            self.entries.setdefault(key, Entry(module, summary, source))
            self._objects[key] = thing
            return thing

        return enter

    def scan(self, package: str, folders: Iterable[str]) -> None:
        """Enter every key that the modules of `package` in `folders` register; import none."""
        for path in sorted(p for folder in folders for p in Path(folder).glob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
            source, _, _ = (ast.get_docstring(tree) or "").partition("\n")
            for node in tree.body:
                if not isinstance(node, ast.ClassDef | ast.FunctionDef):
                    continue
                summary, _, _ = (ast.get_docstring(node) or "").partition("\n")
                for mark in node.decorator_list:
                    match mark:
                        case ast.Call(
                            func=ast.Name(id=self.decorator), args=[ast.Constant(value=str(key))]
                        ):
                            entry = Entry(f"{package}.{path.stem}".lstrip("."), summary, source)
                            first = self.entries.setdefault(key, entry)
                            if first.module != entry.module:
                                raise UsageError(
                                    f"{self.kind} {key!r} is registered twice: "
                                    f"by {first.module} and by {entry.module}; rename one"
                                )

    def names(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self.entries)

    def check(self, key: str) -> str:
        """`key` itself.

        Raises:
            UsageError: nothing is registered under it; names the nearest key.
        """
        if key not in self.entries:
            raise UsageError(f"no {self.kind} {key!r}: {hint(key, self.names())}")
        return key

    def get(self, key: str) -> Any:
        """What is registered under `key`; imports its module.

        Raises:
            UsageError: nothing is registered under it; names the nearest key.
        """
        if self.check(key) not in self._objects:
            import_module(self.entries[key].module)
        return self._objects[key]


def hint(word: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown word: the nearest known one, or all of them."""
    known = list(known)
    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"


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
    try:
        return json.loads(text)  # YAML 1.1 takes 1e-5 for text
    except ValueError:
        pass
    try:
        return text if "[" in text else yaml.safe_load(text)
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
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def split_variants(text: str, separators: str = ", ") -> list[str]:
    """Split a list of variants at separators outside brackets: 'a[x=1,y=2], b' -> two."""
    parts, depth = [""], 0
    for char in text:
        depth += {"[": 1, "]": -1}.get(char, 0)
        if char in separators and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    if depth:
        raise UsageError(f"{text!r}: brackets do not match")
    return [part.strip() for part in parts if part.strip()]


learners = Registry("learner", "register")
backbones = Registry("backbone", "register_backbone")
benchmarks = Registry("benchmark", "register_benchmark")


def learner_of(text: str) -> tuple[str, Any, dict[str, Any]]:
    """Key, class and overrides of a learner as a variant names it."""
    key, overrides = parse_variant(text)
    return key, learners.get(key).as_asked(overrides), overrides


register = learners.register
register_backbone = backbones.register
register_benchmark = benchmarks.register
