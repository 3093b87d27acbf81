"""The registers: a key for every learner, backbone and benchmark of the zoo.

A register finds its keys in the source files of its folder when it is first asked, without
importing them; ``get`` imports the one module that is asked for. So ``python -m zoo list`` starts
at once, and a file dropped into ``baselines/`` is registered.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cached_property
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from zoo.errors import UsageError
from zoo.values import option_types, shown, typed_value
from zoo.variants import format_variant, hint, parse_variant

T = TypeVar("T")
KEY = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]*")  # it becomes a part of variants and of file names
LONGEST_KEY = 32
ALL = "all"  # in the place of keys, as of `zoo check all`


class Entry(NamedTuple):
    """Where a key is defined, and what it is."""

    module: str
    summary: str  # first sentence of the docstring
    source: str  # first line of the module's docstring: for a learner, its citation


class Registry:
    """Keys of one kind of thing, each entered by a decorator in the file that defines it.

    It is used like a dictionary too: ``"maml" in learners``, ``learners["maml"]``,
    ``for key in learners``, ``len(learners)``.
    """

    def __init__(self, kind: str, decorator: str, package: str, folder: Path) -> None:
        """Say what is registered, and where ours is.

        Args:
            kind: what a key names, for messages.
            decorator: its name, as the files write it.
            package: of our own files, as they are imported.
            folder: where those files lie.
        """
        self.kind, self.decorator, self.package, self.folder = kind, decorator, package, folder
        self._objects: dict[str, Any] = {}

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every key, ours and those of plug-ins, and where it is defined.

        Raises:
            UsageError: two of our files register one key.
        """
        found: dict[str, Entry] = {}
        for path in sorted(self.folder.glob("*.py")):
            for key, entry in self._registered(path, f"{self.package}.{path.stem}"):
                first = found.setdefault(key, entry)
                if first.module != entry.module:
                    raise UsageError(
                        f"{self.kind} {key!r} is registered twice: "
                        f"by {first.module} and by {entry.module}; rename one"
                    )
        return found

    def _registered(self, path: Path, module: str) -> Iterator[tuple[str, Entry]]:
        """The keys that a file registers, read from its text."""
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
                        yield key, Entry(module, summary, source)

    def register(self, key: str) -> Callable[[T], T]:
        """Decorator that enters a class or function under `key`."""
        if not isinstance(key, str) or not KEY.fullmatch(key) or len(key) > LONGEST_KEY:
            raise UsageError(
                f"{self.kind} {shown(key)}: expected a key of at most {LONGEST_KEY} letters a to z "
                "or A to Z, digits, _, - and ., beginning with a letter or digit"
            )
        if key == ALL:
            raise UsageError(f"{self.kind} {key!r} means all of them; choose another key")

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
            thing.registered_as = key  # type: ignore[attr-defined]
            return thing

        return enter

    def names(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self.entries)

    def check(self, key: str) -> str:
        """`key` itself.

        Raises:
            UsageError: nothing is registered under it; names the nearest key.
        """
        if key not in self.entries:
            raise UsageError(f"no {self.kind} {shown(key)}: {hint(key, self.names())}")
        return key

    def get(self, key: str) -> Any:
        """What is registered under `key`; imports its module.

        Raises:
            UsageError: nothing is registered under it; names the nearest key.
        """
        if self.check(key) not in self._objects:
            import_module(self.entries[key].module)
        return self._objects[key]

    def __getitem__(self, key: str) -> Any:
        """See `get`."""
        return self.get(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, key: object) -> bool:
        return key in self.entries

    def __len__(self) -> int:
        return len(self.entries)


HERE = Path(__file__).parent
learners = Registry("learner", "register", "zoo.baselines", HERE / "baselines")
backbones = Registry("backbone", "register_backbone", "zoo.networks", HERE / "networks")
benchmarks = Registry(
    "benchmark", "register_benchmark", "zoo.datasets.benchmarks", HERE / "datasets" / "benchmarks"
)


def learner_of(text: str) -> tuple[str, Any, dict[str, Any]]:
    """Key, class and overrides of a learner as a variant names it."""
    key, overrides = parse_variant(text)
    return key, learners.get(key).as_asked(overrides), overrides


def backbone_variant(text: str) -> str:
    """A network as a variant in the one form that it has: options that differ from the default.

    Any other text is returned as it is.
    """
    key = text.partition("[")[0].strip()
    if key not in backbones:
        return text
    _, options = parse_variant(text)
    build = backbones.get(key)
    defaults, types = signature(build).parameters, option_types(build)
    for name, value in list(options.items()):
        if name in types:
            with suppress(ValueError):  # else building it says what is wrong
                options[name] = typed_value(value, types[name])
                if options[name] == defaults[name].default:
                    del options[name]
    return format_variant(key, options)


def backbone_of(text: str, image: tuple[int, ...]) -> Any:
    """The network that a variant text such as ``conv4[channels=32]`` names; it keeps the text.

    Its options are not checked: see `zoo.networks.backbone.build_backbone`.
    """
    key, options = parse_variant(text)
    net = backbones.get(key)(image, **options)
    if hasattr(net, "parameters"):  # else it is no network, which `build_backbone` says
        net.variant, net.built_for = text, tuple(image)
    return net


register = learners.register
register_backbone = backbones.register
register_benchmark = benchmarks.register
