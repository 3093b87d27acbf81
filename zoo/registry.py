"""The registers: a key for every learner, backbone and benchmark of the zoo.

A register knows its keys without importing what they name: ``scan`` reads the source files, and
``get`` imports the one module that is asked for. So ``python -m zoo list`` starts at once.

A key with overrides is a *variant*, written the same everywhere (command line, settings,
records, tables): ``maml[first_order=true,inner_lr=0.1]``.
"""

import ast
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from zoo.errors import UsageError
from zoo.variants import hint, parse_variant

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
