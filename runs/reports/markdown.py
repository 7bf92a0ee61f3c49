"""A report as Markdown."""

import re

from attnsearch.runs.reports.pages import ReportText
from attnsearch.runs.reports.tables import Cell, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~#&])")


def markdown_report(report: ReportText) -> str:
    """Write a report as Markdown: findings, tables, protocol."""
    parts = [f"# {escape(report.title)}", escape(report.facts)]
    parts.append("\n".join(f"- {escape(sentence)}" for sentence in report.verdicts))
    for section in report.sections:
        parts.append(f"## {escape(section.title)}")
        for index, table in enumerate(section.tables):
            if index:
                parts.append(f"### {escape(table.title)}")
            parts.append(markdown_table(table))
            parts += [escape(note) for note in table.notes]
        parts += [escape(note) for note in section.notes]
    parts += ["## Experimental protocol", escape(" ".join(report.protocol))]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Write a table; what stands out is bold, numbers are aligned to the right."""
    rules = ["---:" if i in table.numeric else "---" for i, _ in enumerate(table.headers)]
    lines = [_line([escape(header) for header in table.headers]), _line(rules)]
    lines += [_line([_cell(cell) for cell in row]) for row in table.rows]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    text = escape(cell.text)
    return f"**{text}**" if cell.strong and text else text


def escape(text: str) -> str:
    """Return a text of one line that Markdown shows as it is."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
