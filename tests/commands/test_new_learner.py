"""`zoo new-learner`, and the docs' table of the learners."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.test_conformance import failing
from zoo import learners
from zoo.commands import main
from zoo.commands.learners import TABLE_MARKS, learner_table

ROOT = Path(__file__).parents[2]


@pytest.fixture
def skeleton(registers, tmp_path) -> Path:
    path = tmp_path / "my_learner.py"
    assert main(["new-learner", "my_learner", "--to", str(path)]) == 0
    return path


def test_the_skeleton_passes_the_battery_as_it_is(skeleton, capsys):
    assert main(["list", "--plugin", str(skeleton)]) == 0
    assert not failing("my_learner")


def test_it_says_what_to_fill_in_and_what_comes_next(skeleton, capsys, monkeypatch, tmp_path):
    assert skeleton.read_text().lower().count("fill in") > 5
    monkeypatch.setattr("zoo.commands.new_learner.checkout_root", lambda: tmp_path)
    (tmp_path / "baselines").mkdir()
    assert main(["new-learner", "other_one"]) == 0
    out = capsys.readouterr().out
    assert "python -m zoo check other_one\n" in out
    text = (tmp_path / "baselines" / "other_one.py").read_text()
    assert '@register("other_one")' in text and "class OtherOne(Learner)" in text


def test_an_installed_copy_writes_a_plug_in_where_one_stands(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("zoo.commands.new_learner.checkout_root", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert main(["new-learner", "other_one"]) == 0
    assert "python -m zoo check other_one --plugin other_one.py\n" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["other_one.py"]


def test_it_is_in_the_houses_form(skeleton):
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--config", str(ROOT / "pyproject.toml")]
        done = subprocess.run([*command, str(skeleton)], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("name", "to", "says"),
    [
        ("maml", "x.py", "'maml' is taken already, by zoo.baselines.maml"),
        ("", "x.py", "'': expected small letters, digits and _, beginning"),
        ("My-Learner", "x.py", "'My-Learner': expected small letters"),
        ("class", "x.py", "'class': expected small letters"),
        ("learner", "x.py", "'learner' means something else already"),
        ("fresh", "x.txt", "expected a file that ends in .py"),
        ("fresh", "nowhere/x.py", "nowhere/x.py: there is no folder"),
        ("fresh", "there.py", "there.py exists already"),
    ],
)
def test_what_cannot_be_written_is_one_line(name, to, says, tmp_path, capsys):
    (tmp_path / "there.py").write_text("mine")
    assert main(["new-learner", name, "--to", str(tmp_path / to)]) == 2
    err = capsys.readouterr().err
    assert says in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["there.py"]
    assert (tmp_path / "there.py").read_text() == "mine"


def test_the_page_of_learners_has_the_table_of_today():
    """`make readme` mends it."""
    page, (start, end) = ROOT / "docs" / "learners.md", TABLE_MARKS
    between = page.read_text().partition(start)[2].partition(end)[0]
    assert between.strip() == learner_table(page)
    assert "](../baselines/maml.py)" in between


def test_the_table_has_a_row_a_learner():
    rows = learner_table().splitlines()[2:]
    assert len(rows) == len(learners.names())
    maml = next(row for row in rows if "`maml`" in row)
    cells = [cell.strip() for cell in maml.strip("|").split("|")]
    lines = len((ROOT / "baselines" / "maml.py").read_text().splitlines())
    assert cells[:2] == ["MAML `maml`", "gradient"] and "transductive, fixed way" in cells[2]
    convolutions, norms, head = 27 * 32 + 3 * 9 * 32 * 32, 4 * 2 * 32, 800 * 5 + 5
    assert cells[3] == f"{convolutions + norms + head:,}"
    assert cells[4] == "[Finn, Abbeel & Levine, ICML 2017](https://arxiv.org/abs/1703.03400)"
    assert cells[5] == f"[{lines}](baselines/maml.py)"


def test_the_table_goes_between_its_marks(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(f"head\n{TABLE_MARKS[0]}\nold\n{TABLE_MARKS[1]}\ntail\n")
    for _ in range(2):
        assert main(["list", "--table", "--into", str(page)]) == 0
        assert (
            page.read_text()
            == f"head\n{TABLE_MARKS[0]}\n{learner_table(page)}\n{TABLE_MARKS[1]}\ntail\n"
        )
    page.write_text("nothing")
    assert main(["list", "--table", "--into", str(page)]) == 2
    assert main(["list", "benchmarks", "--table"]) == 2
    assert capsys.readouterr().err.count("\n") == 2
