"""The zoo's own inner loop, spending time to save memory: `InnerOptimizer(..., memory="low")`."""

from functools import partial

from tests.bench.peers import ours

TITLE = "ours, memory=low"
INSTALL = ()
ORDERS = ("second",)
prepare = partial(ours.prepare, memory="low")
