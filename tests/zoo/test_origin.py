"""Is this a checkout, and where; the version, and what records name the code by."""

import os
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

import zoo
import zoo.origin
import zoo.runs.environment
from zoo.origin import checkout_root, code_hash, zoo_version
from zoo.runs.environment import code_of, commit, environment

ROOT = Path(__file__).parents[2]
HERE = Path("zoo/runs/environment.py")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A small checkout in a folder of its own, without git: one file of code in each folder."""
    root = tmp_path / "outer" / "clone"
    (root / "zoo" / "runs").mkdir(parents=True)
    (root / HERE).write_text("one = 1\n")
    (root / "baselines").mkdir()
    (root / "baselines" / "settings.yaml").write_text("a: 1\n")
    (root / "zoo" / "baselines").symlink_to(Path("..", "baselines"))
    (root / "setup.cfg").write_text("[metadata]\nversion = 7.8.9\n")
    return root


@pytest.fixture
def installed(checkout, tmp_path) -> Path:
    """What an installation makes of it: the folder `zoo`, with the links followed."""
    place = tmp_path / "outer" / "site-packages" / "zoo"
    shutil.copytree(checkout / "zoo", place)
    return place


def git(folder: Path, *words: str) -> str:
    """Run git for a test, whatever the settings of who runs it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.excludesFile="]
    done = subprocess.run(
        ["git", *identity, *words], cwd=folder, env=kept, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def committed(folder: Path) -> str:
    """Make a folder a repository that tracks everything in it; its commit."""
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "all")
    return git(folder, "rev-parse", "HEAD")


def commit_of(root: Path | None, monkeypatch) -> tuple[str | None, bool | None]:
    monkeypatch.setattr(zoo.runs.environment, "checkout_root", lambda: root)
    return commit()


def test_a_checkout_knows_where_it_is(checkout, installed):
    assert checkout_root() == ROOT
    assert checkout_root(checkout / "zoo") == checkout
    assert checkout_root(installed) is None


def test_folders_beside_an_installed_copy_make_no_checkout(installed):
    (installed.parent / "baselines").mkdir()
    (installed.parent / "setup.cfg").write_text("")
    assert checkout_root(installed) is None


def test_the_commit_is_that_of_the_checkout(checkout, monkeypatch):
    assert commit_of(checkout, monkeypatch) == (None, True)  # no git
    head = committed(checkout)
    assert commit_of(checkout, monkeypatch) == (head, False)
    (checkout / HERE).write_text("one = 2\n")
    assert commit_of(checkout, monkeypatch) == (head, True)


def test_the_commit_of_a_repository_around_it_does_not_count(checkout, monkeypatch):
    outer = checkout.parent
    (outer / ".gitignore").write_text("clone\n")
    committed(outer)
    assert commit_of(checkout, monkeypatch) == (None, True)
    (outer / ".gitignore").write_text("")
    git(outer, "add", ".")
    git(outer, "commit", "--quiet", "--message", "with a copy of the zoo in it")
    assert git(outer, "ls-files", "clone/zoo/runs") == f"clone/{HERE.as_posix()}"
    assert commit_of(checkout, monkeypatch) == (None, True)
    head = committed(checkout)
    assert commit_of(checkout, monkeypatch) == (head, False)


def test_an_installed_copy_has_no_commit_whatever_is_around_it(installed, monkeypatch):
    committed(installed.parent)  # tracked as zoo/runs/environment.py, and still not ours
    assert commit_of(checkout_root(installed), monkeypatch) == (None, None)


def test_the_hash_is_of_the_code_wherever_it_lies(checkout, installed):
    first = code_hash(installed)
    assert first == code_hash(checkout / "zoo")
    (installed / "__pycache__").mkdir()
    (installed / "__pycache__" / "x.pyc").write_text("")
    assert code_hash(installed) == first
    (installed / "baselines" / "settings.yaml").write_text("a: 2\n")
    changed = code_hash(installed)
    assert changed != first
    (installed / "baselines" / "settings.yaml").rename(installed / "baselines" / "other.yaml")
    assert code_hash(installed) not in (first, changed)


def test_the_version_is_that_of_the_code_at_hand(checkout, monkeypatch):
    settings = (ROOT / "setup.cfg").read_text()
    assert f"\nversion = {zoo.__version__}\n" in settings
    monkeypatch.setattr(zoo.origin, "checkout_root", lambda: checkout)
    assert zoo_version() == zoo.__version__ == "7.8.9"
    monkeypatch.setattr(zoo.origin, "checkout_root", lambda: None)
    monkeypatch.setattr(zoo.origin, "version", {"meta-learning-zoo": "1.2.3"}.__getitem__)
    assert zoo_version() == "1.2.3"

    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(zoo.origin, "version", unknown)
    assert zoo_version() == "unknown"


def test_records_name_a_commit_or_a_hash(monkeypatch):
    monkeypatch.setattr(zoo.runs.environment, "commit", lambda: ("abc", False))
    made_with = environment("cpu")
    assert code_of(made_with) == "abc" and "code" not in made_with
    assert made_with["zoo"] == zoo.__version__
    monkeypatch.setattr(zoo.runs.environment, "commit", lambda: (None, None))
    made_with = environment("cpu")
    assert code_of(made_with) == made_with["code"] == code_hash()
    assert (made_with["commit"], made_with["dirty"]) == (None, None)


def test_results_are_no_uncommitted_code(checkout, monkeypatch):
    """`zoo tune` leaves a file of settings among the results; code beside them counts."""
    committed(checkout)
    (checkout / "results").mkdir()
    (checkout / "results" / "tune-protonet.yaml").write_text("halvings: 3")
    assert commit_of(checkout, monkeypatch)[1] is False
    (checkout / "plugin.py").write_text("")
    assert commit_of(checkout, monkeypatch)[1] is True
