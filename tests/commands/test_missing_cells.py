"""What keeps a cell from being filled."""

import json

import pytest

from zoo.commands import main
from zoo.reports.records import checksum


def table(tmp_path, *words):
    folders = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    return main(["table", *words, "--budget", "smoke", *folders])


def test_a_dry_run_shows_what_is_missing_and_what_fills_it(tmp_path, capsys):
    assert (
        table(tmp_path, "glyphs", "--learners", "protonet maml", "--shots", "1", "--dry-run") == 0
    )
    out = capsys.readouterr().out
    (protonet,) = (line for line in out.splitlines() if line.startswith("| ProtoNet"))
    assert "–" in protonet
    command = "python -m zoo run protonet glyphs --way 5 --shot 1 --budget smoke"
    assert "– protonet 5-way 1-shot: not run; about 1 min on " in out and f": {command}" in out
    assert not (tmp_path / "results").exists()


def test_without_data_the_published_numbers_stand_and_the_reason_is_said(tmp_path, capsys):
    words = ["omniglot", "--learners", "protonet maml", "--shots", "1", "--dry-run"]
    assert table(tmp_path, *words, "--data", str(tmp_path)) == 2
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if line.startswith("| MAML"))
    assert "98.7 ± 0.4" in row
    assert (
        f"– protonet 5-way 1-shot, maml 5-way 1-shot: no data: Omniglot is not in {tmp_path}" in out
    )


def test_what_cannot_be_run_has_a_row_with_the_reason(tmp_path, capsys):
    words = ["glyphs", "--learners", "pixelnn maml[train_way=3]", "--shots", "1"]
    assert table(tmp_path, *words) == 1
    out = capsys.readouterr().out
    (text,) = (line for line in out.splitlines() if line.startswith("- ") and "train_way 3" in line)
    mark = text.split()[1]
    (row,) = (line for line in out.splitlines() if line.startswith("| MAML"))
    assert f"–{mark}" in row and "cannot be run" in text


def test_a_record_edited_by_hand_is_marked(tmp_path, capsys):
    words = ["glyphs", "--learners", "pixelnn", "--shots", "1"]
    assert table(tmp_path, *words) == 0
    assert "edited since" not in capsys.readouterr().out
    (path,) = (tmp_path / "results").glob("pixelnn*.json")
    record = json.loads(path.read_text())
    assert record["checksum"] == checksum(record)
    path.write_text(json.dumps(record | {"budget": "smoke", "parameters": 7}))
    assert table(tmp_path, *words) == 0
    assert "edited since it was made" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: path.write_text(path.read_text()[:100]), "delete it"),
        (lambda path: path.with_suffix(".npz").unlink(), "npz: left out, is missing"),
        (lambda path: path.with_suffix(".npz").write_bytes(b"PK"), "npz: left out"),
    ],
)
def test_a_damaged_record_is_one_line(tmp_path, capsys, change, says):
    words = ["glyphs", "--learners", "pixelnn", "--shots", "1"]
    assert table(tmp_path, *words) == 0
    (path,) = (tmp_path / "results").glob("pixelnn*.json")
    capsys.readouterr()
    change(path)
    table(tmp_path, *words)
    said = capsys.readouterr()
    assert says in said.err and "Traceback" not in said.err


def test_both_terms_side_by_side_in_every_form(tmp_path, capsys):
    words = ["glyphs", "--learners", "pixelnn protonet", "--shots", "1", "--terms", "both"]
    assert table(tmp_path, *words, "--differences", "--figures") == 0
    out = capsys.readouterr().out
    assert "**Glyphs, terms paper and equal**" in out
    assert "**Glyphs, equal terms, differences to the best row**" in out
    assert "difference between these two trained models" in out and "**+" not in out
    both = out[out.index("**Glyphs, terms paper and equal**") :]
    row = next(line for line in both.splitlines() if line.startswith("| ProtoNet"))
    assert row.count("±") == 2 and "→" not in row  # one seed ranks nobody
    (page,) = (tmp_path / "results").glob("table-*.html")
    assert "--results" not in page.read_text() and "python -m zoo table glyphs" in page.read_text()
    stem = page.name.removesuffix(".html")
    ends = [path.name.removeprefix(stem) for path in (tmp_path / "results").glob(f"{stem}*")]
    assert {".md", "-1.tex", "-5.tex", ".csv", "-differences.csv", "-accuracy-paper.pdf"} <= set(
        ends
    )
    assert table(tmp_path, *words, "--differences", "all") == 0
    out = capsys.readouterr().out
    assert "4 runs: 4 done" in out and "**Glyphs, equal terms, differences**" in out
