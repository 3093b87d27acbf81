"""Bad input of many kinds: one line that names it, no traceback, and nothing is run."""

from pathlib import Path

import pytest

from tests.support.bad_input import (
    BAD,
    CONFIGS,
    LONG,
    NO_NUMBERS,
    RUN,
    numeric_flags,
    numeric_settings,
)
from zoo import learners
from zoo.commands import main
from zoo.commands.parser import build_parser
from zoo.datasets.benchmarks.base import find_benchmark
from zoo.errors import UsageError
from zoo.runs.request import RunRequest
from zoo.runs.resolved import resolve_request
from zoo.runs.run import Run
from zoo.runs.settings import learner_variant, parse_flags, parse_values


@pytest.fixture(autouse=True)
def _nothing_is_run(monkeypatch, tmp_path):
    def refuse(self, *arguments, **options):
        raise AssertionError(f"{self.name} would have been run")

    monkeypatch.setattr(Run, "execute", refuse)
    monkeypatch.chdir(tmp_path)


def assert_one_line(words, says, capsys):
    status = main(words)
    said = capsys.readouterr()
    assert status == 2, said.out
    assert said.err.startswith("zoo: ") and said.err.count("\n") == 1, said.err
    assert says in said.err and len(said.err) < 500
    assert not said.out and not list(Path().iterdir())


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line(kind, capsys):
    assert_one_line(*BAD[kind], capsys)


@pytest.mark.parametrize(("content", "says"), CONFIGS)
def test_a_bad_config_file_is_one_line(content, says, capsys, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "bad.yaml"
    path.write_bytes(content.encode("latin-1"))
    status = main([*RUN, "--config", str(path)])
    said = capsys.readouterr().err
    assert status == 2 and said.count("\n") == 1
    assert says in said.replace(f"{path.parent}/", "")


def test_every_flag_of_every_command_refuses_what_is_no_number():
    flags = list(numeric_flags())
    assert len(flags) > 30 and ("run", "--way") in flags and ("predict", "--reject") in flags
    parser = build_parser()
    for command, flag in flags:
        for text in set(NO_NUMBERS) - ({LONG} if flag == "--reject" else set()):
            with pytest.raises(UsageError) as error:
                parser.parse_args([command, flag, text])
            said = str(error.value)
            assert said.startswith((f"{flag}:", f"{flag}/")) and "\n" not in said, (command, said)


@pytest.mark.parametrize("key", learners.names())
def test_every_setting_refuses_what_is_no_number(key):
    cls = learners.get(key)
    for name in (name for of, name in numeric_settings() if of == key):
        for text in NO_NUMBERS:
            with pytest.raises(UsageError) as error:
                parse_flags(cls, [f"--{name}", text])
            assert f"--{name} " in str(error.value) and "\n" not in str(error.value)
        for value in (float("inf"), float("nan"), 10**400, True, [1], "²"):
            with pytest.raises(UsageError, match=f"here: {name} "):
                parse_values(cls, {name: value}, "here")


SAME = [
    ("maml[inner_lr=1,clip=2]", " maml [ clip = 2.0 , inner_lr = 1.0 ]"),
    ("maml[first_order=true,inner_steps=3]", "maml[inner_steps=3.0,first_order=True]"),
    ("maml[clip=null,inner_lr=1e-05]", "maml[inner_lr=0.00001,clip=NULL]"),
    ("protonet[backbone=conv4]", "protonet[backbone= conv4[ channels = 64.0 ]]"),
    ("protonet[backbone=conv4[channels=8]]", "protonet[backbone=conv4[channels=8.0]]"),
    ("protonet[augment=crop flip]", "protonet[augment=crop   flip]"),
    ("maml", "maml[]"),
]


@pytest.mark.parametrize(("text", "same"), SAME)
def test_a_learner_has_one_form(text, same):
    one, other = (resolve_request(RunRequest(each, "miniimagenet")) for each in (text, same))
    assert one.values == other.values and repr(one.changed) == repr(other.changed)
    assert one.title == other.title
    assert learner_variant(text) == learner_variant(learner_variant(text))


def test_a_value_that_is_the_default_is_no_change():
    for text in ("maml[inner_steps=5,first_order=false]", "maml[backbone=conv4[channels=32]]"):
        assert not resolve_request(RunRequest(text, "miniimagenet")).changed
    assert not resolve_request(RunRequest("cnp[decoder=mlp[depth=2,width=128]]", "glyphs")).changed


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        ("cifarfs[size=84.0]", "cifarfs[size=84]"),
        (" cifarfs [size= 84 ]", "cifarfs[size=84]"),
        ("cifarfs[size=32]", "cifarfs"),
        ("cifarfs[]", "cifarfs"),
        ("folder[seed=1.0,size=32]", "folder[seed=1,size=32]"),
    ],
)
def test_a_benchmark_has_one_form(text, variant):
    found = find_benchmark(text)
    assert found.variant == variant
    assert all(type(value) in (int, str) for value in found.options.values())
