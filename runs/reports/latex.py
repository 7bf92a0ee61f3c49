r"""A report as LaTeX: tables with booktabs, for ``\input`` or to be compiled by itself."""

import re

from attnsearch.runs.reports.pages import ReportText
from attnsearch.runs.results import MINUS
from attnsearch.runs.words import render

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
    return render(
        "attnsearch.runs.reports",
        "report.tex.jinja",
        report=report,
        escape=escape,
        braced=lambda text: f"{{{escape(text)}}}",
        label=lambda text: re.sub("[^A-Za-z0-9-]+", "-", text),
    )


def escape(text: str) -> str:
    """Return a text of one line that LaTeX prints as it is.

    Letters beyond the Latin ones are written as their code points: pdfTeX's fonts lack them.
    """
    return "".join(_letter(letter) for letter in " ".join(text.split()))


def _letter(letter: str) -> str:
    if letter in _MARKS:
        return _MARKS[letter]
    return letter if _LATIN.match(letter) else f"[U+{ord(letter):04X}]"
