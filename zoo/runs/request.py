"""A run as it is asked for: learner, benchmark, the shape of its test episodes, and settings."""

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
        benchmark: likewise.
        way: N of the test episodes; None for 5, and in regression, which has none.
        shot: K of the test episodes.
        terms: ``paper``, each learner as its paper has it, or ``equal``.
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

        A selector is a value or a list of values. A benchmark with options takes the rows of its
        key too: cifarfs[size=84] those of cifarfs.

        Args:
            when: selectors by name: learner, benchmark, way, shot, terms, budget.
            host: the key of the learner that a plug-in is put on; its rows apply as well.
        """
        mine = {name: {getattr(self, name)} for name in when}
        if "benchmark" in mine:
            mine["benchmark"].add(self.benchmark.partition("[")[0])
        if host and "learner" in mine:
            mine["learner"] |= {host, f"{self.learner}[host={host}]"}
        return all(
            mine[name] & {*(wanted if isinstance(wanted, list) else [wanted])}
            for name, wanted in when.items()
        )

    @property
    def shape(self) -> str:
        """The test episodes in words: 5-way 1-shot, or 10-shot where there are no ways."""
        return f"{self.way}-way {self.shot}-shot" if self.way else f"{self.shot}-shot"

    @property
    def words(self) -> str:
        """Which cell of a table it is, for a reader."""
        seed = f", seed {self.seed}" if self.seed else ""
        terms = f", {self.terms} terms" if self.terms != "paper" else ""
        return f"{self.learner} {self.shape}{seed}{terms}"

    @property
    def command(self) -> list[str]:
        """The words of the command that makes this run alone; without `config` and `flags`."""
        words = ["python", "-m", "zoo", "run", self.learner, self.benchmark]
        given: dict[str, Any] = {"way": self.way, "shot": self.shot, "seed": self.seed or None}
        given |= {"terms": self.terms if self.terms != "paper" else None, "budget": self.budget}
        for name, value in given.items():
            words += [] if value is None else [f"--{name}", str(value)]
        return words
