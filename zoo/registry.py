"""The registers: a key for every learner, backbone and benchmark of the zoo.

When it is first asked, a register reads its keys from the text of the source files in its folder,
without importing them; ``get`` imports the one module that is needed. So ``python -m zoo list``
starts at once, and a file dropped into ``baselines/`` is registered.
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
ALL = "all"  # stands for every key, as in `zoo check all`


class Entry(NamedTuple):
    """Where a key is defined, and what it is."""

    module: str
    summary: str  # first sentence of the docstring
    source: str  # first line of the module's docstring: for a learner, its citation


class Registry:
    """The keys of all learners, say, each registered by a decorator in the file that defines it.

    It also works like a dictionary: ``"maml" in learners``, ``learners["maml"]``,
    ``for key in learners``, ``len(learners)``.
    """

    def __init__(self, kind: str, decorator: str, package: str, folder: Path) -> None:
        """Say what is registered, and where our own files are.

        Args:
            kind: what a key names ("learner"), for messages.
            decorator: name of the decorator that registers one.
            package: the name by which our files are imported.
            folder: where our files are.
        """
        self.kind = kind
        self.decorator = decorator
        self.package = package
        self.folder = folder
        self._objects: dict[str, Any] = {}

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every key, ours and those of plug-ins, and where it is defined.

        Raises:
            UsageError: two of our files register the same key.
        """
        entries: dict[str, Entry] = {}
        for path in sorted(self.folder.glob("*.py")):
            for key, entry in self._registered(path, f"{self.package}.{path.stem}"):
                first = entries.setdefault(key, entry)
                if first.module != entry.module:
                    raise UsageError(
                        f"{self.kind} {key!r} is registered twice: "
                        f"by {first.module} and by {entry.module}; rename one"
                    )
        return entries

    def _registered(self, path: Path, module: str) -> Iterator[tuple[str, Entry]]:
        """The keys that a file registers, read from its text."""
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        source, _, _ = (ast.get_docstring(tree) or "").partition("\n")
        for node in tree.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef):
                continue
            summary, _, _ = (ast.get_docstring(node) or "").partition("\n")
            for decorator in node.decorator_list:
                match decorator:
                    case ast.Call(
                        func=ast.Name(id=self.decorator), args=[ast.Constant(value=str(key))]
                    ):
                        yield key, Entry(module, summary, source)

    def register(self, key: str) -> Callable[[T], T]:
        """Decorator that registers a class or function under `key`."""
        if not isinstance(key, str) or not KEY.fullmatch(key) or len(key) > LONGEST_KEY:
            raise UsageError(
                f"{self.kind} {shown(key)}: expected a key of at most {LONGEST_KEY} letters a to z "
                "or A to Z, digits, _, - and ., beginning with a letter or digit"
            )
        if key == ALL:
            raise UsageError(f"{self.kind} {key!r} means all of them; choose another key")

        def enter(decorated: T) -> T:
            module = decorated.__module__
            holder = self.entries.get(key)
            if (holder and holder.module != module) or key in self._objects:
                where = holder.module if holder else "this module"
                raise UsageError(f"{self.kind} {key!r} of {module} is taken already, by {where}")
            summary, _, _ = (decorated.__doc__ or "").partition("\n")
            source, _, _ = (getattr(sys.modules.get(module), "__doc__", "") or "").partition("\n")
            self.entries.setdefault(key, Entry(module, summary, source))
            self._objects[key] = decorated
            decorated.registered_as = key  # type: ignore[attr-defined]
            return decorated

        return enter

    def names(self) -> list[str]:
        """All keys, sorted."""
        return sorted(self.entries)

    def check(self, key: str) -> str:
        """Return `key` if something is registered under it.

        Raises:
            UsageError: nothing is; names the nearest key.
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
    """Key, class and overrides of the learner that a variant names."""
    key, overrides = parse_variant(text)
    return key, learners.get(key).class_for(overrides), overrides


def usual_learners(of_tables: bool = False) -> list[str]:
    """The keys of the learners that a table has if it names none.

    Those that are `only_by_name` are left out, and unless the tasks are `of_tables`, those that are
    `only_for_tabular_data`.
    """
    classes = {key: learners.get(key) for key in learners.names()}
    return [
        key
        for key, cls in classes.items()
        if not cls.only_by_name and (of_tables or not cls.only_for_tabular_data)
    ]


def backbone_variant(text: str) -> str:
    """The text of a backbone's variant with only the options that differ from their defaults.

    So a network has one text, however it was written. A text that names no backbone is returned as
    it is.
    """
    key = text.partition("[")[0].strip()
    if key not in backbones:
        return text
    _, options = parse_variant(text)
    build = backbones.get(key)
    defaults, types = signature(build).parameters, option_types(build)
    for name, value in list(options.items()):
        if name in types:
            with suppress(ValueError):  # a wrong value is refused when the network is built
                options[name] = typed_value(value, types[name])
                if options[name] == defaults[name].default:
                    del options[name]
    return format_variant(key, options)


def backbone_of(text: str, image: tuple[int, ...]) -> Any:
    """Build the network that a variant such as ``conv4[channels=32]`` names.

    Its options are not checked, as `zoo.networks.backbone.build_backbone` does. The network keeps
    the text as `variant` and the image shape as `built_for`.
    """
    key, options = parse_variant(text)
    net = backbones.get(key)(image, **options)
    if hasattr(net, "parameters"):  # otherwise it is no network, and `build_backbone` refuses it
        net.variant = text
        net.built_for = tuple(image)
    return net


register = learners.register
register_backbone = backbones.register
register_benchmark = benchmarks.register
