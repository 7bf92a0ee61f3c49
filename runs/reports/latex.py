r"""A report as LaTeX: tables with booktabs, for ``\input`` or to be compiled by itself."""

import re

from attnsearch.runs.reports.pages import ReportText
from attnsearch.runs.reports.tables import Cell, Table
from attnsearch.runs.results import MINUS

_HEAD = r"""% Written by attnsearch. Compiles by itself, or stands in a paper by \input;
% then the paper's preamble needs \usepackage{booktabs} and \usepackage{graphicx}.
\expandafter\ifx\csname @twoclasseserror\endcsname\documentclass
  \let\attnsearchbegin\relax \let\attnsearchend\relax
\else
  \def\attnsearchbegin{\documentclass[10pt]{article}%
    \usepackage[utf8]{inputenc}%
    \IfFileExists{lmodern.sty}{\usepackage[T1]{fontenc}\usepackage{lmodern}}{}%
    \usepackage[a4paper,margin=2cm]{geometry}%
    \usepackage{booktabs}\usepackage{graphicx}%
    \begin{document}}
  \def\attnsearchend{\end{document}}
\fi
\attnsearchbegin
\providecommand\toprule{\hline}\providecommand\midrule{\hline}\providecommand\bottomrule{\hline}
\ifx\attnsearchbox\undefined\newsavebox\attnsearchbox\fi
% Shrinks a table that is wider than the text, and never enlarges one.
\def\attnsearchfit{\ifdim\wd\attnsearchbox>\linewidth
  \ifx\resizebox\undefined\usebox\attnsearchbox
  \else\resizebox{\linewidth}{!}{\usebox\attnsearchbox}\fi
  \else\usebox\attnsearchbox\fi}"""

_MARKS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    '"': r"\char34{}",
    "`": r"\char96{}",
    MINUS: r"\ensuremath{-}",
    "±": r"\ensuremath{\pm}",
    "\N{MULTIPLICATION SIGN}": r"\ensuremath{\times}",
    "Δ": r"\ensuremath{\Delta}",
    "→": r"\ensuremath{\rightarrow}",
    "↑": r"\ensuremath{\uparrow}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "…": r"\ldots{}",
    "\N{EN DASH}": "--",
    "\N{EM DASH}": "---",
    "\N{NO-BREAK SPACE}": "~",
}

_LATIN = re.compile(
    "[ -~\N{LATIN CAPITAL LETTER A WITH GRAVE}-\N{LATIN SMALL LETTER Z WITH CARON}]"
)


def latex_report(report: ReportText) -> str:
    r"""Write a report as LaTeX that compiles by itself and within a paper by ``\input``."""
    parts = [_HEAD, r"\begingroup\sloppy", rf"\paragraph{{{escape(report.title)}.}}"]
    parts += [escape(sentence) for sentence in (report.facts, *report.verdicts)]
    for section in report.sections:
        parts += [latex_table(table, f"{report.title}-{table.key}") for table in section.tables]
        parts += [escape(note) for note in section.notes]
    parts += [r"\paragraph{Experimental protocol.}", escape(" ".join(report.protocol))]
    parts.append(r"\par\endgroup\attnsearchend")
    return "\n\n".join(parts) + "\n"


def latex_table(table: Table, label: str) -> str:
    """Write a table as a float, its notes in the caption.

    Args:
        table: The table.
        label: What the paper refers to, after ``tab:``.
    """
    columns = "".join("r" if i in table.numeric else "l" for i, _ in enumerate(table.headers))
    caption = " ".join([f"{table.title}.", *table.notes])
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\small",
        rf"\caption{{{escape(caption)}}}",
        rf"\label{{tab:{re.sub('[^A-Za-z0-9-]+', '-', label)}}}",
        r"\sbox\attnsearchbox{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        _line([escape(header) for header in table.headers]),
        r"\midrule",
        *(_line([_cell(cell) for cell in row]) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}%",
        r"\attnsearchfit",
        r"\end{table}",
    ]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    # An empty group first: a row that begins with [ would be taken for an option of the last \\.
    return "{}" + " & ".join(cells) + r" \\"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return rf"\textbf{{{text}}}" if cell.strong and text else text


def escape(text: str) -> str:
    """Return a text of one line that LaTeX prints as it is.

    Letters beyond the Latin ones are written as their code points: pdfTeX's fonts lack them.
    """
    return "".join(_letter(letter) for letter in " ".join(text.split()))


def _letter(letter: str) -> str:
    if letter in _MARKS:
        return _MARKS[letter]
    return letter if _LATIN.match(letter) else f"[U+{ord(letter):04X}]"
