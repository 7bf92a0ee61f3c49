"""A report as one HTML file that asks for nothing else: styles, script and figures stand in it."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from attnsearch.runs.figures import COLOURS
from attnsearch.runs.reports.pages import ReportText
from attnsearch.runs.reports.tables import Cell

TEMPLATE = "report.html.jinja"

_LONG = 40  # characters from which on a cell may wrap
_TONES = {"better": "good", "worse": "bad"}


def html_report(report: ReportText) -> str:
    """Write a report as a page: sortable tables, figures with text alternatives.

    Everything is escaped: names come from users' files.
    """
    environment = Environment(
        loader=PackageLoader("attnsearch.runs.reports", ""),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    sections = [
        {
            "key": section.key,
            "title": section.title,
            "tables": section.tables,
            "notes": section.notes,
            "figures": section.draw(),
        }
        for section in report.sections
    ]
    template = environment.get_template(TEMPLATE)
    return template.render(
        report=report, sections=sections, colours=COLOURS, cell_class=_cell_class
    )


def _cell_class(cell: Cell, numeric: bool) -> str:
    kinds = ["num"] if numeric else []
    if cell.verdict:
        kinds += ["verdict", _TONES.get(cell.verdict, "")]
    elif not numeric and len(cell.text) > _LONG:
        kinds.append("long")
    return " ".join(kind for kind in kinds if kind)
