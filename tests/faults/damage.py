"""Damaged files of own images, of runs under way and of results; images that were changed."""

import os
import re
import signal
from pathlib import Path

import numpy as np
from PIL import Image

from tests.faults.child import Ended
from tests.faults.commands import QUICK, RUNS, World, begin, goes_on
from tests.faults.comparing import compared, numbers_in
from tests.faults.fault import (
    EQUAL,
    LINE,
    LOST,
    TRACEBACK,
    UNEQUAL,
    Fault,
    Outcome,
    joined,
    judged_line,
)
from tests.faults.file_operations import at_operation
from tests.support.damage import damaged

COUNT = 60
KINDS = ("a store", "an image", "a run under way", "results of a table")
OWN = (
    "run", "pixelnn", "folder", "--budget", "smoke", "--test_episodes", 8, "--way", 3,
)  # fmt: skip
TABLE = (
    "table", "glyphs", "--learners", "protonet matchingnet pixelnn", "--shots", "1",
    "--budget", "smoke",
)  # fmt: skip
CLASSES, IMAGES = 9, 20
TRIES = 3  # a line may ask for the same command again


def faults(rng: np.random.Generator) -> list[Fault]:
    """Every kind as often, each with a seed of its own for what is damaged, and how."""
    found = []
    for number in range(COUNT):
        kind, seed = KINDS[number % len(KINDS)], int(rng.integers(2**31))
        how = {"kind": kind, "seed": seed, "run": str(rng.choice(QUICK))}
        found.append(Fault("damage", f"{number}: {kind}", how))
    return found


def attempt(fault: Fault, world: World) -> Outcome:
    """Damage something, then give the command that reads it."""
    rng, folder = np.random.default_rng(fault.how["seed"]), world.place("tried/r")
    attempts = {
        "a store": _store,
        "an image": _image,
        "a run under way": _under_way,
        "results of a table": _results,
    }
    return attempts[fault.how["kind"]](fault, rng, folder, world)


def _store(fault: Fault, rng: np.random.Generator, folder: Path, world: World) -> Outcome:
    images = draw_images(world.place("tried/images"))
    expected = _tested(images, world.place("tried/first"), world)
    stores = [path for path in (world.folder / "tried/first/stores").rglob("*") if _is_store(path)]
    path = stores[int(rng.integers(len(stores)))]
    path.write_bytes(damaged(path.read_bytes(), rng))
    return _same_again(images, expected, folder, world)


def _image(fault: Fault, rng: np.random.Generator, folder: Path, world: World) -> Outcome:
    """The store was built of other images: it must not be used."""
    images = draw_images(world.place("tried/images"))
    before = _tested(images, world.place("tried/first"), world)
    paths = sorted(images.rglob("*.png"))
    for path in (paths[int(i)] for i in rng.choice(len(paths), len(paths) // 2, replace=False)):
        pixels = rng.integers(256, size=(28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(path, compress_level=0)  # as many bytes as before
    expected = _tested(images, world.place("tried/fresh"), world)
    if expected == before:
        return Outcome((LOST,), "changing half of the images changed nothing")
    return _same_again(images, expected, folder, world)


def _same_again(images: Path, expected: dict[str, str], folder: Path, world: World) -> Outcome:
    """Whether a run that finds the store of the first one gives what is expected."""
    ended = _own_run(images, folder, world.folder / "tried/first/stores", world)
    if ended.broke:
        return Outcome((TRACEBACK,), ended.err[-2000:])
    if ended.status != 0:
        return Outcome((LOST,), f"status {ended.status}: {ended.err[-1000:]}")
    outcome = compared(expected, numbers_in(folder))
    return outcome if outcome.results else Outcome((EQUAL,))


def _tested(images: Path, place: Path, world: World) -> dict[str, str]:
    """What a run with new stores gives."""
    ended = _own_run(images, place, place / "stores", world)
    if ended.status != 0:
        raise RuntimeError(f"own images fail by themselves: {ended.err}")
    return numbers_in(place)


def _own_run(images: Path, folder: Path, stores: Path, world: World) -> Ended:
    def prepare() -> None:
        os.environ["ZOO_STORE"] = str(stores)

    words = [*OWN, "--data", images]
    return begin(words, folder, world.folder / "tried" / "log", prepare).wait()


def _is_store(path: Path) -> bool:
    return path.suffix in (".train", ".val", ".test") and path.is_file()


def _under_way(fault: Fault, rng: np.random.Generator, folder: Path, world: World) -> Outcome:
    """A run was killed, then one of its files damaged."""
    words, log = ["run", *RUNS[fault.how["run"]]], world.folder / "tried" / "log"
    number = int(rng.uniform(0.3, 1) * world.undisturbed(words).operations)

    def prepare() -> None:
        at_operation(folder, number, lambda: os.kill(os.getpid(), signal.SIGKILL))

    begin(words, folder, log, prepare).wait()
    finished = [*folder.glob("results/*.json")]  # then nothing reads what lies beside the record
    place = folder / "runs" if finished else folder
    files = [path for path in sorted(place.rglob("*")) if path.is_file() and path.stat().st_size]
    if not files:
        return Outcome((), "nothing was there to damage")
    path = files[int(rng.integers(len(files)))]
    path.write_bytes(damaged(path.read_bytes(), rng))
    steps = []
    for _ in range(TRIES):
        ended = begin(words, folder, log).wait()
        if ended.broke:
            return Outcome((TRACEBACK,), f"{path.name}: {ended.err[-2000:]}")
        if ended.status == 0:
            break
        steps.append(judged_line(ended))
    last = goes_on(ended)
    if last.results:
        return joined(*steps, last)
    outcome = compared(world.undisturbed(words).numbers, numbers_in(folder))
    outcome = outcome if outcome.results else Outcome((EQUAL,))
    return joined(*steps, outcome._replace(said=f"{path.name}: {outcome.said}"))


def _results(fault: Fault, rng: np.random.Generator, folder: Path, world: World) -> Outcome:
    """One file of a finished table was damaged: the other rows stand, its own is equal or named."""
    before = world.undisturbed(TABLE)
    log = world.folder / "tried" / "log"
    begin(TABLE, folder, log).wait()
    files = [path for path in sorted((folder / "results").glob("*-*")) if path.is_file()]
    path = files[int(rng.integers(len(files)))]
    path.write_bytes(damaged(path.read_bytes(), rng))
    ended = begin(TABLE, folder, log).wait()
    if ended.broke:
        return Outcome((TRACEBACK,), f"{path.name}: {ended.err[-2000:]}")
    if ended.status not in (0, 1, 2):
        return Outcome((LOST,), f"{path.name}: status {ended.status}: {ended.err[-1000:]}")
    expected, found = _rows(before.out), _rows(ended.out)
    other = [row for row in expected if row not in found]
    if not other:
        return Outcome((EQUAL,), path.name)
    if path.stem in ended.out + ended.err and len(other) <= 1 + path.name.startswith("episodes"):
        return Outcome((LINE,), f"{path.name} is named")
    return Outcome((UNEQUAL,), f"{path.name}: {other} became {found}; {ended.err[-500:]}")


def _rows(text: str) -> list[list[str]]:
    """Learner and accuracy of each row of a printed table, without the letters of footnotes."""
    rows = [line.split("|")[1:3] for line in text.splitlines() if line.startswith("| ")]
    return [[re.sub(r"[^\x00-\x7f±–]", "", cell).strip() for cell in row] for row in rows]


def draw_images(folder: Path) -> Path:
    """Own images, a folder a class, always the same; in files of the same length."""
    rng = np.random.default_rng(0)
    for number in range(CLASSES):
        place = folder / f"class {number}"
        place.mkdir(parents=True)
        mean = rng.uniform(60, 190, (7, 7)).repeat(4, 0).repeat(4, 1)
        for image in range(IMAGES):
            pixels = (mean + rng.normal(0, 30, mean.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(place / f"{image}.png", compress_level=0)
    return folder
