"""README and docs: every table is a file of `results/`, and its command writes it again."""

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.bench.table import PEERS, summary
from tests.pages.console import BLOCK as CONSOLE
from tests.support import digit_tables
from zoo.commands import main
from zoo.commands.included_tables import BLOCK, with_tables
from zoo.commands.sweep import SWEEP_FOLDER
from zoo.errors import UsageError
from zoo.runs.run import Run
from zoo.runs.tested_weights import TESTED_FOLDER

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MADE = re.compile(r"\nMade by `python -m zoo (.*?)`: .*\n$")
NUMBER = re.compile(r"\| *\**[+-]?[\d,]*\.\d+\**[^|]*\|")
NEEDS_NO_IMAGES = {"glyphs", "sinusoid", "trlearner-functions"}  # benchmarks and studies
LEARNERS = re.compile("<!-- learners.*?end of learners -->", re.DOTALL)
BENCH = (ROOT / PEERS).with_suffix(".md")
BATCHES = ROOT / "results/bench/torchmeta-batches.md"  # of seconds, which are never the same
UNLISTED = ("index.md", "api.md", "contributing.md", "changelog.md")  # pages of the site alone
FILES = sorted(
    {
        (page.parent / block["file"]).resolve()
        for page in PAGES
        for block in BLOCK.finditer(page.read_text(encoding="utf-8"))
    }
    - {BENCH, BATCHES}
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_those_of_their_files(page):
    """`make readme` puts them there."""
    text = page.read_text(encoding="utf-8")
    assert with_tables(text, page) == text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_with_measured_numbers_stands_without_a_file(page):
    """Neither one of intervals nor one of decimals, such as seconds.

    The register's table of learners and what commands print have tests of their own.
    """
    text = page.read_text(encoding="utf-8")
    rest = CONSOLE.sub("", LEARNERS.sub("", BLOCK.sub("", text)))
    rows = [line for line in rest.splitlines() if line.startswith("|")]
    assert [row for row in rows if "±" in row or NUMBER.search(row)] == []


def test_the_table_of_other_libraries_is_made_from_their_measurements():
    results = json.loads((ROOT / PEERS).read_text(encoding="utf-8"))
    assert BENCH.read_text(encoding="utf-8") == summary(results)


def test_readme_is_two_screens_before_its_table():
    """All else stands on the pages of docs/."""
    before, table, after = (ROOT / "README.md").read_text(encoding="utf-8").partition("<!-- table")
    assert table and len(before.split()) < 400
    assert all(f"(docs/{page.name})" in after for page in PAGES[1:] if page.name not in UNLISTED)


def test_the_pages_have_tables():
    assert len(FILES) >= 6


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[:60])
def test_a_table_is_what_its_command_writes(path, tmp_path, request, monkeypatch):
    """From the committed records; benchmarks of real images need them for their fingerprints."""
    text = path.read_text(encoding="utf-8")
    words = shlex.split(MADE.search(text)[1])
    if any(word.startswith("tabular") for word in words):
        pytest.importorskip("sklearn")
        digit_tables.write(tmp_path / "digits")
        words += ["--data", str(tmp_path / "digits")]
    elif words[0] != "levels" and not NEEDS_NO_IMAGES & {*words}:
        words += ["--data", str(request.getfixturevalue("data_folder"))]
    for form in ("json", "npz", "safetensors"):
        for record in path.parent.glob(f"*.{form}"):
            (tmp_path / record.name).symlink_to(record)
    for folder in (SWEEP_FOLDER, TESTED_FOLDER):
        (tmp_path / folder).symlink_to(path.parent / folder)
    execute = Run.execute

    def finished(run, *options, **named):
        assert run.record_path.exists(), f"{run.name} has no record"
        return execute(run, *options, **named)

    monkeypatch.setattr(Run, "execute", finished)
    words += ["--results", str(tmp_path)]
    if words[0] != "levels":
        words += ["--runs", str(tmp_path / "runs")]
    failed = " failed at update " in text  # a run of the table; the command's status says so too
    assert main(words) == int(failed)
    assert (tmp_path / path.name).read_text(encoding="utf-8") == text
    written = sorted(tmp_path.glob("*.csv")) + sorted(tmp_path.glob("*.tex"))
    assert {each.suffix for each in written} == {".csv", ".tex"}
    for each in written:
        kept = (path.parent / each.name).read_bytes()
        assert each.read_bytes() == kept, f"{each.name} is not what the command writes"


def test_a_block_is_replaced_by_its_file(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "a.md").write_text("| 1 |\n\n[page](a.html) [x](https://x.y)\n")
    page = tmp_path / "README.md"
    text = "before\n<!-- table: results/a.md -->\nold\n<!-- end of table -->\nafter\n"
    page.write_text(text)
    assert main(["include", str(page)]) == 0
    assert page.read_text() == (
        "before\n<!-- table: results/a.md -->\n| 1 |\n\n[page](results/a.html) [x](https://x.y)\n"
        "<!-- end of table -->\nafter\n"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<!-- table: a.md -->\n", "without a line <!-- end of table -->"),
        ("<!-- table: b.md -->\n<!-- end of table -->", "names b.md: No such file"),
    ],
)
def test_a_block_that_cannot_be_filled_is_named(tmp_path, text, says):
    with pytest.raises(UsageError, match=says):
        with_tables(text, tmp_path / "page.md")
