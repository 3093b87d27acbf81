"""The meta-learning zoo as a library: its learners, their contract, and what they share.

``learner, data = zoo.experiment("maml", "omniglot", way=5, shot=1)`` makes what any Lightning
Trainer takes; see `zoo.runs.api`. The names in ``__all__`` are the public interface.

Names are imported on first use (PEP 562), because Lightning alone takes seconds to import and
``python -m zoo list`` should start at once. ``zoo.__version__`` too is looked up when asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from zoo.episode import Episode, Examples
    from zoo.errors import UsageError
    from zoo.learner import Learner
    from zoo.methods.inner_loop import adapt, call
    from zoo.methods.inner_optimizer import InnerOptimizer
    from zoo.methods.preconditioners import Params
    from zoo.networks.backbone import build_backbone
    from zoo.registry import learners, register, register_backbone, register_benchmark
    from zoo.runs.api import (
        difference,
        experiment,
        load,
        make_episode,
        predict,
        published,
        records,
        torchmeta_batches,
    )
    from zoo.runs.checkpoints import TestRecorder

_HOME = {  # public name -> the module that defines it
    "Episode": "zoo.episode",
    "Examples": "zoo.episode",
    "InnerOptimizer": "zoo.methods.inner_optimizer",
    "Learner": "zoo.learner",
    "Params": "zoo.methods.preconditioners",
    "TestRecorder": "zoo.runs.checkpoints",
    "UsageError": "zoo.errors",
    "adapt": "zoo.methods.inner_loop",
    "build_backbone": "zoo.networks.backbone",
    "call": "zoo.methods.inner_loop",
    "difference": "zoo.runs.api",
    "experiment": "zoo.runs.api",
    "learners": "zoo.registry",
    "load": "zoo.runs.api",
    "make_episode": "zoo.runs.api",
    "predict": "zoo.runs.api",
    "published": "zoo.runs.api",
    "records": "zoo.runs.api",
    "register": "zoo.registry",
    "register_backbone": "zoo.registry",
    "register_benchmark": "zoo.registry",
    "torchmeta_batches": "zoo.runs.api",
}

__all__ = [
    "Episode",
    "Examples",
    "InnerOptimizer",
    "Learner",
    "Params",
    "TestRecorder",
    "UsageError",
    "adapt",
    "build_backbone",
    "call",
    "difference",
    "experiment",
    "learners",
    "load",
    "make_episode",
    "predict",
    "published",
    "records",
    "register",
    "register_backbone",
    "register_benchmark",
    "torchmeta_batches",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("zoo.origin").zoo_version()
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
