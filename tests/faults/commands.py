"""The commands that the campaign disturbs, and what each gives undisturbed."""

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.child import Child, Ended, forked
from tests.faults.comparing import compared, numbers_in
from tests.faults.fault import EQUAL, LOST, TRACEBACK, Outcome
from tests.faults.file_operations import count_operations

SMALL = (
    "--updates", 6, "--validations", 3, "--val_episodes", 4, "--test_episodes", 12,
    "--meta_batch", 2,
)  # fmt: skip
SMOKE = ("--budget", "smoke")
PRETRAINED = ("--pretrained_from", "pretrain", *SMOKE, *SMALL)
RUNS: dict[str, tuple[Any, ...]] = {
    **{
        f"{key} on glyphs": (key, "glyphs", *SMOKE, *SMALL)
        for key in (
            "anil", "blur", "cnp", "maml", "mann", "matchingnet", "metanet", "metasgd", "npbml",
            "protonet", "reptile", "snail", "tnet", "trlearner", "vsml",
        )
    },
    "finetune on glyphs": ("finetune", "glyphs", *SMOKE),
    "pixelnn on glyphs": ("pixelnn", "glyphs", *SMOKE),
    "pretrained on glyphs": ("pretrained", "glyphs", *SMOKE),
    **{
        f"{key} on sinusoid": (key, "sinusoid", *SMOKE, *SMALL)
        for key in ("anil", "cnp", "maml", "metasgd", "tnet", "reptile")
    },
    "protonet, pre-trained": ("protonet", "glyphs", *PRETRAINED),
    "maml, pre-trained": ("maml", "glyphs", *PRETRAINED),
    "protonet, adaptive sampler": ("protonet", "glyphs", *SMOKE, *SMALL, "--sampler", "adaptive"),
    "trlearner of protonet": ("trlearner[host=protonet]", "glyphs", *SMOKE, *SMALL),
    "maml of first order": ("maml[first_order=true]", "glyphs", *SMOKE, *SMALL),
}  # fmt: skip
QUICK = ("protonet on glyphs", "maml on sinusoid", "matchingnet on glyphs", "cnp on glyphs")


class Undisturbed(NamedTuple):
    """What a command gave that nothing happened to."""

    numbers: Mapping[str, str]
    seconds: float
    operations: int  # changes of files by its own process
    out: str


class World:
    """Where the campaign works, and what undisturbed commands gave, each made once when needed."""

    def __init__(self, folder: Path) -> None:
        """Begin in an empty folder below this one; what was kept of failures stays."""
        self.folder = folder.resolve()
        self._undisturbed: dict[tuple[str, ...], Undisturbed] = {}
        shutil.rmtree(self.folder / "undisturbed", ignore_errors=True)

    def place(self, name: str) -> Path:
        """A new, empty folder to try a fault in."""
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    def undisturbed(self, words: Sequence[object]) -> Undisturbed:
        """What a command gives that nothing happens to.

        Raises:
            RuntimeError: it fails by itself.
        """
        key = tuple(map(str, words))
        if key not in self._undisturbed:
            place = self.place(f"undisturbed/{len(self._undisturbed)}")
            count = place / "operations"

            def prepare() -> None:
                count_operations(place / "r", count)

            started = time.monotonic()
            (place / "r").mkdir()
            ended = begin(words, place / "r", place / "log", prepare).wait()
            seconds = time.monotonic() - started
            if ended.status != 0:
                raise RuntimeError(f"{' '.join(key)} fails by itself: {ended.err or ended.out}")
            numbers = numbers_in(place / "r")
            self._undisturbed[key] = Undisturbed(numbers, seconds, count.stat().st_size, ended.out)
        return self._undisturbed[key]

    def ends_equal(
        self, words: Sequence[object], folder: Path, *before: Sequence[object]
    ) -> Outcome:
        """Give the command once more, undisturbed; whether all is now as if nothing had been.

        Args:
            words: of the command.
            folder: where it was disturbed.
            before: commands that were given there before it.
        """
        ended = begin(words, folder, folder.with_suffix(".last")).wait()
        outcome = goes_on(ended)
        if outcome.results:
            return outcome
        expected = {}
        for each in (*before, words):
            expected |= self.undisturbed(each).numbers
        outcome = compared(expected, numbers_in(folder))
        return outcome if outcome.results else Outcome((EQUAL,))


def begin(words: Sequence[object], folder: Path, log: Path, prepare: Any = None) -> Child:
    """Begin a command that keeps its results and runs below a folder, in a copy of this process."""
    return forked(with_folders(words, folder), log, prepare)


def with_folders(words: Sequence[object], folder: Path) -> list[object]:
    """The words of a command that keeps its results and runs below a folder."""
    return [*words, "--results", folder / "results", "--runs", folder / "runs", "--threads", 1]


def goes_on(ended: Ended) -> Outcome:
    """Whether the same command went on to its end; nothing said where it did."""
    if ended.broke:
        return Outcome((TRACEBACK,), ended.err[-2000:])
    if ended.status != 0:
        return Outcome((LOST,), f"does not go on, status {ended.status}: {ended.err[-1000:]}")
    return Outcome(())
