"""The contract that every learner of the zoo keeps, and what they share.

Names are imported on first use (PEP 562): Lightning alone takes seconds to import, and
``python -m zoo list`` must not pay for it. ``zoo.__version__`` is found out when it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from zoo.episode import Episode, Examples
    from zoo.learner import Learner
    from zoo.methods.inner_loop import adapt, call
    from zoo.methods.inner_optimizer import InnerOptimizer
    from zoo.methods.preconditioners import Params
    from zoo.registry import learners, register

_HOME = {
    "Episode": "zoo.episode",
    "Examples": "zoo.episode",
    "InnerOptimizer": "zoo.methods.inner_optimizer",
    "Learner": "zoo.learner",
    "Params": "zoo.methods.preconditioners",
    "adapt": "zoo.methods.inner_loop",
    "call": "zoo.methods.inner_loop",
    "learners": "zoo.registry",
    "register": "zoo.registry",
}

__all__ = [
    "Episode",
    "Examples",
    "InnerOptimizer",
    "Learner",
    "Params",
    "adapt",
    "call",
    "learners",
    "register",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("zoo.origin").zoo_version()
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")
