"""A report as Markdown."""

from attnsearch.runs.reports.pages import ReportText
from attnsearch.runs.reports.tables import Cell, Table
from attnsearch.runs.words import markdown


def markdown_report(report: ReportText) -> str:
    """Write a report as Markdown: findings, tables, protocol."""
    parts = [f"# {markdown(report.title)}", markdown(report.facts)]
    parts.append("\n".join(f"- {markdown(sentence)}" for sentence in report.verdicts))
    for section in report.sections:
        parts.append(f"## {markdown(section.title)}")
        for index, table in enumerate(section.tables):
            if index:
                parts.append(f"### {markdown(table.title)}")
            parts.append(markdown_table(table))
            parts += [markdown(note) for note in table.notes]
        parts += [markdown(note) for note in section.notes]
    parts += ["## Experimental protocol", markdown(" ".join(report.protocol))]
    return "\n\n".join(parts) + "\n"


def markdown_table(table: Table) -> str:
    """Write a table; what stands out is bold, numbers are aligned to the right."""
    rules = ["---:" if i in table.numeric else "---" for i, _ in enumerate(table.headers)]
    lines = [_line([markdown(header) for header in table.headers]), _line(rules)]
    lines += [_line([_cell(cell) for cell in row]) for row in table.rows]
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(cell: Cell) -> str:
    text = markdown(cell.text)
    return f"**{text}**" if cell.strong and text else text
