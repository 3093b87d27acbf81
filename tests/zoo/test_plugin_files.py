"""Plug-ins: learners, benchmarks and backbones from files outside the checkout."""

import hashlib
import json
import subprocess
import textwrap
from pathlib import Path

import pytest

import zoo.runs.environment
from tests.commands.test_command_line import TINY, folders
from zoo import learners
from zoo.commands import main
from zoo.runs.plan import Plan
from zoo.runs.request import RunRequest
from zoo.runs.workspace import Workspace

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("registers")

BENCHMARKS = '''
    """A benchmark of images, one of functions, and a backbone (nobody, 2030). https://a.b"""

    import numpy as np
    from torch import nn

    from zoo.datasets.benchmarks.base import Benchmark
    from zoo.datasets.benchmarks.regression import Regression
    from zoo.datasets.episodes.image_store import Store
    from zoo.registry import register_backbone, register_benchmark


    @register_benchmark("spots")
    class Spots(Benchmark):
        """Bright and dark squares."""

        key, title = "spots", "Spots"
        image, backbone = (1, 12, 12), "conv4_strided[channels=4]"
        mean, std, query, shots = (0.0,), (1.0,), 2, "1"

        def open(self, data=None):
            draw = np.random.default_rng(0).integers
            splits = {s: draw(0, 256, (8, 6, 1, 12, 12), np.uint8) for s in ("train", "test")}
            names = [f"spot {n}" for n in range(8)]
            return {split: Store.from_arrays(names, images) for split, images in splits.items()}


    @register_benchmark("lines")
    class Lines(Regression):
        """Straight lines through the origin."""

        key, title, numbers = "lines", "Lines", (1, 1)

        def values(self, task, points):
            return points, task * points


    @register_backbone("flat")
    def flat(image, width: int = 4) -> nn.Module:
        """One linear layer."""
        net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(image)), width))
        net.features = width
        return net
'''


@pytest.fixture
def mine(tmp_path) -> Path:
    path = tmp_path / "mine.py"
    assert main(["new-learner", "my_learner", "--to", str(path)]) == 0
    return path


@pytest.fixture
def theirs(tmp_path) -> Path:
    path = tmp_path / "theirs.py"
    path.write_text(textwrap.dedent(BENCHMARKS))
    return path


def test_list_shows_its_keys(mine, theirs, capsys):
    words = ["--plugin", str(mine), "--plugin", str(theirs)]
    for kind, key in (("learners", "my_learner"), ("benchmarks", "spots"), ("backbones", "flat")):
        assert main(["list", kind, *words]) == 0
        assert key in [line.split()[0] for line in capsys.readouterr().out.splitlines()]


def test_a_record_names_its_plugins(mine, theirs, tmp_path, capsys):
    words = [*TINY, *folders(tmp_path), "--plugin", str(mine), "--plugin", str(theirs)]
    assert main(["run", "my_learner", "glyphs", *words]) == 0
    assert main(["run", "protonet", "glyphs", *words]) == 0
    ours, made = sorted((tmp_path / "results").glob("*.json"), reverse=True)
    content = {"file": "mine.py", "sha256": hashlib.sha256(mine.read_bytes()).hexdigest()}
    assert json.loads(made.read_text())["environment"]["plugins"] == [content]
    assert "plugins" not in json.loads(ours.read_text())["environment"]
    capsys.readouterr()
    assert main(["run", "my_learner", "glyphs", *words]) == 0
    assert "made with another" not in capsys.readouterr().out
    record = json.loads(made.read_text())
    record["environment"]["plugins"][0]["sha256"] = "0"
    made.write_text(json.dumps(record))
    assert main(["run", "my_learner", "glyphs", *words]) == 0
    assert f"{made}: made with another mine.py; delete it" in capsys.readouterr().out


def test_an_edited_learner_is_noticed(tmp_path, capsys, monkeypatch):
    """Where it was not committed, no commit says what it was."""
    monkeypatch.setattr(zoo.runs.environment, "commit", lambda: ("0" * 40, True))
    words = ["run", "protonet", "glyphs", *TINY, *folders(tmp_path)]
    assert main(words) == 0 and main(words) == 0
    (made,) = (tmp_path / "results").glob("*.json")
    record = json.loads(made.read_text())
    assert record["environment"]["learner_file"]["file"] == "protonet.py"
    assert "made with another" not in capsys.readouterr().out
    record["environment"]["learner_file"]["sha256"] = "0"
    made.write_text(json.dumps(record))
    assert main(words) == 0
    assert f"{made}: made with another protonet.py; delete it" in capsys.readouterr().out


def test_a_table_of_its_own_benchmark(mine, theirs, tmp_path, capsys):
    words = ["--plugin", str(mine), "--plugin", str(theirs), *folders(tmp_path)]
    words += ["--learners", "my_learner maml[inner_steps=1,test_steps=1]", "--budget", "smoke"]
    assert main(["table", "spots", *words]) == 0
    out = capsys.readouterr().out
    assert "**Spots**" in out and "| MyLearner" in out and "| MAML" in out
    records = [json.loads(path.read_text()) for path in (tmp_path / "results").glob("*.json")]
    files = {r["learner"]: {p["file"] for p in r["environment"]["plugins"]} for r in records}
    assert files == {"my_learner": {"mine.py", "theirs.py"}, "maml": {"theirs.py"}}
    picture = tmp_path / "spots.png"
    assert main(["show", "spots", "--plugin", str(theirs), "-o", str(picture)]) == 0
    assert picture.exists()


def test_a_backbone_of_its_own(theirs, tmp_path):
    words = [*TINY[:-1], "flat[width=3]", *folders(tmp_path), "--plugin", str(theirs)]
    assert main(["run", "protonet", "glyphs", *words]) == 0
    (record,) = (json.loads(p.read_text()) for p in (tmp_path / "results").glob("*.json"))
    assert record["environment"]["plugins"][0]["file"] == "theirs.py"


def test_the_backbone_suits_the_benchmark(mine, theirs):
    assert main(["list", "--plugin", str(mine), "--plugin", str(theirs)]) == 0
    workspace = Workspace()
    assert Plan(RunRequest("my_learner", "glyphs"), workspace)["backbone"] == "conv4_strided"
    for terms in ("paper", "equal"):
        spots = Plan(RunRequest("maml", "spots", terms=terms), workspace)
        assert spots.settings["backbone"][:2] == ("conv4_strided[channels=4]", "benchmark")
        assert Plan(RunRequest("maml", "lines", shot=5, terms=terms), workspace).family == "mlp"
        assert Plan(RunRequest("maml", "sinusoid", shot=5, terms=terms)).settings[
            "backbone"
        ].origin != ("benchmark")
    flags = {"backbone": "conv4_strided"}
    assert Plan(RunRequest("maml", "spots", flags=flags), workspace)["backbone"] == "conv4_strided"


def test_a_learner_that_inherits_its_constructor(tmp_path, capsys):
    path = tmp_path / "child.py"
    path.write_text(
        '"""Mine. https://a.b"""\nfrom zoo.baselines.maml import MAML\nfrom zoo import register\n'
        '@register("child")\nclass Child(MAML):\n    """Like its parent."""\n'
    )
    assert main(["run", "child", "glyphs", "--help", "--plugin", str(path)]) == 0
    assert "--inner_lr 0.05" in capsys.readouterr().out


SOUND = "from zoo import Learner, register\n"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory; name a Python file"),
        ("x = (", "SyntaxError: '(' was never closed (line 1)"),
        ("\n\nimport nowhere_to_be_found", "No module named 'nowhere_to_be_found' (line 3)"),
        ("def f():\n    return 1 / 0\n\nf()", "ZeroDivisionError: division by zero (line 2)"),
        ("import sys; sys.exit('gone')", "SystemExit: gone (line 1)"),
        ("x = 1", "it registers nothing: expected @register"),
        (
            f"{SOUND}@register('maml')\nclass A(Learner): ...",
            "learner 'maml' of plugin_bad is taken",
        ),
        (f"{SOUND}@register('a')\nclass A: ...", "learner 'a' is not a subclass of zoo.Learner"),
        (f"{SOUND}@register('a b')\nclass A(Learner): ...", "learner 'a b': expected a key of at"),
        (
            "from zoo.registry import register_benchmark\n"
            "@register_benchmark('glyphs')\nclass A: ...",
            "benchmark 'glyphs' of plugin_bad is taken already, by zoo.datasets.benchmarks.glyphs",
        ),
        (
            "from zoo.registry import register_backbone\n@register_backbone('mlp')\ndef f(): ...",
            "backbone 'mlp' of plugin_bad is taken already, by zoo.networks.mlp",
        ),
        (
            "from zoo.registry import register_benchmark\n@register_benchmark('a')\nclass A: ...",
            "benchmark 'a': its class needs the attribute `key = 'a'`",
        ),
    ],
)
def test_a_bad_plugin_is_one_line(content, says, tmp_path, capsys):
    path = tmp_path / "bad.py"
    if content is not None:
        path.write_text(content)
    assert main(["list", "--plugin", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"zoo: --plugin {path}: ") and says in err and err.count("\n") == 1


def test_the_same_twice_is_once_and_a_namesake_is_refused(mine, tmp_path, capsys):
    assert main(["list", "--plugin", str(mine), "--plugin", str(mine)]) == 0
    other = tmp_path / "elsewhere" / "mine.py"
    other.parent.mkdir()
    other.write_text(mine.read_text())
    assert main(["list", "--plugin", str(other)]) == 2
    assert "mine.py has the same name; rename one" in capsys.readouterr().err


def test_make_passes_them_on():
    words = ["make", "-n", "table-glyphs", "PLUGINS=a.py b.py"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert '--plugin "a.py" --plugin "b.py"' in done.stdout.replace("  ", " ")


def test_nothing_of_ours_is_changed(mine):
    assert "my_learner" not in learners.names()
