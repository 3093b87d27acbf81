"""The Python that README and docs/python.md show does what the pages say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_lines_of_readme(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("README.md")
    names: dict[str, object] = {}
    assert block.count("shot=1)") == 1
    exec(block.replace("shot=1)", "shot=1, updates=2, test_episodes=8)"), names)
    assert names["trainer"].global_step == 2
    assert 0 <= names["trainer"].callback_metrics["test/accuracy"] <= 1


def test_the_page_on_python(tmp_path, monkeypatch, capsys):
    """One block after the other, as somebody types them."""
    monkeypatch.chdir(tmp_path)
    train, own = blocks("docs/python.md")
    names: dict[str, object] = {}
    assert "updates=200" in train
    exec(train.replace("updates=200", "updates=3"), names)
    (found,) = names["trainer"].test(names["learner"], names["data"], verbose=False)
    assert 0 <= found["test/accuracy"] <= 1
    assert names["learner"].hparams["inner_lr"] == 0.4
    capsys.readouterr()
    exec(own, names)
    assert "tensor([[[" in capsys.readouterr().out
    assert names["data"].stores["test"].names == ["5", "6", "7", "8", "9"]


@pytest.mark.parametrize("block", [*blocks("README.md"), *blocks("docs/python.md")])
def test_lines_are_short_enough_to_read(block):
    assert max(map(len, block.splitlines())) <= 100
