"""`zoo weights` and `zoo test`: what they print, write and refuse."""

import json
import shutil

import pytest

from tests.commands.test_command_line import TINY
from zoo.commands import main
from zoo.datasets.benchmarks.glyphs import Glyphs
from zoo.runs.weights import file_hash


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with a few trained runs."""
    folder = tmp_path_factory.mktemp("weights")
    for words in (["protonet", "glyphs"], ["maml", "glyphs"], ["maml", "sinusoid"]):
        tiny = TINY if words[1] == "glyphs" else TINY[:-2]
        where = ["--results", str(folder / "results"), "--runs", str(folder / "runs")]
        assert main(["run", *words, *tiny, *where, "--threads", "1"]) == 0
    return folder / "results"


@pytest.fixture
def zoo(results, tmp_path, capsys):
    """Runs a command on a copy of that folder; its status and what it printed."""
    copy = tmp_path / "results"
    shutil.copytree(results, copy)
    capsys.readouterr()

    def call(command, *words):
        where = ["--results", str(copy)]
        if command == "test":
            where += ["--runs", str(tmp_path / "runs"), "--threads", "1"]
        status = main([command, *words, *where])
        return status, capsys.readouterr()

    return call


def test_the_list(zoo):
    status, said = zoo("weights")
    head, _, *lines = said.out.splitlines()
    assert status == 0 and len(lines) == 3
    assert head.split() == ["learner", "trained", "on", "episodes", "tested", "MB", "name"]
    text = "\n".join(lines)
    assert "5-way 1-shot" in text and " ± " in text and "mse " in text and " sinusoid " in text


def test_a_card(zoo, tmp_path):
    status, said = zoo("weights", "protonet")
    name, *lines = said.out.splitlines()
    facts = {line[2:23].strip(): line[23:] for line in lines}
    (path,) = (tmp_path / "results").glob("protonet*.safetensors")
    record = json.loads(path.with_suffix(".json").read_text())
    assert status == 0 and name == path.stem == record["run"]
    assert facts["hash"] == file_hash(path.read_bytes()) == record["weights"]["hash"]
    assert facts["trained on"] == "glyphs, 5-way 1-shot, paper terms, quick budget"
    assert facts["data"] == f"fingerprint {record['data']['fingerprint']}"
    assert facts["licence of the data"].startswith("that of the DejaVu fonts")
    assert facts["images"] == "1x28x28, mean 0, std 1" and facts["updates"] == "2"
    assert "updates=2" in facts["changed settings"] and "test_episodes=8" in facts["learner"]
    assert facts["tested"].endswith(" %, over 8 test episodes")
    assert facts["made by"] == record["weights"]["command"]
    _, said = zoo("weights", "protonet", "--json")
    card = json.loads(said.out)
    assert card["tested"]["mean"] == record["metrics"]["accuracy"]["mean"]
    assert card["training_tasks"]["seen"] == record["training_tasks"]["seen"] > 0
    _, said = zoo("weights", "--json")
    assert card in json.loads(said.out)


def test_the_share_of_the_papers_tasks(zoo, tmp_path):
    (path,) = (tmp_path / "results").glob("protonet*.json")
    record = json.loads(path.read_text())
    record["training_tasks"] = {"seen": 2_500, "paper": 10_000}
    record["weights"].pop("command")  # as records of before
    path.write_text(json.dumps(record))
    _, said = zoo("weights", "protonet")
    assert "2,500, 25 % of the paper's 10,000" in said.out
    assert "python -m zoo run 'protonet[" in said.out


def test_the_command_of_own_images_asks_for_their_folder(zoo, tmp_path):
    (path,) = (tmp_path / "results").glob("protonet*.json")
    record = json.loads(path.read_text()) | {"benchmark": "folder[size=28]"}
    path.write_text(json.dumps(record))
    _, said = zoo("weights", "protonet", "--json")
    assert json.loads(said.out)["command"] == f"{record['weights']['command']} --data DIR"


def test_weights_without_a_record_say_what_they_can(zoo, tmp_path):
    for path in (tmp_path / "results").glob("protonet*.json"):
        path.unlink()
    _, said = zoo("weights", "protonet")
    assert "not known: no record beside it" in said.out and "glyphs, not known" in said.out
    _, said = zoo("weights")
    assert said.out.count("not known") >= 2
    status, said = zoo("test", "protonet", "glyphs")
    assert status == 2 and "a test needs the record of the run beside the weights" in said.err


def test_an_empty_folder_and_one_that_is_not_there(tmp_path, capsys):
    assert main(["weights", "--results", str(tmp_path)]) == 0
    assert "no weights in" in capsys.readouterr().out
    assert main(["weights", "--results", str(tmp_path / "gone")]) == 2
    assert "no such folder of results" in capsys.readouterr().err


def test_a_test_at_another_shot(zoo, tmp_path):
    words = ["protonet", "glyphs", "--shot", "5", "--test_episodes", "4"]
    status, said = zoo("test", *words)
    (path,) = (tmp_path / "results" / "tested").glob("*.json")
    assert status == 0 and str(path) in said.out and "over 4 test episodes" in said.out
    record = json.loads(path.read_text())
    assert (record["shot"], record["episodes"]["count"]) == (5, 4)
    assert record["trained_on"]["benchmark"] == "glyphs"
    status, said = zoo("test", *words)
    assert status == 0 and "1 done, 0 left" in said.out
    _, said = zoo("weights")
    assert len(said.out.splitlines()) == 5, "a test leaves no weights"


def test_what_is_refused(zoo):
    for words, expected in (
        (["maml", "glyphs"], "maml: the beginning of 2 names"),
        (["nothing", "glyphs"], "nothing: no such file, and no run of this name"),
        (["protonet", "cifarfs"], "was trained on images of 1x28x28, cifarfs has 3x32x32"),
        (["protonet", "glyphs", "--way", "1"], "--way 1: expected a whole number of at least 2"),
    ):
        status, said = zoo("test", *words)
        assert status == 2 and expected in said.err and len(said.err.splitlines()) == 1


def test_another_normalisation_is_said(zoo, monkeypatch):
    monkeypatch.setattr(Glyphs, "std", (0.5,))
    status, said = zoo("test", "protonet", "glyphs", "--test_episodes", "4")
    assert status == 0
    expected = "normalised as in the training of the weights, mean 0, std 1; glyphs has mean 0, std"
    assert f"{expected} 0.5" in said.out
