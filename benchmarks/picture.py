"""Draws the picture at the head of docs/benchmarks.md from the tables below it.

    python -m benchmarks.picture

writes docs/images/benchmarks.png. Every bar is a cell of a table there, so it cannot say anything
else than they do.
"""

from collections.abc import Iterator
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DOCS = Path(__file__).parents[1] / "docs"
OURS, NAIVE = "#2a6f97", "#8a8a8a"
# Heading of the table, the column that names a row, the ratio's column, the title above the bars.
PANELS = (
    ("## A training step", ("network",), "default", "A training step, by default"),
    (
        "### Published networks",
        ("network",),
        "default",
        "A step of a published network, by default",
    ),
    ("## Blocks", ("block",), "ours", "A block, forward and backward"),
)


def rows(text: str, heading: str) -> Iterator[dict[str, str]]:
    """Yield the rows of the first table under a heading, as column to cell."""
    lines = text[text.index(f"\n{heading}\n") :].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    columns = [cell.strip() for cell in lines[start].strip("|").split("|")]
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        yield dict(zip(columns, cells, strict=True))


def draw(text: str) -> Figure:
    """Return the picture of the tables in a text."""
    panels = [
        (title, [(" ".join(row[name] for name in names), float(row[ratio])) for row in found])
        for heading, names, ratio, title in PANELS
        for found in [list(rows(text, heading))]
    ]
    figure = Figure(figsize=(8, 0.26 * sum(len(bars) + 3 for _, bars in panels)), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(panels), 1, sharex=True, height_ratios=[len(bars) for _, bars in panels]
    )
    for ax, (title, bars) in zip(axes, panels, strict=True):
        names, ratios = zip(*bars, strict=True)
        drawn = ax.barh(names, ratios, color=OURS, height=0.7)
        ax.bar_label(drawn, [f"{ratio:.2f}" for ratio in ratios], padding=3, fontsize=8)
        ax.axvline(1, color=NAIVE, linewidth=1.2)
        ax.set_title(title, loc="left", fontsize=10)
        ax.invert_yaxis()
        ax.tick_params(labelsize=8, length=0)
        for side in ("top", "right", "bottom", "left"):
            ax.spines[side].set_visible(False)
    axes[-1].set_xlabel("times as fast as the naive arm (grey line), higher is better", fontsize=9)
    figure.tight_layout()
    return figure


def main() -> None:
    """Write the picture."""
    figure = draw((DOCS / "benchmarks.md").read_text(encoding="utf-8"))
    figure.savefig(DOCS / "images" / "benchmarks.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
