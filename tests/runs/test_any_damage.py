"""Random damage to any file that is read again: an error of one line, or the numbers that were."""

import contextlib
import json

import numpy as np
import pytest
import torch

from tests.conftest import in_full
from tests.runs.test_damaged_files import SHORT
from tests.runs.test_run import plan
from tests.runs.test_stages import NO_UPDATES
from tests.support.damage import damaged
from zoo.datasets.episodes.image_store import open_store
from zoo.errors import UsageError
from zoo.files import write_arrays
from zoo.reports import records
from zoo.reports.costs import cpu_cost
from zoo.reports.figures.comparison import _curve, _has_medians
from zoo.reports.published import published
from zoo.reports.records import BROKEN, NO_CHECKSUM
from zoo.reports.tables.cells import runs_of
from zoo.reports.tables.comparison import comparison_numbers, comparison_table
from zoo.runs import checkpoints
from zoo.runs.finished_training import finished_weights
from zoo.runs.make_runs import run_summary
from zoo.runs.stages import read_stage
from zoo.runs.weights import read_weights, weights_path


def same(a, b) -> bool:
    """Whether two things that were read are equal, arrays number by number."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and np.array_equal(a, b)
    if isinstance(a, dict):
        return (
            isinstance(b, dict)
            and a.keys() == b.keys()
            and all(same(value, b[name]) for name, value in a.items())
        )
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


class SaidError(Exception):
    """A reader said in a line that it could not read, or that it does not believe."""


class Reader:
    """Of two classes of small images, as a store is built from."""

    unreadable = ""

    def fingerprint(self):
        return "source"

    def check(self):
        pass

    def classes(self, split):
        return ["a", "b"]

    def images(self, split):
        rng = np.random.default_rng(0)
        yield from (rng.integers(256, size=(3, 1, 4, 4), dtype=np.uint8) for _ in range(2))


class Made:
    """A finished run, one with a stage before it, a test under way and a store; what reads them.

    Readers raise `SaidError` or a UsageError where they do not believe a file.
    """

    def __init__(self, folder, stores):
        self.staged = staged = plan(
            folder, stores, "protonet", flags={**NO_UPDATES, "test_episodes": 4}
        )
        self.run = run = plan(folder, stores, "matchingnet", flags={**SHORT, "test_episodes": 4})
        for each in (staged, run):
            each.execute(progress=False)
        (self.stage,), self.results = staged.stages, run.workspace.results
        self.keeper = run._keeper(run.folder, None)
        recorded = {"accuracy": np.ones(3), "prediction": np.zeros((3, 5)), "of": np.array("whose")}
        write_arrays(run.folder / "test.npz", recorded)
        self.store_path = folder / "a.store"
        self.store()

    def read(self, what):
        """The file of this kind, and what reads it."""
        run, stage = self.run.folder, self.stage.folder
        episodes = f"episodes-{self.run.data.test_fingerprint()}.npz"
        return {
            "record": (self.run.record_path, self.table),
            "results": (self.run.record_path.with_suffix(".npz"), self.values),
            "episodes": (self.results / episodes, self.values),
            "weights": (weights_path(self.run.record_path), self.weights),
            "end.ckpt": (run / "end.ckpt", self.end),
            "best.ckpt": (run / "best.ckpt", self.finished),
            "training.json": (run / "training.json", self.finished),
            "test.npz": (run / "test.npz", self.begun_test),
            "stage.json": (stage / "stage.json", self.kept_stage),
            "weights.ckpt": (stage / "weights.ckpt", self.stage_weights),
            "store": (self.store_path, self.store),
        }[what]

    def table(self):
        """The row of the run, and a table of all that can be read."""
        frame, problems = records.load(self.results)
        if self.run.name not in set(frame["run"]):
            raise SaidError(problems[0])
        comparison_table(frame, published(), "glyphs")
        comparison_numbers(frame, published(), "glyphs")
        row = frame[frame["run"] == self.run.name].to_dict("records")[0]
        if row.pop("checksum") in (BROKEN, NO_CHECKSUM):
            raise SaidError("every table marks it")
        return row

    def values(self):
        found, problems = records.values(self.results, records.load(self.results)[0])
        if problems:
            raise SaidError(problems[0])
        return found[self.run.name].to_dict("list")

    def weights(self):
        tensors, about = read_weights(weights_path(self.run.record_path))
        about.pop("about_checksum", None)
        return tensors, about

    def end(self):
        path, updates = self.run.folder / "end.ckpt", SHORT["updates"]
        return self.keeper.read(path, self.run.learner, updates).content

    def finished(self):
        found = finished_weights(self.run.folder)
        if found is None:
            raise SaidError("it is trained again")
        return found

    def begun_test(self):
        recorder = checkpoints.TestRecorder(self.run.folder, "whose")
        if not len(recorder):
            raise SaidError("the test begins anew")
        return recorder.results()

    def kept_stage(self):
        kept = read_stage(self.stage.folder)
        kept.pop("checksum", None)  # without it the run's record says so
        return kept

    def stage_weights(self):
        return self.stage._weights(read_stage(self.stage.folder))

    def store(self):
        found = open_store(self.store_path, Reader(), "train")
        return found.images.clone(), found.offsets, found.names, found.fingerprint


@pytest.fixture(scope="module")
def made(stores, tmp_path_factory):
    torch.set_num_threads(1)
    return Made(tmp_path_factory.mktemp("made"), stores)


KINDS = (
    "record", "results", "episodes", "weights", "end.ckpt", "best.ckpt", "training.json",
    "test.npz", "stage.json", "weights.ckpt", "store",
)  # fmt: skip
IN_GATE, IN_ALL = 20, 182  # damages of each kind; 2,002 in all


@pytest.mark.parametrize("seeds", in_full([range(IN_GATE), range(IN_GATE, IN_ALL)], range(IN_GATE)))
@pytest.mark.parametrize("what", KINDS)
def test_a_damaged_file_is_said_in_a_line_or_gives_the_same_numbers(what, seeds, made, capsys):
    path, read = made.read(what)
    content, expected, said = path.read_bytes(), read(), 0
    for seed in seeds:
        rng = np.random.default_rng([KINDS.index(what), seed])
        path.write_bytes(damaged(content, rng))
        try:
            assert same(read(), expected), f"damage {seed} of {what} gives other numbers"
        except (UsageError, SaidError) as error:
            assert str(error) and "\n" not in str(error)
            said += 1
        finally:
            path.write_bytes(content)
    assert said or what == "store", "a store is built anew"
    assert same(read(), expected)
    assert "Traceback" not in capsys.readouterr().err


OTHERS = (
    None,
    True,
    -1,
    0,
    2**62,
    1e300,
    "",
    "x",
    "\N{SUPERSCRIPT TWO}",
    [],
    [1],
    {},
    {"a": [None]},
)


def places(content, way=()):
    """Where a record holds something, lists and what is in them included."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        yield (*way, key)
        if isinstance(value, dict | list):
            yield from places(value, (*way, key))


@pytest.mark.parametrize("seeds", in_full([range(30), range(30, 300)], range(30)))
def test_a_record_with_something_else_in_a_place_costs_no_more_than_itself(seeds, made):
    """Edited by hand, with and without a checksum that holds."""
    path, _ = made.read("record")
    content = path.read_bytes()
    whole = json.loads(content)
    ways = [*places(whole)]
    try:
        for seed in seeds:
            rng = np.random.default_rng([77, seed])
            record = json.loads(content)
            way = ways[int(rng.integers(len(ways)))]
            inner = record
            for key in way[:-1]:
                inner = inner[key]
            inner[way[-1]] = OTHERS[int(rng.integers(len(OTHERS)))]
            if seed % 2:
                record["checksum"] = records.checksum(record)
            path.write_text(json.dumps(record))
            with contextlib.suppress(SaidError):
                made.table()
            frame, _ = records.load(made.results)
            records.values(made.results, frame)
            for run in runs_of(frame):
                cpu_cost(run)
                _curve(run, 1, "updates", _has_medians(run))
            assert set(frame["run"]) >= {made.staged.name}
            with contextlib.suppress(UsageError):
                run_summary(made.run, made.run.record())
    finally:
        path.write_bytes(content)
