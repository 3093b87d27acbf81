"""Benchmarks, readers of their published forms, and the image store.

Keys are known without importing anything heavy: ``python -m zoo list`` reads the sources.
"""

from zoo import registry

# Not `from zoo.registry import benchmarks`: that name is this package's module.
registry.benchmarks.scan(__name__, __path__)
