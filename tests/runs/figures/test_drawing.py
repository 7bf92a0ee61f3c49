"""One drawing, two ways out: SVG that takes the page's colours, and a PNG."""

import io
import re
import threading
from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image, ImageColor

from attnsearch.runs.figures.arms import interaction_slopes
from attnsearch.runs.figures.drawing import NARROW, SMALL, WIDE, Figure, Sheet, _distance
from attnsearch.runs.figures.exploring import importances
from attnsearch.runs.figures.heatmaps import Tile, _heatmap
from attnsearch.runs.figures.renderer import COLOURS, text_width
from attnsearch.runs.statistics import INTERACTION

NAMES = ("<script>alert(1)</script>", "a & b", "$x_1$ costs $2", "_private", "^{\\frac", "中 é")


def make(draw: Callable[[Sheet], None] | None = None) -> Figure:
    def rows(sheet: Sheet) -> None:
        axes, y = sheet.rows(), sheet.y + 10
        for name in NAMES:
            at = sheet.row_name(y, name)
            sheet.line(axes, (0, 2), (at, at), "good", label=name, gid=name)
            sheet.dots(axes, (0.5, 1.5), (at, at), "bad", gid=(name, f"{name} again"))
            y = at + 30
        sheet.end_rows(axes, y, "accuracy (%)")

    return Figure("A title", "A caption", "What & it <shows>", draw or rows)


def drawings(figure: Figure) -> list[ElementTree.Element]:
    """The wide and the narrow `<svg>`, read as XML."""
    return list(ElementTree.fromstring(f"<page>{figure.svg()}</page>"))


def texts(drawing: ElementTree.Element, tag: str) -> list[str]:
    return [element.text or "" for element in drawing.iter(tag)]


def test_names_are_text_and_never_markup_or_formulas() -> None:
    for drawing in drawings(make()):
        assert drawing.get("aria-label") == "What & it <shows>"
        assert {element.tag for element in drawing.iter()} <= {
            *("svg", "path", "circle", "text", "title")
        }
        written = texts(drawing, "text")
        assert all(written.count(name) == 2 for name in NAMES)  # beside the row, in the legend
        titles = texts(drawing, "title")
        assert titles == [word for name in NAMES for word in (name, name, f"{name} again")]


def test_a_drawing_has_the_pages_colours_and_widths() -> None:
    figure = make()
    for drawing, width in zip(drawings(figure), (WIDE, NARROW), strict=True):
        assert drawing.get("width") == f"{width}"
        assert drawing.get("viewBox") == f"0 0 {width} {drawing.get('height')}"
    used = set(re.findall(r"var\(--(\w+)\)", figure.svg()))
    assert {"ink", "muted", "rule", "good", "bad"} <= used <= set(COLOURS)
    assert "#" not in figure.svg().replace("&#", "")


def test_it_refers_to_nothing() -> None:
    assert not re.search(r"\bid=|url\(|href|xmlns|https?:", make().svg())


def test_the_same_figure_is_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make().svg(), make().png()
    monkeypatch.setitem(matplotlib.rcParams, "svg.fonttype", "path")
    monkeypatch.setitem(matplotlib.rcParams, "text.parse_math", True)
    assert (make().svg(), make().png()) == before


def test_names_beside_points_do_not_cover_each_other() -> None:
    def draw(sheet: Sheet) -> None:
        axes = sheet.chart("cost", "score")
        places = [(f"a name of the {i}th", 1.0 + i / 1000, 2.0) for i in range(4)]
        sheet.dots(axes, [x for _, x, _ in places] + [3.0], [2.0] * 5, "good")
        sheet.name_points(axes, places, len(places))

    for drawing in drawings(make(draw)):
        named = [e for e in drawing.iter("text") if (e.text or "").startswith("a name")]
        heights = [float(e.get("y", "nan")) for e in named]
        assert len(named) >= 2
        assert len(set(heights)) == len(heights)


def test_names_do_not_lie_on_points() -> None:
    places = [
        ("a name of length", 2.0, 2.0),
        ("b", 2.1, 2.0),
        ("c", 0.0, 2.5),
        ("d", 3.0, 2.2),
    ]

    def draw(sheet: Sheet) -> None:
        axes = sheet.chart("cost", "score")
        xs, ys = [x for _, x, _ in places], [y for _, _, y in places]
        sheet.dots(axes, xs, ys, "good", markersize=8)
        sheet.name_points(axes, places, 1)

    for drawing in drawings(make(draw)):
        (name,) = (e for e in drawing.iter("text") if (e.text or "").startswith("a name"))
        x, y = float(name.get("x", "nan")), float(name.get("y", "nan"))
        ends = x, x + text_width(places[0][0], SMALL)
        points = [
            (float(e.get("cx", "nan")), float(e.get("cy", "nan"))) for e in drawing.iter("circle")
        ]
        assert len(points) >= 3
        covered = [p for p in points if ends[0] - 4 < p[0] < ends[1] + 4 and y - 12 < p[1] < y + 4]
        assert covered == []


def test_a_name_stands_nearest_to_its_own_point() -> None:
    places = [(f"name {i}", 1.0 + i % 2 / 50, 2.0 + i / 40) for i in range(6)]
    places.append(("far", 3.0, 3.0))
    at: list[list[tuple[float, float]]] = []

    def draw(sheet: Sheet) -> None:
        axes = sheet.chart("cost", "score")
        for _, x, y in places:
            sheet.dots(axes, [x], [y], "good", markersize=8)
        sheet.name_points(axes, places, len(places))
        left, top, width, height = sheet._boxes[axes]
        (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
        at.append(
            [
                (left + width * (x - x0) / (x1 - x0), top + height * (y1 - y) / (y1 - y0))
                for _, x, y in places
            ]
        )

    for drawing in drawings(make(draw)):
        points = at.pop(0)
        named = {e.text: e for e in drawing.iter("text") if (e.text or "").startswith("name")}
        assert named
        for index, (name, _, _) in enumerate(places):
            if name in named:
                x, y = (float(named[name].get(key, "nan")) for key in "xy")
                box = (x, y - 11, x + text_width(name, SMALL), y + 3)
                gaps = [_distance(point, box) for point in points]
                assert gaps[index] <= min(gaps) + 2


def test_names_that_are_cut_are_told_apart_and_explained() -> None:
    names = [f"baseline of psa@layer2.conv2 gc@layer3.conv{i} ecrm@layer4 scconv@x" for i in "123"]

    def draw(sheet: Sheet) -> None:
        axes, y = sheet.rows(), sheet.y + 10
        for name in (*names, "short"):
            y = sheet.row_name(y, name) + 30
        sheet.end_rows(axes, y, "score")

    for drawing in drawings(make(draw)):
        words = [element.text or "" for element in drawing.iter("text")]
        rows = [word for word in words if word.endswith("…")]
        assert [row[:4] for row in rows] == ["(1) ", "(2) ", "(3) "]
        assert "short" in words
        foot = " ".join(word for word in words if not word.endswith("…"))
        assert all(name in foot for name in names)


LONG = [f"psa@layer2.conv2 gc@layer3.conv{i} ecrm@layer4 scconv@layer4.conv2 cbam" for i in "123"]
SITES = [f"layer{i}.conv2.residual.somewhere" for i in range(24)]
BLOCKS = ["my_attention_block_with_a_long_name", "my_attention_block_with_another"]


def of_heatmap() -> Figure | None:
    tiles = {(b, s): Tile("+12.34", 1.0, "") for b in BLOCKS for s in SITES}
    return _heatmap("Block by site", "", tiles)


def of_importances() -> Figure | None:
    each = {"share": 0.3, "low": 0.2, "high": 0.4, "p": 0.01}
    return importances({"val_accuracy": dict.fromkeys(LONG, each)})


def of_slopes() -> Figure | None:
    arms = [SimpleNamespace(label=label, summary=SimpleNamespace(mean=0.5)) for label in "abcd"]
    contrasts = [
        SimpleNamespace(name=name, against=INTERACTION, plus=("a", "b"), minus=("c", "d"))
        for name in LONG
    ]
    act: Any = SimpleNamespace(metric="val_accuracy", arms=arms, comparisons=contrasts)
    return interaction_slopes(act)


def of_points() -> Figure | None:
    def draw(sheet: Sheet) -> None:
        axes = sheet.chart("cost", "score")
        places = [(name, float(i), float(i)) for i, name in enumerate(LONG)]
        sheet.dots(axes, [x for _, x, _ in places], [y for _, _, y in places], "good")
        sheet.name_points(axes, places, len(places))

    return make(draw)


def of_legend() -> Figure | None:
    def draw(sheet: Sheet) -> None:
        axes = sheet.chart("epoch", "score")
        for name in LONG:
            sheet.line(axes, (0, 1), (0, 1), "good", label=2 * f"{name} ")

    return make(draw)


@pytest.mark.parametrize("made", [of_heatmap, of_importances, of_slopes, of_points, of_legend])
def test_no_figure_cuts_a_name_without_saying_it_whole(made: Callable[[], Figure | None]) -> None:
    figure = made()
    assert figure is not None
    cuts = 0
    for drawing in drawings(figure):
        words = texts(drawing, "text")
        cut = [word for word in words if word.endswith("…")]
        marks = {mark for word in cut for mark in re.findall(r"^\(\d+\)", word)}
        assert len(marks) == len({*cut})  # each has a number of its own
        assert all(word.startswith("(") for word in cut)
        foot = " ".join(word for word in words if not word.endswith("…"))
        for word in cut:
            mark, _, begin = word.removesuffix("…").partition(" ")
            assert f"{mark} {begin}" in foot
        cuts += len(marks)
    assert cuts or made is of_heatmap


def test_a_heatmap_of_many_sites_has_all_its_values() -> None:
    figure = of_heatmap()
    assert figure is not None
    for drawing in drawings(figure):
        words = texts(drawing, "text")
        assert words.count("+12.34") == 48
        whole = " ".join(word for word in words if not word.endswith("…"))
        assert all(site in whole for site in SITES)
        boxes = [float(e.get("x", "nan")) for e in drawing.iter("text") if e.text == "+12.34"]
        gaps = [b - a for a, b in pairwise(sorted({*boxes}))]
        assert min(gaps) > text_width("+12.34", SMALL)


def test_a_png_is_a_readable_picture() -> None:
    with Image.open(io.BytesIO(make().png())) as picture:
        assert picture.format == "PNG" and picture.width >= 2 * WIDE - 100
        colours = picture.convert("RGB").getcolors(1 << 20) or []
    assert len(colours) > 10
    assert max(colours)[1] == (255, 255, 255)


def test_a_png_has_its_axes_where_the_rest_of_the_sheet_expects_them() -> None:
    def draw(sheet: Sheet) -> None:
        axes = sheet.axes(100, 40, 300, 80)
        axes.axhspan(0, 1, color=COLOURS["good"][0])
        sheet.rect(98, 38, 304, 84, "bad", zorder=5)
        sheet.y = 200

    with Image.open(io.BytesIO(make(draw).png())) as picture:
        used = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert ImageColor.getrgb(COLOURS["bad"][0]) in used
    assert ImageColor.getrgb(COLOURS["good"][0]) not in used


def test_any_thread_can_draw() -> None:
    expected, drawn = str(make().svg()), list[str]()
    threads = [
        threading.Thread(target=lambda: drawn.append(make().png() and str(make().svg())))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert drawn == [expected] * 3
