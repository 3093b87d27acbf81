"""The comparison with other libraries: its table, and the checks that stand before a ratio."""

import mmap
import re
import time
from pathlib import Path

import numpy as np
import pytest

from tests.bench import predict
from tests.bench.environments import InstallError
from tests.bench.peers import NAMES, Problem, plain
from tests.bench.problem import CHECK, write_problem
from tests.bench.race import Race, WorkerError, chosen, difference, one_line
from tests.bench.table import markdown
from tests.bench.worker import prepare, timed


def entry(title: str, check: dict, library: bool = False, **versions: str) -> dict:
    return {
        "title": title,
        "library": library,
        "orders": ["second"],
        "versions": versions,
        "checks": {"second": check},
    }


def samples(name: str, tuned: bool, *seconds: float) -> list[dict]:
    common = {"contestant": name, "channels": 32, "order": "second", "tuned": tuned}
    return [
        common | {"round": i, "seconds": s, "first_seconds": s, "megabytes": 1000.0}
        for i, s in enumerate(seconds)
    ]


RESULTS = {
    "date": "2030-01-02",
    "machine": {"cpu": "Abacus", "cores": 2, "os": "Linux"},
    "threads": 2,
    "work": {"tasks": 4, "steps": 5, "test_steps": 10},
    "contestants": {
        "plain": entry("plain loop", {"difference": 0.0}, torch="2.13.0"),
        "higher": entry("higher", {"difference": 3e-15}, True, higher="0.2.1"),
        "torchopt": entry("TorchOpt", {"difference": 0.02}, True, torchopt="0.7.3"),
        "torchmeta": entry("Torchmeta", {"failed": "no torch"}, True),
        "jax_": entry("JAX", {"difference": 8e-15}, True, jax="0.10.2"),
        "ours": entry("ours", {"difference": 1e-15}),
    },
    "samples": [
        *samples("plain", False, 8.0, 7.0, 9.0),
        *samples("plain", True, 5.0, 4.0, 4.0),
        *samples("higher", False, 8.0),
        *samples("higher", True, 6.0),
        *samples("torchopt", False, 1.0),
        *samples("jax_", False, 2.0),
        samples("jax_", False, 2.0)[0] | {"seconds": None, "failed": "killed by signal 9"},
        *samples("ours", False, 4.0),
        *samples("ours", True, 2.0),
    ],
}
RESULTS["samples"] = [
    {k: v for k, v in sample.items() if v is not None} for sample in RESULTS["samples"]
]

GOLDEN = """\
| plain loop | 2.13.0 | identical | 8.00 (7.00–9.00) | 1.00 | 1,000 | 4.00 (4.00–5.00) | 1.00 | 1,000 |
| higher | 0.2.1 | same to 3e-15 | 8.00 | 1.00 | 1,000 | 6.00 | 1.50 | 1,000 |
| TorchOpt | 0.7.3 | computes something else: differs by 2e-02 | 1.00 | – | 1,000 | – | – | – |
| Torchmeta | – | did not run: no torch | – | – | – | – | – | – |
| JAX | 0.10.2 | same to 8e-15 | did not run: killed by signal 9 | – | – | – | – | – |
| ours | – | same to 1e-15 | 2.00 | 0.25 | 1,000 | 2.00 | 0.50 | 1,000 |
| ours, without allocator settings | – | the same | 4.00 | 0.50 | 1,000 | – | – | – |
"""  # noqa: E501


def test_the_table_is_made_from_the_results():
    text = markdown(RESULTS)
    assert GOLDEN in text
    assert "**Second order, Conv4-32: the meta-gradient of 4 tasks, 5 inner steps**" in text
    assert "Medians of 3 interleaved rounds" in text
    assert text.endswith("2030-01-02, 2 cores of Abacus, Linux.\n")


def test_disturbed_samples_count_only_where_there_is_no_other():
    (busy,) = samples("higher", False, 80.0)
    text = markdown(RESULTS | {"samples": [*RESULTS["samples"], busy | {"others": 1.0}]})
    assert GOLDEN in text and "are left out" in text
    alone = [s for s in RESULTS["samples"] if s["contestant"] != "higher"]
    text = markdown(RESULTS | {"samples": [*alone, busy | {"others": 1.0}]})
    assert "| higher | 0.2.1 | same to 3e-15 | 80.00* |" in text


def test_quick_results_are_a_table_too():
    text = markdown({"date": "2030-01-02", "machine": RESULTS["machine"], "ours": {"sums": "1 s"}})
    assert text.startswith("| work | here |\n|---|---|\n| sums | 1 s |\n")


def request(folder: Path, name: str, order: str) -> dict:
    problem = folder / "problem.npz"
    write_problem(problem, CHECK._replace(channels=4, side=16))
    return {
        "name": name, "order": order, "problem": str(problem), "tasks": 2, "steps": 2, "lr": 0.01,
        "threads": 2, "tuned": False, "gradient": None,
    }  # fmt: skip


@pytest.mark.parametrize("order", ["second", "first", "test"])
def test_ours_and_the_plain_loop_compute_the_same(order, tmp_path):
    for name in ("plain", "ours"):
        result = prepare(request(tmp_path, name, order))()
        np.savez(tmp_path / f"{name}.npz", **{n: np.asarray(a) for n, a in result.items()})
    assert difference(tmp_path / "ours.npz", tmp_path / "plain.npz") < 1e-12


def test_second_order_differs_from_first(tmp_path):
    for order in ("second", "first"):
        result = prepare(request(tmp_path, "plain", order))()
        np.savez(tmp_path / f"{order}.npz", **{n: np.asarray(a) for n, a in result.items()})
    assert difference(tmp_path / "first.npz", tmp_path / "second.npz") > 1e-3


def test_a_step_leaves_no_trace_in_the_next(tmp_path):
    step = prepare(request(tmp_path, "plain", "second"))
    first = {name: g.clone() for name, g in step().items()}
    assert all((g == first[name]).all() for name, g in step().items())


def test_numbers_that_are_not_finite_are_no_result(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([np.nan]))
    np.savez(tmp_path / "b.npz", x=np.array([1.0]))
    with pytest.raises(WorkerError, match="not finite"):
        difference(tmp_path / "a.npz", tmp_path / "b.npz")


def test_who_cannot_be_installed_is_named_and_the_rest_goes_on(monkeypatch, tmp_path, capsys):
    def python_of(name, contestant, index):
        raise InstallError(f"could not install {name}")

    monkeypatch.setattr("tests.bench.race.python_of", python_of)
    race = Race(["plain", "higher"], 2, tmp_path / "out.json", None)
    race.check()
    race.time(1, [4], ["second"])
    assert race.results["samples"] == []
    for name in ("plain", "higher"):
        said = race.results["contestants"][name]["checks"]["second"]
        assert said == {"failed": f"could not install {name}"}
    assert (tmp_path / "out.json").is_file()
    assert "higher, second order: did not run: could not install higher" in capsys.readouterr().err


def test_memory_held_during_a_step_is_seen():
    def step():
        with mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE) as held:
            held.write(bytes(len(held)))
            time.sleep(0.1)

    quiet = timed(lambda: None, 0)["megabytes"]
    assert timed(step, 0)["megabytes"] > quiet + 60


def test_errors_are_one_line_without_addresses_or_paths():
    text = "Traceback\n  File x\nOSError: /home/me/x.so from https://example.org/y\n\n"
    assert one_line(text) == "OSError: ... from ..."


def test_the_plain_loop_always_runs():
    assert chosen(["ours"]) == ["plain", "ours"]
    assert chosen([]) == list(NAMES)


def test_every_contestant_documents_itself():
    assert isinstance(plain.__doc__, str)
    for name in NAMES:
        source = (Path(plain.__file__).parent / f"{name}.py").read_text()
        assert source.startswith('"""') and "TITLE = " in source and "INSTALL = " in source


def test_problems_are_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        write_problem(tmp_path / f"{name}.npz", CHECK)
    with np.load(tmp_path / "a.npz") as a, np.load(tmp_path / "b.npz") as b:
        assert all((a[name] == b[name]).all() for name in a.files)
        assert (a["norm0.weight"] < 0).sum() == 4
        arrays = {name: a[name] for name in a.files}
    tasks = [arrays.pop(n) for n in ("support_x", "support_y", "query_x", "query_y")]
    assert Problem(arrays, *tasks, steps=1, lr=0.1).tasks == 2


def test_predictions_of_photos_are_timed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["predict", "20"])
    predict.main()
    said = capsys.readouterr().out
    assert re.fullmatch(
        r"20 photos of 500x375 .*: \d+\.\d s, \d+\.\d s of CPU, with a page of \d\.\d MB\n", said
    )
