"""The command line: what it prints, what it refuses, and how."""

import csv
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import in_full
from zoo import learners
from zoo.commands import main
from zoo.commands.write_table import shortened_stem
from zoo.registry import usual_learners
from zoo.runs.settings import SHARED_SETTING_NAMES, constructor_defaults
from zoo.runs.tune_cpu import tune_cpu

ROOT = Path(__file__).parents[2]
TINY = ["--updates", "2", "--val_episodes", "4", "--test_episodes", "8",
        "--backbone", "conv4_strided[channels=4]"]  # fmt: skip


def zoo(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zoo", *map(str, words)],
        cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def folders(tmp_path: Path) -> list[str]:
    return ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]


def test_list_has_keys_first(capsys):
    for kind, key in (("learners", "maml"), ("benchmarks", "glyphs"), ("backbones", "conv4")):
        assert main(["list", kind]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert key in [line.split()[0] for line in lines]
        assert all(len(line.split()) > 3 for line in lines), "a key without a word on it"


def test_run_prints_and_records(tmp_path, capsys):
    assert main(["run", "protonet", "glyphs", *TINY, *folders(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "1 runs: 0 done, 1 left" in out and "accuracy" in out
    (record,) = (tmp_path / "results").glob("*.json")
    assert str(record) in out
    assert main(["run", "protonet", "glyphs", *TINY, *folders(tmp_path)]) == 0
    assert "1 done, 0 left" in capsys.readouterr().out


def test_all_help_shows_every_setting_with_default_and_source(capsys):
    assert main(["run", "maml", "omniglot", "--budget", "paper", "--help-all"]) == 0
    out = capsys.readouterr().out
    assert "--inner_lr 2.0" in out and "Finn 2017, section 5.2" in out
    assert "--first_order false" in out and "--updates" in out and "--way" in out
    assert "--pretrain_drops '0.5 0.75 0.875 0.95'" in out and "--callback" in out
    assert "        batch, or support: the inductive variant.\n        from constructor" in out


@pytest.mark.parametrize("learner", in_full(learners.names(), "maml", "npbml", "pixelnn"))
def test_help_is_a_screen_without_markup(learner, capsys):
    """The learner's own settings and the main flags, 30 lines of 80 characters at most."""
    assert main(["run", learner, "glyphs", "--shot", "5", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 80
    assert not [line for line in lines[1:] if "`" in line or " [" in line]
    flags = [line.split()[0] for line in lines if line.startswith("  --")]
    own = [name for name in constructor_defaults(learners.get(learner))]
    own = [f"--{name}" for name in own if name not in SHARED_SETTING_NAMES]
    assert flags[: len(own)] == own
    assert {"--updates", "--backbone", "--way", "--seed", "--budget", "--data"} <= {*flags}
    assert any(line.split()[:2] == ["--shot", "5"] for line in lines)


def test_help_of_regression_has_no_way(capsys):
    assert main(["run", "maml", "sinusoid", "--help"]) == 0
    out = capsys.readouterr().out
    assert "--shot" in out and "--way" not in out


def test_help_without_a_learner_is_a_screen_too(capsys):
    assert main(["run", "--help"]) == 0
    short = capsys.readouterr().out
    assert main(["run", "--help-all"]) == 0
    every = capsys.readouterr().out
    assert len(short.splitlines()) <= 30 and "--shot" in short and "--help-all" in short
    assert "--logger" in every and "--logger" not in short


def test_a_config_file_is_weaker_than_a_flag(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("updates: 3\nhalvings: 2\n")
    words = ["run", "protonet", "glyphs", *TINY, *folders(tmp_path), "--config", str(path)]
    assert main(words) == 0
    (record,) = (tmp_path / "results").glob("*.json")
    text = record.read_text()
    assert '"value": 2,\n   "origin": "flag"' in text  # updates
    assert '"value": 2,\n   "origin": "config"' in text  # halvings


def test_table_fills_in_what_is_missing(tmp_path, capsys):
    words = ["table", "glyphs", "--budget", "smoke", "--learners", "protonet", *folders(tmp_path)]
    assert main([*words, "--dry-run"]) == 0
    assert "to do protonet glyphs 5-way 1-shot" in capsys.readouterr().out
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "ProtoNet" in out and "±" in out
    table = tmp_path / "results" / "table-glyphs-protonet-5w-1s-paper-smoke.md"
    printed, _, made = table.read_text().rpartition("\nMade by ")
    assert printed in out and f"[page]({table.stem}.html)" in made
    assert f"In {table.parent}: {table.stem} .md" in out
    with table.with_suffix(".csv").open() as file:
        assert {row["metric"] for row in csv.DictReader(file)} == {"accuracy", "nll"}
    assert main([*words, "--dry-run"]) == 0
    assert "1 runs: 1 done, 0 left" in capsys.readouterr().out


def test_table_tells_what_training_gave(tmp_path, capsys):
    words = ["table", "glyphs", "--budget", "smoke", "--learners", "protonet", "--untrained"]
    assert main([*words, *folders(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "2 runs: 0 done, 2 left" in out and "| over untrained" in out
    table = tmp_path / "results" / "table-glyphs-protonet-5w-1s-paper-smoke-untrained.csv"
    with table.open() as file:
        assert {row["variant"] for row in csv.DictReader(file)} == {""}
    found = [json.loads(path.read_text()) for path in (tmp_path / "results").glob("protonet*.json")]
    assert sorted((r["variant"] for r in found), key=len) == [{}, {"updates": 0}]


def test_a_failed_run_does_not_stop_the_table(tmp_path, capsys):
    learners = "maml[outer_lr=1e30] protonet"
    words = ["table", "glyphs", "--budget", "smoke", "--learners", learners, *folders(tmp_path)]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "failed at update" in out
    row = next(line for line in out.splitlines() if line.startswith("| MAML [outer_lr=1e+30]"))
    assert "failed" in row
    assert any(line.startswith("| ProtoNet") and "±" in line for line in out.splitlines())


def test_a_run_that_breaks_leaves_its_traceback_in_a_file(tmp_path, capsys, monkeypatch):
    from zoo.runs.run import Run

    def broken(self, *arguments):
        raise RuntimeError("out of something")

    monkeypatch.setattr(Run, "train", broken)
    words = ["table", "glyphs", "--budget", "smoke", *folders(tmp_path)]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "error.txt says why" in captured.err and "Traceback" not in captured.err
    files = list(tmp_path.glob("runs/*/error.txt"))
    assert len(files) == len(usual_learners()) and "out of something" in files[0].read_text()


def test_a_way_that_cannot_be_is_left_out(tmp_path, capsys):
    words = ["table", "glyphs", "--budget", "smoke", "--learners", "protonet", "--ways", "5 5000"]
    assert main([*words, *folders(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "--way 5000: val has only" in captured.err and "5-way 1-shot" in captured.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "mamml", "glyphs"], "no learner 'mamml': did you mean 'maml'"),
        (["run", "maml", "glyph"], "no benchmark 'glyph': did you mean 'glyphs'"),
        (["run", "maml", "glyphs", "--inner_lrr", "1"], "--inner_lrr: did you mean 'inner_lr'"),
        (["run", "maml", "glyphs", "--inner_lr", "x"], "--inner_lr 'x': expected a number"),
        (["run", "maml[inner_lr=x]", "glyphs"], "maml[inner_lr=x]: "),
        (["run", "maml", "glyphs", "--config", "nowhere.yaml"], "--config nowhere.yaml"),
        (["run", "maml", "glyphs", "--device", "tpu"], "--device tpu: choose from"),
        (["run", "maml", "glyphs", "--threads", "0"], "--threads: '0': expected a whole number"),
        (["run", "maml", "glyphs", "--results", "/proc/x"], "--results /proc/x"),
        (["run", "maml", "omniglot[split=3]"], "split=3"),
        (["table", "glyphs", "--shots", "one"], "--shots 'one': expected whole numbers"),
        (["table", "glyphs", "--learners", "protonett"], "did you mean 'protonet'"),
        (["table", "glyphs", "--lerners", "x"], "--lerners is not known"),
        (["table", "glyphs", "--budget", "foo"], "invalid choice: 'foo'"),
        (["table", "glyphs", "--ways", "5000"], "nothing of this table can be run"),
        (["run", "maml", "glyphs", "--way", "1"], "--way 1: expected"),
        (["run", "maml", "glyphs", "--inner_steps", "-1"], "--inner_steps -1: expected"),
        (["run", "maml", "glyphs", "--batch_norm", "running"], "batch_norm running"),
    ],
)
def test_mistakes_are_one_line(words, says, capsys, tmp_path):
    assert main([*words[:1], *words[1:]]) == 2
    captured = capsys.readouterr()
    assert says in captured.err.splitlines()[-1], captured.err
    assert captured.err.count("\n") == 1 or "5000" in words


def test_missing_data_is_one_screen_and_nothing_written(tmp_path, capsys):
    for key in ("miniimagenet", "cifarfs", "fc100", "omniglot"):
        words = ["table", key, "--data", str(tmp_path), *folders(tmp_path)]
        assert main(words) == 2
        err = capsys.readouterr().err
        assert f"make table-{key} DATA=" in err and len(err.splitlines()) <= 25
        assert max(map(len, err.splitlines()[1:])) <= 100  # the first names the folder
    assert not list(tmp_path.iterdir())


def test_make_alone_prints_the_targets():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    for target in ("setup", "test", "lint", "table-%", "bench", "clean", "DATA="):
        assert target in done.stdout


def test_make_knows_its_variables():
    words = ["make", "-n", "table-glyphs", "LEARNER=protonet"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode and "no variable LEARNER; there are" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(unbuffered):
    """As `zoo list | head -1` is."""
    command = f"set -o pipefail; {sys.executable} -m zoo list | true"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 128 + signal.SIGPIPE and not done.stderr


def test_the_cpu_is_tuned_where_it_can_be():
    assert tune_cpu() == (platform.libc_ver()[0] == "glibc")
    assert os.environ["GOMP_SPINCOUNT"]


@pytest.mark.parametrize("names", in_full(["protonet maml", ""], "protonet maml"))
def test_real_images_end_to_end(names, data_folder, tmp_path, capsys):
    """From the publisher's files to a row of the table."""
    words = ["table", "omniglot", "--budget", "smoke", "--data", str(data_folder)]
    words += ["--learners", names]
    assert main([*words, "--shots", "1", *folders(tmp_path)]) == 0
    out = capsys.readouterr().out
    row = next(line for line in out.splitlines() if line.startswith("| ProtoNet"))
    assert "98.8" in row and "±" in row


def test_a_table_of_many_variants_has_a_file_name_of_bearable_length():
    names = ["table-" + "x" * length for length in (50, 94, 95, 400)] + ["table-" + "x" * 401]
    stems = [shortened_stem(name) for name in names]
    assert stems[:2] == names[:2] and len(set(stems)) == 5
    assert all(len(stem) <= 100 for stem in stems)
