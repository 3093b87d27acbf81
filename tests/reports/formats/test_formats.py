"""The forms of a table: LaTeX, HTML, Parquet."""

import io
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from zoo.commands.picture_files import figure_bytes
from zoo.reports.estimates import Estimate
from zoo.reports.formats.html import to_html
from zoo.reports.formats.latex import ACCENTS, LATEX_SIGNS, escaped, to_latex
from zoo.reports.formats.markdown import code_span, to_markdown
from zoo.reports.formats.numbers import ratio_text, with_interval
from zoo.reports.formats.parquet import parquet_bytes
from zoo.reports.formats.table import (
    LETTERS,
    Cell,
    Column,
    Footnote,
    Table,
    assigned_marks,
    without_empty_columns,
)

COLUMNS = [
    Column("learner"),
    Column("1-shot", "1-shot", "measured"),
    Column("published", "1-shot"),
    Column("5-shot", "5-shot", "measured"),
    Column("published", "5-shot"),
    Column("share"),
]
SPLIT, FEW = "split 1200/423", "<1 query"


def table(**changes):
    """Two columns with published ones, footnotes, a sign, a bold cell, an empty column."""
    first = [
        Cell("ProtoNet", ["norm"]), Cell("97.01 ± 0.12", bold=True),
        Cell("98.8", [SPLIT, FEW], sign="↓"), Cell(), Cell(), Cell("12 %"),
    ]  # fmt: skip
    second = [Cell("New [a_b=1,c=2]"), Cell(), Cell(), Cell("50.00"), Cell(), Cell("<1 %")]
    plain = Table("Omniglot & more", "accuracy in %.", COLUMNS, [first, second], {"↓": "worse"})
    return replace(plain, **changes)


def with_cell(found, row, column, cell):
    """The table with another cell there."""
    rows = [list(cells) for cells in found.rows]
    rows[row][column] = cell
    return replace(found, rows=rows)


def with_column(found, column, *cells):
    """The table with one column more."""
    rows = [[*row, cell] for row, cell in zip(found.rows, cells, strict=True)]
    return replace(found, columns=[*found.columns, column], rows=rows)


LATEX = r"""\documentclass{article}
% made by: make table-omniglot
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{booktabs,adjustbox}
\setlength{\parindent}{0pt}
\pagestyle{empty}
\begin{document}
\textbf{Omniglot \& more}: accuracy in \%.

\medskip
% --- table: needs booktabs and adjustbox
\begin{adjustbox}{max width=\linewidth,max totalheight=0.8\textheight,center}
\begin{tabular}{lllll}
\toprule
 & \multicolumn{2}{c}{1-shot} &  &  \\
\cmidrule(lr){2-3}
learner & measured & published & 5-shot & share \\
\midrule
ProtoNet\textsuperscript{a} & \textbf{97.01 \ensuremath{\pm} 0.12} & 98.8\ensuremath{\downarrow}\textsuperscript{bc} & \textendash{} & 12 \% \\
New [a\_b=1,c=2] & \textendash{} & \textendash{} & 50.00 & \ensuremath{<}1 \% \\
\bottomrule
\end{tabular}
\end{adjustbox}
% --- end of the table

\medskip
% --- notes
{\footnotesize\raggedright
\textsuperscript{a}~norm\par
\textsuperscript{b}~split 1200/423\par
\textsuperscript{c}~\ensuremath{<}1 query\par
\ensuremath{\downarrow}~worse\par
}
% --- end of the notes
\end{document}
"""  # noqa: E501


def test_golden_latex():
    assert to_latex(table(command="make\n table-omniglot")) == LATEX


BLOCKS = ["inductive", "see all queries & more"]

MARKDOWN_IN_BLOCKS = """\
| learner                  | 1-shot           | published   | 5-shot   | share   |
|--------------------------|------------------|-------------|----------|---------|
| *inductive*              |                  |             |          |         |
| ProtoNetᵃ                | **97.01 ± 0.12** | 98.8↓ᵇᶜ     | –        | 12 %    |
| *see all queries & more* |                  |             |          |         |
| New [a_b=1,c=2]          | –                | –           | 50.00    | <1 %    |
"""

LATEX_IN_BLOCKS = r"""
learner & measured & published & 5-shot & share \\
\midrule
\multicolumn{5}{l}{\emph{inductive}} \\
ProtoNet\textsuperscript{a} & \textbf{97.01 \ensuremath{\pm} 0.12} & 98.8\ensuremath{\downarrow}\textsuperscript{bc} & \textendash{} & 12 \% \\
\midrule
\multicolumn{5}{l}{\emph{see all queries \& more}} \\
New [a\_b=1,c=2] & \textendash{} & \textendash{} & 50.00 & \ensuremath{<}1 \% \\
\bottomrule
"""  # noqa: E501

HTML_BLOCK = """\
<tr class="block"><th colspan="5" scope="rowgroup">see all queries &amp; more</th></tr>
<tr><th scope="row">New [a_b=1,<wbr>c=2]</th>"""


def closed_up(page):
    """A page without the line breaks between its tags."""
    return page.replace(">\n<", "><")


def test_rows_stand_in_blocks_under_headings():
    found = table(blocks=BLOCKS)
    assert MARKDOWN_IN_BLOCKS in to_markdown(found)
    assert LATEX_IN_BLOCKS in to_latex(found)
    page = to_html([found])
    assert closed_up(HTML_BLOCK) in closed_up(page) and page.count('class="block"') == 2
    assert Page(page).tags.count("tr") == Page(to_html([table()])).tags.count("tr") + 2


def test_a_heading_stands_once_above_all_its_rows():
    rows = [[Cell(name), *table().rows[1][1:]] for name in "abc"]
    text = to_markdown(table(rows=rows, blocks=["x", "x", "y"], legend={}))
    firsts = [line.split("|")[1].strip() for line in text.splitlines()[4:]]
    assert firsts == ["*x*", "a", "b", "*y*", "c"]


def test_empty_columns_are_left_out_and_a_column_left_alone_has_no_group():
    own, measured, published, alone, share = without_empty_columns(table()).columns
    assert (own, measured, published, share) == (*COLUMNS[:3], COLUMNS[5])
    assert alone == Column("5-shot")
    bare = with_cell(table(), 0, 1, Cell())
    assert without_empty_columns(bare).columns[1] == Column("published", "1-shot")
    noted = with_cell(table(), 0, 4, Cell(footnotes=["why not"]))
    assert without_empty_columns(noted).columns == COLUMNS


def test_letters_go_row_by_row_and_the_legend_comes_last():
    shared = with_cell(table(), 1, 3, Cell("50.00", [FEW, "new", "norm"]))
    notes = assigned_marks(shared)
    marks = [("ᵃ", "norm"), ("ᵇ", SPLIT), ("ᶜ", FEW), ("ᵈ", "new"), ("↓", "worse")]
    assert notes == [Footnote(*pair) for pair in marks]
    text = to_markdown(shared)
    assert "| ProtoNetᵃ " in text and "| 98.8↓ᵇᶜ " in text
    assert "| 50.00ᵃᶜᵈ " in text and text.endswith("- ᵈ new\n- ↓ worse\n")


def test_after_the_last_letter_there_are_numbers():
    many = with_cell(table(), 1, 3, Cell("50.00", [f"note {n}" for n in range(30)]))
    assert [note.mark for note in assigned_marks(many)[24:27]] == ["ᶻ", "⁽²⁶⁾", "⁽²⁷⁾"]
    assert r"xyz(26)(27)" in to_latex(many) and r"\textsuperscript{(27)}~note 23\par" in to_latex(
        many
    )
    assert 'href="#note-1-27" id="from-1-27">27</a>' in to_html([many])


def test_a_table_is_whole():
    with pytest.raises(ValueError, match="6 cells in a row, 5 columns"):
        table(columns=COLUMNS[:5])
    with pytest.raises(ValueError, match="legend does not explain '↓'"):
        table(legend={})
    with pytest.raises(ValueError, match="Omniglot & more: 2 rows, 1 headings"):
        table(blocks=["one"])


@pytest.mark.parametrize(
    ("found", "sign", "text"),
    [
        (Estimate(97.01, 96.89, 97.13), "-", "97.01 ± 0.12"),
        (Estimate(97.01, 96.89, 97.13), "+", "+97.01 ± 0.12"),
        (Estimate(99.41, 99.2, 99.56), "-", "99.41 (99.20 to 99.56)"),
        (Estimate(-1.0, -2.0, 1.0), "+", "-1.00 (-2.00 to +1.00)"),
        (Estimate(50.0), "-", "50.00"),
        (Estimate(float("nan")), "+", "–"),
    ],
)
def test_a_number_and_its_interval(found, sign, text):
    assert with_interval(found, sign=sign) == text


def test_a_ratio_and_its_interval():
    assert ratio_text(Estimate(0.931, 0.881, 0.99)) == "×0.93 (0.88 to 0.99)"
    assert ratio_text(Estimate(2.0)) == "×2.00" and ratio_text(Estimate(float("nan"))) == "–"


def test_letters_that_a_text_ends_in_are_no_marks():
    odd = with_cell(table(), 1, 0, Cell("xᵃ"))
    assert '<th scope="row">xᵃ</th>' in to_html([odd])


def test_a_wide_table_lies_across():
    wide = table()
    assert "landscape" not in to_latex(wide)
    for number in range(8):
        wide = with_column(wide, Column(f"{number}-shot"), *[Cell("97.01 ± 0.12")] * 2)
    assert "landscape" in to_latex(wide)


@pytest.mark.parametrize("text", ["[2cm] odd", "*", "(lr)"])
def test_no_cell_is_taken_for_an_option_of_the_line_before(text):
    odd = with_cell(with_cell(table(), 0, 0, Cell(text)), 1, 0, Cell(text))
    assert to_latex(odd).count(f"\n{{}}{text} & ") == 2


def test_a_table_without_rows_is_its_caption():
    empty = table(title="None", caption="no runs.", rows=[], legend={})
    latex, page = to_latex(empty), to_html([empty])
    assert "tabular" not in latex and "no runs." in latex
    assert "<table" not in page and "no runs." in page


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r"a&b%c$d#e_f{g}", r"a\&b\%c\$d\#e\_f\{g\}"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("θᵢ′ = λ·x²", r"\ensuremath{\theta}\textsubscript{i}\ensuremath{{}'} = "
                      r"\ensuremath{\lambda}\ensuremath{\cdot}x\textsuperscript{2}"),
        ("--results", "-{}-results"),  # two hyphens, not a dash
        ("Munkhdalai, Łukasz, é ő ş", r"Munkhdalai, \L{}ukasz, \'{e} \H{o} \c{s}"),
        ("e\u0301", r"\'{e}"),
        ("±ᵃ", r"\ensuremath{\pm}\textsuperscript{a}"),
        ("½…ﬁ", r"1\ensuremath{/}2...fi"),
        ("漢 \x00\u200b", "? ??"),
        ("two\n lines", "two lines"),
    ],
)  # fmt: skip
def test_signs(text, said):
    assert escaped(text) == said


@given(st.text())
@example("".join(map(chr, range(0x20, 0x3000))))
def test_any_text_is_ascii_and_closed(text):
    said = escaped(text)
    assert said.isascii() and "\n" not in said
    bare = said.replace(r"\textbackslash", "").replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    for sign in "&%$#_":
        assert said.count(sign) == said.count(f"\\{sign}")


def compiled(folder, text):
    """The text of the PDF's log; fails where pdflatex does."""
    (folder / "table.tex").write_text(text, encoding="ascii")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"],
        cwd=folder, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "table.pdf").read_bytes().startswith(b"%PDF")
    return done.stdout


needs_latex = pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")


@needs_latex
def test_it_compiles(tmp_path):
    """Every sign that is known, and rows and cells that begin as options of a command would."""
    accented = "".join(f"a{mark}i{mark} " for mark in ACCENTS)
    signs = " ".join(LATEX_SIGNS) + " " + accented + " ".join(LETTERS)
    odd = table(title=signs, caption=" ".join(map(chr, range(0x20, 0x600))), command="a\x00é%\n}")
    odd = with_cell(with_cell(odd, 0, 0, Cell("[2cm] odd")), 1, 0, Cell("*"))
    odd = replace(odd, blocks=[signs[:60], "[2cm] *"])
    for number in range(20):
        cells = Cell("97.01 ± 0.12", ["norm"]), Cell("(lr) --- ?`")
        odd = with_column(odd, Column("[x]", f"{number}-way"), *cells)
    assert "Overfull" not in compiled(tmp_path, to_latex(odd))


@needs_latex
@pytest.mark.slow
@given(st.lists(st.text(min_size=1), min_size=4, max_size=4))
def test_whatever_the_text_it_compiles(tmp_path_factory, texts):
    odd = table(title=texts[0], command=texts[2])
    odd = with_cell(odd, 0, 0, Cell(texts[3], [texts[1]]))
    odd = with_column(odd, Column(texts[2], "x"), *[Cell(texts[3])] * 2)
    compiled(tmp_path_factory.mktemp("latex"), to_latex(odd))


HTML = """\
<thead>
<tr><th scope="col" rowspan="2">learner</th><th scope="colgroup" colspan="2">1-shot</th>\
<th scope="col" rowspan="2">5-shot</th><th scope="col" rowspan="2">share</th></tr>
<tr><th scope="col">measured</th><th scope="col">published</th></tr>
</thead>
<tbody>
<tr><th scope="row">ProtoNet<sup><a href="#note-1-a" id="from-1-a">a</a></sup></th>\
<td><strong>97.01 ± 0.12</strong></td>\
<td>98.8<sup><a href="#note-1-↓" id="from-1-↓">↓</a>\
<a href="#note-1-b" id="from-1-b">b</a><a href="#note-1-c" id="from-1-c">c</a>\
</sup></td><td>–</td><td>12 %</td></tr>
<tr><th scope="row">New [a_b=1,<wbr>c=2]</th><td>–</td><td>–</td><td>50.00</td>\
<td>&lt;1 %</td></tr>
</tbody>
</table>
</div>
<ul class="notes">
<li id="note-1-a"><sup>a</sup> norm&nbsp;\
<a class="back" href="#from-1-a"
  aria-label="back to the table">↩</a></li>
"""


def test_golden_html():
    page = to_html([table()])
    assert closed_up(HTML).strip() in closed_up(page)
    assert "<title>Omniglot &amp; more</title>" in page and "accuracy in %." in page


class Page(HTMLParser):
    """What is in a page: tags, ids and links; fails where tags are not closed in order."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.ids, self.links, self.sources, self.text = [], [], [], [], ""
        self._open = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.sources += [found["src"]] if "src" in found else []
        if tag not in ("meta", "img", "wbr"):
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_every_link_leads_somewhere_and_nothing_is_loaded():
    one, two = table(), table(command="make it")
    two = with_cell(two, 1, 3, Cell("50.00", ["norm"]))  # leads to the same note
    page = Page(to_html([one, two], [("a figure", figure_bytes(Figure((1, 1)), "svg"))]))
    assert len(set(page.ids)) == len(page.ids)
    assert page.links and {link.removeprefix("#") for link in page.links} <= set(page.ids)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert page.tags.count("table") == 2 and page.tags.count("img") == 1
    assert "make it" in page.text and not {"script", "link"} & set(page.tags)


def test_a_note_that_no_cell_leads_to_leads_nowhere():
    page = Page(to_html([table(rows=[table().rows[1]], legend={"↑": "alone"})]))
    assert page.links == [] and "alone" in page.text


@given(st.text())
@example("<script>alert(1)</script>")
@example('" onload="x')
@example("&lt;")
def test_any_text_stays_text(text):
    odd = table(title=text, caption=text, command=f"make {text}")
    odd = with_column(odd, Column(text, "x"), Cell(text, [text]), Cell(text))
    odd = replace(with_cell(odd, 0, 0, Cell(text, ["norm"])), blocks=["one", text])
    page = Page(to_html([odd], [(text, b"\x89PNG\r\n")]))
    plain = Page(to_html([table(command="x", blocks=BLOCKS)], [("x", b"\x89PNG\r\n")]))
    assert set(page.tags) == set(plain.tags)
    said = " ".join(text.split())
    if said and not {"\r", "\x00"} & set(said):
        assert page.text.count(said) >= 6


def test_a_figure_that_is_none():
    with pytest.raises(ValueError, match="figure 'curves': expected PNG, JPEG or SVG"):
        to_html([table()], [("curves", b"%PDF-1.4")])
    kinds = {"png": "image/png", "svg": "image/svg+xml"}
    for kind, named in kinds.items():
        assert f"data:{named};base64," in to_html([], [("", figure_bytes(Figure((1, 1)), kind))])


def test_a_pdf_has_fonts_that_can_be_edited():
    figure = Figure((1, 1))
    figure.text(0.5, 0.5, "words")
    assert b"/Type3" not in figure_bytes(figure, "pdf")


def test_parquet_keeps_numbers_and_types():
    pytest.importorskip("pyarrow")
    mixed = {
        "learner": ["maml", None], "way": [5, None], "mean": [0.5, None], "either": [1, 0.5],
        "all": [1.0, 2.0], "done": [True, None], "odd": ["a", 1], "none": [None, None],
    }  # fmt: skip
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in mixed.items()})
    frame["seen"] = pd.array([12000, None], dtype="Int64")
    frame["share"] = [0.1, float("nan")]
    frame.attrs = {"a set": {1}}  # is no JSON
    read = pd.read_parquet(io.BytesIO(parquet_bytes(frame)))
    kinds = {name: str(kind) for name, kind in read.dtypes.items()}
    assert list(kinds) == list(frame) and kinds["seen"] == kinds["way"] == "Int64"
    assert kinds["mean"] == kinds["either"] == kinds["all"] == "Float64"
    assert kinds["done"] == "boolean" and kinds["share"] == "float64"
    assert read["odd"].tolist() == ["a", "1"] and read["none"].isna().all()
    assert read["learner"][0] == "maml" and pd.isna(read["learner"][1])
    assert read["mean"][0] == 0.5 and pd.isna(read["mean"][1]) and read["seen"][0] == 12000


def test_parquet_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs pyarrow.*pip install pyarrow"):
        parquet_bytes(pd.DataFrame())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("from $5 to $9", r"from \$5 to \$9"),
        ("a|b", r"a\|b"),
        ("2*3*4 `x`", r"2\*3\*4 \`x\`"),
        ("_x_ and outer_lr and a__b", r"\_x\_ and outer_lr and a\_\_b"),
        ("[a](b) [c=1] (d)", r"[a\](b) [c=1] (d)"),
        ("~~gone~~ ~1", r"\~~gone\~~ ~1"),
        ("<b> < 1 <1", r"\<b> < 1 <1"),
        (r"a\*b", r"a\\\*b"),
    ],
)
def test_markdown_leaves_every_sign_as_it_is(text, said):
    cells = [[Cell(text)]]
    found = to_markdown(Table(text, text, [Column(text)], cells))
    assert f"**{said}**: {said}" in found and found.count(said) == 4


def test_a_command_is_code_whatever_is_in_it():
    assert [code_span(text) for text in ("a $b", "a `b`")] == ["`a $b`", "`` a `b` ``"]
