"""Loading part of a package whose `__init__` imports what is not there."""

import importlib.util
import sys
from types import ModuleType


def skip_init(*packages: str) -> None:
    """Let the modules of these packages be imported without running the packages' own code.

    Args:
        packages: dotted names, outer ones first.
    """
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.submodule_search_locations is None:
            raise ModuleNotFoundError(f"no package {name} in this environment")
        sys.modules[name] = module = ModuleType(name)
        module.__path__ = list(spec.submodule_search_locations)
