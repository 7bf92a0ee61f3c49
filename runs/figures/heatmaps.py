"""Heatmaps of a report: block by site, measured in an ablation or seen in exploring."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from attnsearch.blocks.naming import block_label, entry_name, insertions
from attnsearch.runs.figures.drawing import SMALL, Figure, Sheet
from attnsearch.runs.figures.renderer import text_width
from attnsearch.runs.ledger import State
from attnsearch.runs.results import (
    ActResult,
    MeasuredStudy,
    difference_text,
    is_number,
    metric_text,
    points,
)
from attnsearch.runs.words import plural


@dataclass(frozen=True)
class Tile:
    """A tile of a heatmap.

    Attributes:
        text: Written on it.
        value: What its colour shows: above 0 good, below bad.
        title: Shown when the pointer rests on it.
    """

    text: str
    value: float
    title: str


Tiles = dict[tuple[str, str], Tile]
"""(block, site) -> what is known of it."""


def heatmap_of_arms(act: ActResult) -> Figure | None:
    """Draw block by site, from the arms of a plan that differ in one insertion."""
    tiles: Tiles = {}
    sign = 1.0 if act.plan.direction == "max" else -1.0
    own = set(_places(act.find(act.reference).arm.config)) if act.reference else set()
    for arm in act.arms:
        c, every = arm.comparison, set(_places(arm.arm.config))
        places = every - own or every
        if arm.arm.kind != "variant" or c is None or c.difference is None or len(places) != 1:
            continue
        words = difference_text(act.metric, c.difference)
        title = f"{arm.label}: {words}{points(act.metric)}, {c.verdict}"
        tiles[places.pop()] = Tile(words, sign * c.difference, title)
    if tiles and len(own) == 1:
        tiles.setdefault(own.pop(), Tile("reference", 0.0, f"{act.reference}: the reference"))
    reference = act.reference or "the reference"
    caption = f"Mean difference to {reference}; blue is better, orange worse."
    return _heatmap("Block by site", caption, tiles)


def heatmap_of_trials(result: MeasuredStudy) -> Figure | None:
    """Draw block by site: the best score of a trial of the full schedule with it there."""
    metric, goal = next(iter(result.study.objectives.items()))
    sign = 1.0 if goal == "max" else -1.0
    scores: dict[tuple[str, str], list[float]] = {}
    baseline: list[float] = []
    for trial in result.trials:
        value = trial.metrics.get(metric)
        if trial.state != State.FINISHED or not is_number(value):
            continue
        places = _places(trial.config)
        for place in places:
            scores.setdefault(place, []).append(sign * value)
        if not places:
            baseline.append(sign * value)
    best = [max(values) for values in scores.values()]
    middle = max(baseline) if baseline else sum(best) / max(len(best), 1)
    tiles = {
        place: Tile(
            metric_text(metric, sign * max(values)),
            max(values) - middle,
            f"{place[0]} at {place[1]}: best of {plural(len(values), 'trial')}",
        )
        for place, values in scores.items()
    }
    caption = (
        "Best score of a trial of the full schedule with that block at that site; blue is above "
        "the baseline, orange below. Selected maxima on one seed."
    )
    return _heatmap("Block by site in exploring", caption, tiles)


def _places(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return block and site of everything that a config inserts."""
    return [(block_label(e["block"]), entry_name(e)) for e in insertions(config)]


def _heatmap(title: str, caption: str, tiles: Mapping[tuple[str, str], Tile]) -> Figure | None:
    """Draw blocks by sites; None where that is a single row and column."""
    blocks = list(dict.fromkeys(block for block, _ in tiles))
    sites = sorted({site for _, site in tiles})
    if len(blocks) * len(sites) < 2:
        return None
    most = max(abs(tile.value) for tile in tiles.values()) or 1.0

    def draw(sheet: Sheet) -> None:
        turned = sheet.narrow and len(sites) > len(blocks)
        across, down = (blocks, sites) if turned else (sites, blocks)
        left = min(max(text_width(name) for name in down) + 12, sheet.width * 0.32)
        least = max(text_width(tile.text) for tile in tiles.values()) + 6
        fitting = max(1, int((sheet.width - left) / least))
        for first in range(0, len(across), fitting):
            part = across[first : first + fitting]
            sheet.y += 8 if first else 0
            width = min((sheet.width - left) / min(len(across), fitting), 130)
            for column, name in enumerate(part):
                middle = left + (column + 0.5) * width
                sheet.small(middle, sheet.y + 12, sheet.fitted(name, width - 4), ha="center")
            sheet.y += 24
            for name in down:
                sheet.text(0, sheet.y + 17, sheet.fitted(name, left - 8))
                for column, other in enumerate(part):
                    tile = tiles.get((other, name) if turned else (name, other))
                    box = (left + column * width, sheet.y, width - 3, 33.0)
                    _draw_tile(sheet, box, tile, most)
                sheet.y += 36

    listed = "; ".join(f"{block} at {site}: {tile.text}" for (block, site), tile in tiles.items())
    return Figure(title, caption, f"{title}. {listed}", draw)


def _draw_tile(
    sheet: Sheet, box: tuple[float, float, float, float], tile: Tile | None, most: float
) -> None:
    """Draw a tile in its box; `most` is the value of the strongest colour."""
    sheet.rect(*box, "rule", alpha=0.35)
    if tile is None:
        return
    alpha = 0.08 + 0.5 * abs(tile.value) / most
    sheet.rect(*box, "good" if tile.value >= 0 else "bad", alpha=alpha, gid=tile.title)
    left, top, width, _ = box
    sheet.text(left + width / 2, top + 17, tile.text, fontsize=SMALL, ha="center")
