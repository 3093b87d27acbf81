"""A request for a run: learner, benchmark, the shape of its test episodes, and settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TERMS = ("paper", "equal")
BUDGETS = ("none", "smoke", "quick", "hour", "paper")


@dataclass(frozen=True)
class RunRequest:
    """What is asked of one run, before its settings are known.

    Args:
        learner: a key or variant, such as ``maml[first_order=true]``.
        benchmark: a key or variant, such as ``omniglot[split=1200/423]``.
        way: N of the test episodes; None for 5. It must be None in regression.
        shot: K of the test episodes.
        terms: ``paper``, each learner as in its paper, or ``equal``, the same for all.
        budget: ``none``, ``smoke``, ``quick``, ``hour`` or ``paper``: how long to train.
        seed: of the initial weights and the training episodes.
        config: settings from a file, typed.
        flags: settings from the command line, typed; they win over `config`.
    """

    learner: str
    benchmark: str
    way: int | None = None
    shot: int = 1
    terms: str = "paper"
    budget: str = "quick"
    seed: int = 0
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    flags: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def matches(self, when: Mapping[str, Any], host: str = "") -> bool:
        """Whether all selectors of a row of settings.yaml hold for this request.

        A selector is a value or a list of values. The rows for cifarfs also hold for a benchmark
        with options, such as cifarfs[size=84].

        Args:
            when: selectors by name: learner, benchmark, way, shot, terms, budget.
            host: the key of the learner that a plug-in is put on; its rows hold too.
        """
        for name, wanted in when.items():
            fitting = {getattr(self, name)}
            if name == "benchmark":
                fitting.add(self.benchmark.partition("[")[0])
            if name == "learner" and host:
                fitting |= {host, f"{self.learner}[host={host}]"}
            choices = wanted if isinstance(wanted, list) else [wanted]
            if fitting.isdisjoint(choices):
                return False
        return True

    @property
    def shape(self) -> str:
        """The test episodes in words: 5-way 1-shot, or in regression 10-shot."""
        return f"{self.way}-way {self.shot}-shot" if self.way else f"{self.shot}-shot"

    @property
    def words(self) -> str:
        """The run in words, without its benchmark and budget: ``maml 5-way 1-shot, seed 1``."""
        seed = f", seed {self.seed}" if self.seed else ""
        terms = f", {self.terms} terms" if self.terms != "paper" else ""
        return f"{self.learner} {self.shape}{seed}{terms}"

    @property
    def command(self) -> list[str]:
        """The words of the command that makes this run, without `config` and `flags`."""
        words = ["python", "-m", "zoo", "run", self.learner, self.benchmark]
        if self.way is not None:
            words += ["--way", str(self.way)]
        words += ["--shot", str(self.shot)]
        if self.seed:
            words += ["--seed", str(self.seed)]
        if self.terms != "paper":
            words += ["--terms", self.terms]
        return [*words, "--budget", self.budget]
