"""Heatmaps of a report: block by site, measured in an ablation or seen in exploring."""

from collections.abc import Mapping
from dataclasses import dataclass

from attnsearch.runs.figures.arms import Figure, drawn
from attnsearch.runs.figures.svg import Canvas, shortened, text_width
from attnsearch.runs.ledger import State
from attnsearch.runs.results import (
    ActResult,
    ArmResult,
    StudyResult,
    difference_text,
    insertions,
    is_number,
    metric_text,
    points,
)
from attnsearch.runs.words import plural


@dataclass(frozen=True)
class Cell:
    """A cell of a heatmap.

    Attributes:
        text: Written in it.
        value: What its colour shows: above 0 good, below bad; None leaves it empty.
        title: Shown when the pointer rests on it.
    """

    text: str
    value: float | None
    title: str


def heatmap(
    title: str,
    caption: str,
    cells: Mapping[tuple[str, str], Cell],
) -> Figure | None:
    """Return blocks by sites; None where that is a single row and column.

    Args:
        title: Above it.
        caption: Below it.
        cells: (block, site) -> cell.
    """
    blocks = list(dict.fromkeys(block for block, _ in cells))
    sites = sorted(dict.fromkeys(site for _, site in cells))
    if len(blocks) * len(sites) < 2:
        return None
    most = max((abs(cell.value) for cell in cells.values() if cell.value is not None), default=0)
    label = "; ".join(f"{block} at {site}: {cell.text}" for (block, site), cell in cells.items())

    def draw(width: float) -> Canvas:
        canvas = Canvas(width, f"{title}. {label}")
        turned = canvas.narrow and len(sites) > len(blocks)
        across, down = (blocks, sites) if turned else (sites, blocks)
        longest = max(text_width(name) for name in down)
        left = min(longest + 12, width * 0.32)
        cell_width = min((width - left) / len(across), 130)
        y = 20.0
        for index, name in enumerate(across):
            x = left + (index + 0.5) * cell_width
            canvas.text(x, y - 4, shortened(name, cell_width - 4), "small", anchor="middle")
        for row, name in enumerate(down):
            top = y + 4 + row * 36
            canvas.text(0, top + 21, shortened(name, left - 8))
            for index, other in enumerate(across):
                cell = cells.get((other, name) if turned else (name, other))
                x = left + index * cell_width
                canvas.rect(x, top, cell_width - 3, 33, "empty")
                if cell is None or cell.value is None:
                    continue
                share = abs(cell.value) / most if most else 0.0
                style = "good" if cell.value >= 0 else "bad"
                canvas.rect(
                    x,
                    top,
                    cell_width - 3,
                    33,
                    f"fill {style}",
                    title=cell.title,
                    opacity=0.08 + 0.5 * share,
                )
                words = shortened(cell.text, cell_width - 6)
                canvas.text(x + cell_width / 2 - 1.5, top + 21, words, "cell", anchor="middle")
        canvas.height = y + 10 + 36 * len(down)
        return canvas

    return drawn(title, caption, draw)


def measured_cells(act: ActResult) -> dict[tuple[str, str], Cell]:
    """Return block by site, from the arms of a plan that differ in one insertion."""
    cells: dict[tuple[str, str], Cell] = {}
    for arm in act.arms:
        if arm.arm.kind != "variant" or arm.comparison is None:
            continue
        place = _place(arm, act)
        c = arm.comparison
        if place is None or c.difference is None:
            continue
        sign = 1.0 if act.plan.direction == "max" else -1.0
        words = difference_text(act.metric, c.difference)
        title = f"{arm.label}: {words}{points(act.metric)}, {c.verdict}"
        cells[place] = Cell(words, sign * c.difference, title)
    own = insertions(act.find(act.reference).arm.config) if act.reference else []
    if cells and len(own) == 1:
        cells.setdefault(own[0], Cell("reference", 0.0, f"{act.reference}: the reference"))
    return cells


def _place(arm: ArmResult, act: ActResult) -> tuple[str, str] | None:
    """Return block and site of the one insertion by which an arm differs from the reference."""
    reference = act.reference
    known = set(insertions(act.find(reference).arm.config)) if reference else set()
    every = set(insertions(arm.arm.config))
    new = every - known or every
    return next(iter(new)) if len(new) == 1 else None


def explored_cells(result: StudyResult) -> dict[tuple[str, str], Cell]:
    """Return block by site: the best score that a trial of the full schedule had with it there."""
    metric, goal = next(iter(result.study.objectives.items()))
    sign = 1.0 if goal == "max" else -1.0
    found: dict[tuple[str, str], list[float]] = {}
    plain: list[float] = []
    for trial in result.trials:
        value = trial.metrics.get(metric)
        if trial.state != State.FINISHED or not is_number(value):
            continue
        places = insertions(trial.config)
        for place in places:
            found.setdefault(place, []).append(sign * value)
        if not places:
            plain.append(sign * value)
    every = [max(values) for values in found.values()]
    middle = max(plain) if plain else (sum(every) / len(every) if every else 0.0)
    return {
        place: Cell(
            metric_text(metric, sign * max(values)),
            max(values) - middle,
            f"{place[0]} at {place[1]}: best of {plural(len(values), 'trial')}",
        )
        for place, values in found.items()
    }
