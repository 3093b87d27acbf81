"""Runs that several processes share, and runs written down as commands for other machines."""

import shlex
from types import SimpleNamespace

import numpy as np
import pytest

import zoo.runs.make_runs
from tests.support.processes import start_zoo
from zoo.commands import main
from zoo.commands.parser import build_parser
from zoo.commands.run import plan_run
from zoo.runs.make_runs import HowToRun, _jobs

LEARNERS = "pixelnn protonet maml pretrained finetune"
BROKEN = """
from zoo import register
from zoo.baselines.protonet import ProtoNet

@register("broken")
class Broken(ProtoNet):
    def meta_loss(self, batch):
        raise RuntimeError("it broke")
"""


def table(folder, *words):
    where = ["--results", str(folder / "results"), "--runs", str(folder / "runs")]
    return [
        "table",
        "glyphs",
        "--shots",
        "1",
        "--budget",
        "smoke",
        "--threads",
        "1",
        *where,
        *words,
    ]


def numbers(folder):
    found = {}
    for path in sorted((folder / "results").glob("*.npz")):
        with np.load(path) as arrays:
            found[path.name] = {name: arrays[name] for name in arrays.files}
    return found


def test_a_shared_table_is_the_serial_one_bit_for_bit(tmp_path, capsys):
    assert main(table(tmp_path / "one", "--learners", LEARNERS, "--jobs", "1")) == 0
    assert main(table(tmp_path / "two", "--learners", LEARNERS, "--jobs", "2")) == 0
    assert "2 processes share them, each on 1 thread" in capsys.readouterr().out
    one, two = numbers(tmp_path / "one"), numbers(tmp_path / "two")
    assert one.keys() == two.keys() and len(one) == 6  # with the episodes
    for name, arrays in one.items():
        for key, values in arrays.items():
            np.testing.assert_array_equal(values, two[name][key], err_msg=f"{name} {key}")
    cells = [next((tmp_path / name / "results").glob("*-cells.csv")) for name in ("one", "two")]
    assert cells[0].read_text() == cells[1].read_text()


def test_a_run_that_breaks_is_tried_once_and_the_others_are_made(tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    learners = "broken broken[outer_lr=0.5] pixelnn protonet"
    plugin = ["--plugin", str(tmp_path / "broken.py")]
    process = start_zoo(*table(tmp_path, "--learners", learners, "--jobs", "2", *plugin))
    out, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert said.count("it broke") == 2, said
    assert out.count("Glyphs, terms paper") == 1  # the workers do not say it again
    for learner in ("pixelnn", "protonet"):
        assert list((tmp_path / "results").glob(f"{learner}*.json"))


@pytest.fixture
def runs():
    workspace = SimpleNamespace(device_kind="cpu", results=None)
    return [SimpleNamespace(workspace=workspace) for _ in range(3)]


@pytest.mark.parametrize(
    ("how", "seconds", "cores", "gigabytes", "jobs"),
    [
        (HowToRun(jobs=None), 1000, 2, 16, 2),
        (HowToRun(jobs=None), 1000, 8, 64, 3),  # no more than there are runs
        (HowToRun(jobs=None), 30, 2, 16, 1),  # over before a process has started
        (HowToRun(jobs=None), 1000, 8, 8, 2),  # two fit into memory
        (HowToRun(jobs=None), 1000, 8, 2, 1),
        (HowToRun(jobs=None, threads=4), 1000, 8, 64, 2),
        (HowToRun(jobs=None, threads=4), 1000, 2, 64, 1),
        (HowToRun(jobs=2), 1, 8, 64, 2),  # as asked for
        (HowToRun(jobs=9), 1, 8, 64, 3),
    ],
)
def test_how_many_processes_there_are(how, seconds, cores, gigabytes, jobs, runs, monkeypatch):
    estimator = SimpleNamespace(
        run=lambda run: SimpleNamespace(seconds=seconds), pretrainings=lambda runs: 0.0
    )
    module = zoo.runs.make_runs
    monkeypatch.setattr(
        module, "Estimator", SimpleNamespace(from_records_in=lambda folder: estimator)
    )
    monkeypatch.setattr(module, "cores", lambda: cores)
    monkeypatch.setattr(module, "memory_bytes", lambda: gigabytes * 1e9)
    assert _jobs(runs, how) == jobs


def test_a_gpu_makes_one_run_at_a_time(runs):
    for run in runs:
        run.workspace.device_kind = "cuda"
    assert _jobs(runs, HowToRun(jobs=None)) == 1


COMMANDS = {
    "a table": ["table", "glyphs", "--learners", "protonet maml[inner_lr=0.1] pretrained",
                "--terms", "both", "--seeds", "0 1", "--untrained", "--budget", "smoke"],
    "an ablation": ["ablation", "npbml", "glyphs", "--budget", "smoke"],
    "a study": ["study", "trlearner-functions", "--budget", "smoke", "--seeds", "0"],
    "a sweep": ["sweep", "glyphs", "--learners", "protonet", "--budget", "smoke"],
}  # fmt: skip


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS.keys())
def test_the_commands_written_down_make_the_runs(words, tmp_path, capsys, monkeypatch):
    """Each is of the name that the table looks for."""
    monkeypatch.chdir(tmp_path)
    planned = []
    real = zoo.commands.run_set.write_jobs

    def write(path, runs, plugins):
        planned.extend(run.name for run in runs)
        return real(path, runs, plugins)

    monkeypatch.setattr("zoo.commands.run_set.write_jobs", write)
    assert main([*words, "--write-jobs", "jobs.txt"]) in (0, 1)  # 1: a row cannot be run here
    lines = (tmp_path / "jobs.txt").read_text().splitlines()
    assert f"jobs.txt: {len(lines)} commands" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()
    names = []
    for line in lines:
        python, *rest = shlex.split(line)
        assert (python, rest[:2]) == ("python", ["-m", "zoo"])
        options, flags = build_parser().parse_known_args(rest[2:])
        options.flags = flags
        names.append(plan_run(options).name)
    assert names == planned and len(names) > 1 - (words[0] == "sweep")


def test_a_command_written_down_is_run_and_the_table_finds_it(tmp_path, capsys):
    words = table(tmp_path, "--learners", "pixelnn protonet")
    jobs = tmp_path / "jobs"
    assert main([*words, "--write-jobs", str(jobs)]) == 0
    for line in jobs.read_text().splitlines():
        assert main(shlex.split(line)[3:]) == 0
    capsys.readouterr()
    assert main(words) == 0
    assert "2 runs: 2 done, 0 left" in capsys.readouterr().out
    assert main([*words, "--write-jobs", str(jobs)]) == 0 and jobs.read_text() == ""
