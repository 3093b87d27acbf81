"""A table as a LaTeX document in ASCII, which pdflatex compiles whatever text the table holds."""

import unicodedata
from itertools import groupby, pairwise

from zoo.reports.formats.table import (
    Cell,
    Footnote,
    Table,
    assigned_marks,
    lettered_notes,
    marked_text,
    rows_in_blocks,
    without_empty_columns,
)

PORTRAIT = 120  # characters in a row that fit on upright A4 when they are scaled down a little
GREEK = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau "
        "upsilon phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi "
        "Omega".split(),
        strict=True,
    )
)
MATHS = {  # character -> its code in mathematics
    "<": "<", ">": ">", "|": "|", "±": r"\pm", "−": "-", "×": r"\times", "÷": r"\div",
    "·": r"\cdot", "•": r"\bullet", "°": r"^\circ", "′": "{}'", "″": "{}''", "↑": r"\uparrow",
    "↓": r"\downarrow", "←": r"\leftarrow", "→": r"\rightarrow", "↔": r"\leftrightarrow",
    "⇒": r"\Rightarrow", "≤": r"\le", "≥": r"\ge", "≠": r"\ne", "≈": r"\approx", "∞": r"\infty",
    "∈": r"\in", "∑": r"\sum", "∏": r"\prod", "√": r"\surd", "∇": r"\nabla", "∂": r"\partial",
    "‖": r"\|", "⊙": r"\odot", "⊕": r"\oplus", "⊗": r"\otimes", "⁄": "/", "¬": r"\neg",
    "«": r"\ll", "»": r"\gg", "✓": r"\surd", **{char: rf"\{name}" for char, name in GREEK.items()},
}  # fmt: skip
LATEX_WORDS = {  # character -> its command in text
    "\\": "textbackslash", "~": "textasciitilde", "^": "textasciicircum", "–": "textendash",
    "—": "textemdash", "‘": "textquoteleft", "’": "textquoteright", "“": "textquotedblleft",
    "”": "textquotedblright", '"': "textquotedblright", "§": "S", "¶": "P", "†": "dag",
    "‡": "ddag", "©": "copyright", "£": "pounds", "ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe",
    "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i", "¡": "textexclamdown",
    "¿": "textquestiondown",
}  # fmt: skip
LATEX_SIGNS = (  # character -> what is written for it
    {char: rf"\{char}" for char in "&%$#_{}"}
    | {char: rf"\ensuremath{{{code}}}" for char, code in MATHS.items()}
    | {char: rf"\{word}{{}}" for char, word in LATEX_WORDS.items()}
    | {"‐": "-", "‑": "-"}
)
ACCENTS = {  # combining accent -> its command
    "\u0300": r"\`",  # grave
    "\u0301": r"\'",  # acute
    "\u0302": r"\^",  # circumflex
    "\u0303": r"\~",  # tilde
    "\u0304": r"\=",  # macron
    "\u0306": r"\u",  # breve
    "\u0307": r"\.",  # dot above
    "\u0308": r"\"",  # diaeresis
    "\u030a": r"\r",  # ring
    "\u030b": r"\H",  # double acute
    "\u030c": r"\v",  # caron
    "\u0323": r"\d",  # dot below
    "\u0327": r"\c",  # cedilla
}
RAISED = {"<super>": "textsuperscript", "<sub>": "textsubscript"}  # Unicode's tag -> command
LIGATURE_ENDS = "-`'"  # before one of these ...
LIGATURE_STARTS = LIGATURE_ENDS + "?!"  # ... one of these would merge with it into another sign


def to_latex(table: Table) -> str:
    """A whole document; comments mark the part that can be copied into a paper.

    Empty columns are left out; a table wider or longer than the page is scaled down.
    """
    table, notes = without_empty_columns(table), assigned_marks(table)
    lines = [r"\documentclass{article}"]
    if table.command:
        lines.append(f"% made by: {_one_line(table.command)}")
    landscape = ",landscape" if _width(table, notes) > PORTRAIT else ""
    lines += [
        rf"\usepackage[a4paper,margin=2cm{landscape}]{{geometry}}",
        r"\usepackage{booktabs,adjustbox}",
        r"\setlength{\parindent}{0pt}",
        r"\pagestyle{empty}",
        r"\begin{document}",
        rf"\textbf{{{escaped(table.title)}}}: {escaped(table.caption)}",
        "",
        r"\medskip",
    ]
    if table.rows:
        lines += ["% --- table: needs booktabs and adjustbox", *_tabular(table, notes)]
        lines += ["% --- end of the table", "", r"\medskip"]
    if notes:
        lines += ["% --- notes", r"{\footnotesize\raggedright"]
        lines += [rf"{_note_mark(note)}~{escaped(note.text)}\par" for note in notes]
        lines += ["}", "% --- end of the notes"]
    return "\n".join([*lines, r"\end{document}"]) + "\n"


def escaped(text: str) -> str:
    """ASCII that LaTeX prints as the text; a question mark for a character it has no sign for."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    pieces = []
    for char, following in pairwise(text + " "):
        pieces.append(_sign(char))
        if char in LIGATURE_STARTS and following in LIGATURE_ENDS:
            pieces.append("{}")
    return "".join(pieces)


def _sign(char: str) -> str:
    """What LaTeX is given for a character: its sign, or those of its Unicode decomposition."""
    if char in LATEX_SIGNS:
        return LATEX_SIGNS[char]
    if " " <= char <= "~":
        return char
    tag, _, codes = unicodedata.decomposition(char).rpartition(">")
    parts = [chr(int(code, 16)) for code in codes.split()]
    if not tag and len(parts) == 2:  # a letter and its accent
        letter = _sign(parts[0])
        accent = ACCENTS.get(parts[1]) if letter.isalpha() else None
        return f"{accent}{{{letter}}}" if accent else letter
    inner = "".join(map(_sign, parts)) or "?"
    raised = RAISED.get(f"{tag}>")
    return rf"\{raised}{{{inner}}}" if raised else inner


def _width(table: Table, notes: list[Footnote]) -> int:
    """The characters of a row, each column as wide as its longest cell and two more."""
    if not table.rows:
        return 0
    lines = [[column.lower_head for column in table.columns]]
    lines += [[marked_text(cell, notes) for cell in row] for row in table.rows]
    return sum(max(map(len, column)) + 2 for column in zip(*lines, strict=True))


def _tabular(table: Table, notes: list[Footnote]) -> list[str]:
    """The lines of the tabular; the head of a group spans its columns."""
    group_heads: list[str] = []
    group_rules: list[str] = []
    first = 1  # number of the group's first column
    for group, members in groupby(table.columns, key=lambda column: column.group):
        count = len(list(members))
        if group:
            group_heads.append(rf"\multicolumn{{{count}}}{{c}}{{{escaped(group)}}}")
            group_rules.append(rf"\cmidrule(lr){{{first}-{first + count - 1}}}")
        else:
            group_heads += [""] * count
        first += count
    rows: list[str] = []
    for heading, row in rows_in_blocks(table):
        if heading:
            if rows:
                rows.append(r"\midrule")
            rows.append(rf"\multicolumn{{{len(row)}}}{{l}}{{\emph{{{escaped(heading)}}}}} \\")
        rows.append(_row([_cell(cell, notes) for cell in row]))
    return [
        r"\begin{adjustbox}{max width=\linewidth,max totalheight=0.8\textheight,center}",
        rf"\begin{{tabular}}{{{'l' * len(table.columns)}}}",
        r"\toprule",
        *([_row(group_heads), "".join(group_rules)] if group_rules else []),
        _row([_guarded(escaped(column.lower_head)) for column in table.columns]),
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{adjustbox}",
    ]


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(cell: Cell, notes: list[Footnote]) -> str:
    text = _guarded(escaped(cell.text + cell.sign))
    letters = "".join(note.letter for note in lettered_notes(cell, notes))
    if letters:
        text += _raised(letters)
    return rf"\textbf{{{text}}}" if cell.bold else text


def _guarded(text: str) -> str:
    """The text, kept from being read as an option of the line break that ends the row before."""
    return "{}" + text if text[:1] in ("[", "*", "(") else text


def _note_mark(note: Footnote) -> str:
    """The mark of a note: raised where it is a letter, not where it is a sign."""
    return escaped(note.mark) if note.letter == note.mark else _raised(note.letter)


def _raised(letters: str) -> str:
    return rf"\textsuperscript{{{letters}}}"


def _one_line(text: str) -> str:
    return " ".join(text.encode("ascii", "replace").decode().split())
