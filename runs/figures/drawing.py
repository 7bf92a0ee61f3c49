"""The one way to draw: a figure on matplotlib, as SVG in its page's colours and as a PNG.

Nothing here is global, neither pyplot nor rcParams, so any thread may draw. matplotlib lays out
axes, ticks and shapes and `SvgRenderer` writes them down; an artist's `gid` is what its shapes
say when the pointer rests on them.
"""

import io
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D

from attnsearch.runs.figures.renderer import LIGHT, TEXT, SvgRenderer, number, text_width
from attnsearch.runs.results import factor
from attnsearch.spaces.keys import is_share, metric_name

SERIES = ("good", "bad", "green", "pink", "gold", "muted")
"""The colours of arms that are drawn over each other."""

WIDE, NARROW = 880, 350
"""Widths of the two drawings of a figure, in CSS pixels."""

SMALL = 11.5
HALO = {"facecolor": LIGHT["card"], "alpha": 0.8, "linewidth": 0, "pad": 1}
HOLLOW = {"markerfacecolor": "none", "markeredgewidth": 1.4}
_SAME_PLACE = 4  # points closer than so many pixels look like one


@dataclass(frozen=True)
class Figure:
    """A figure: what it shows, in words and as a drawing of any width.

    Attributes:
        title: Above it.
        caption: Below it: how to read it.
        words: What it shows: its text alternative.
        draw: Draws it on a sheet.
    """

    title: str
    caption: str
    words: str
    draw: "Callable[[Sheet], None]"

    def svg(self) -> Markup:
        """Return a wide and a narrow `<svg>`; the page shows one of them."""
        return Markup("").join(self._drawn(width).svg(self.words) for width in (WIDE, NARROW))

    def png(self) -> bytes:
        """Return the wide drawing as a PNG file, its title above it."""
        return self._drawn(WIDE, self.title).png()

    def _drawn(self, width: float, title: str = "") -> "Sheet":
        sheet = Sheet(width, title)
        self.draw(sheet)
        sheet.finish()
        return sheet


class Sheet:
    """Paper of a width, which is drawn upon from top to bottom; lengths are CSS pixels.

    Args:
        width: Of the sheet.
        title: Written at its top.

    Attributes:
        width: Of the sheet.
        canvas: The drawing, of matplotlib.
        y: Where what comes next begins.
    """

    def __init__(self, width: float, title: str = "") -> None:
        self.width = width
        self.canvas = Canvas(dpi=72, facecolor=LIGHT["card"])  # of 72 dots, a point is a pixel
        self.y = 0.0
        self._down = Affine2D()  # from pixels to shares of the sheet, once its height is known
        self._boxes: dict[Axes, tuple[float, float, float, float]] = {}
        self._grids: dict[Axes, str] = {}
        self._legend: dict[str, dict[str, Any]] = {}
        self._cut: dict[str, int] = {}  # names that had no room, and their numbers
        if title:
            self.text(4, 16, title, fontweight="bold")
            self.y = 34

    @property
    def narrow(self) -> bool:
        """Whether it is a narrow page's."""
        return self.width < 500

    def axes(self, left: float, top: float, width: float, height: float, grid: str = "y") -> Axes:
        """Return quiet axes at a place, with the grid of one of them, ``x`` or ``y``."""
        axes = self.canvas.add_axes((0, 0, 1, 1), facecolor="none")
        axes.set_axis_off()  # `_number` costs a fraction of matplotlib's ticks
        self._boxes[axes] = (left, top, width, height)
        self._grids[axes] = grid
        for axis, most in ((axes.xaxis, 4 if self.narrow else 7), (axes.yaxis, 5)):
            axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        axes.ticklabel_format(style="plain", useOffset=False)
        return axes

    def chart(self, x: str, y: str, *, whole: bool = False) -> Axes:
        """Return axes as wide as the sheet, with their names; across they may count, `whole`."""
        height = 250 if self.narrow else 290
        axes = self.axes(56, self.y + 30, self.width - 72, height)
        axes.locator_params(axis="x", integer=whole)
        bottom = self.y + 30 + height
        self._rule((56, self.width - 16), (bottom, bottom), "muted", 1.2)
        self.small(4, self.y + 12, f"↑ {self.fitted(y, self.width - 30)}")
        self.small(self.width - 16, self.y + height + 62, f"{x} →", ha="right")
        self.y += height + 82
        return axes

    def rows(self, right: float = 8) -> Axes:
        """Return axes for rows, which lie at the sheet's own y; their names stand to the left.

        Args:
            right: What stays free to the right, where the page is wide.
        """
        left, right = (8.0, 8) if self.narrow else (self.width * 0.34, right)
        axes = self.axes(left, self.y, self.width - left - right, 0, "x")
        axes.set_yticks([])
        return axes

    def end_rows(self, axes: Axes, bottom: float, x: str) -> None:
        """End axes of `rows` at a y and name what runs across."""
        left, top, width, _ = self._boxes[axes]
        self._boxes[axes] = (left, top, width, bottom - top)
        axes.set_ylim(bottom, top)
        self.small(left + width / 2, bottom + 34, x, ha="center")
        self.y = bottom + 50

    def row_name(self, y: float, name: str, less: float = 0) -> float:
        """Name a row; return the y of its marks, which is below the name on a narrow page."""
        room = self.width - less if self.narrow else self.width * 0.34
        self.text(0, y, self.fitted(name, room - 12), bbox=HALO)
        return y + 16 if self.narrow else y

    def fitted(self, name: str, room: float) -> str:
        """Return a name for so many pixels; a cut one has a number that the foot explains."""
        if shortened(name, room) == name:
            return name
        mark = f"({self._cut.setdefault(name, len(self._cut) + 1)})"
        words = shortened(f"{mark} {name}", room)
        return words if len(words) > len(mark) + 3 else mark

    def line(
        self, axes: Axes, xs: Sequence[float], ys: Sequence[float], tone: str, **style: Any
    ) -> None:
        """Draw a line, 1.3 wide unless a style of matplotlib's `Line2D` says otherwise.

        A `label` names it in the legend; its `gid` shows where the pointer rests on it.
        """
        style = {"linewidth": 1.3, "solid_capstyle": "round", **style, "color": LIGHT[tone]}
        if style.get("label") and len(xs):
            shown = {key: style[key] for key in style if key not in ("transform", "gid")}
            self._legend.setdefault(style["label"], shown)
        axes.plot(xs, ys, clip_on=False, **style)

    def dots(
        self, axes: Axes, xs: Sequence[float], ys: Sequence[float], tone: str, **style: Any
    ) -> None:
        """Draw markers; their `gid` is what each of them shows where the pointer rests on it."""
        style = {"linestyle": "none", "marker": "o", "markeredgewidth": 0, **style}
        self.line(axes, xs, ys, tone, **style)

    def rect(
        self, left: float, top: float, width: float, height: float, tone: str, **style: Any
    ) -> None:
        """Draw a rectangle on the sheet."""
        patch = Rectangle((left, top), width, height, facecolor=LIGHT[tone], linewidth=0, **style)
        self._add(patch)
        if patch.get_label():
            mark = {"color": LIGHT[tone], "marker": "s", "linestyle": "none"}
            self._legend.setdefault(str(patch.get_label()), mark)

    def text(self, x: float, y: float, words: str, tone: str = "ink", **style: Any) -> None:
        """Write on the sheet; y is the middle of the line."""
        style = {"fontsize": TEXT, "va": "center", "color": LIGHT[tone], **style}
        self._add(Text(x, y, words, parse_math=False, usetex=False, **style))

    def small(self, x: float, y: float, words: str, **style: Any) -> None:
        """Write small and pale, what explains the rest."""
        self.text(x, y, words, "muted", fontsize=SMALL, **style)

    def _add(self, artist: Artist) -> None:
        artist.set_transform(self._down + self.canvas.transFigure)
        self.canvas.add_artist(artist)

    def name_points(
        self, axes: Axes, places: Sequence[tuple[str, float, float]], most: int
    ) -> None:
        """Write names beside the first of some points, where no point or other name stands."""
        left, top, width, height = self._boxes[axes]
        (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
        points = [
            (left + width * (x - x0) / (x1 - x0), top + height * (y1 - y) / (y1 - y0))
            for _, x, y in places
        ]
        taken: list[tuple[float, ...]] = [(x - 8, y - 8, x + 8, y + 8) for x, y in points]
        for (name, _, _), (x, y) in zip(places[:most], points, strict=False):
            explained = dict(self._cut)
            words = self.fitted(name, self.width * 0.42)
            length = text_width(words, SMALL)
            heights = (y - 14, y + 3, y - 28, y + 17)
            corners = [(a, b) for b in heights for a in (x + 11, x - 11 - length)]
            corners += [(x - length / 2, b) for b in (y - 24, y + 12)]
            others = [point for point in points if math.dist(point, (x, y)) > _SAME_PLACE]
            for a, b in corners:
                c, d = a + length, b + 14
                free = all(c < box[0] or box[2] < a or d < box[1] or box[3] < b for box in taken)
                inside = a >= left - 4 and c <= self.width and b >= top - 10
                # The name must not be read as that of a point that it stands nearer to.
                own = _distance((x, y), (a, b, c, d))
                nearest = all(own < _distance(point, (a, b, c, d)) for point in others)
                if free and inside and nearest:
                    taken.append((a, b, c, d))
                    self.small(a, b + 7, words, bbox=HALO)
                    break
            else:
                self._cut = explained

    def _number(self, axes: Axes) -> None:
        """Write the numbers along both of some axes, and draw the grid of one."""
        left, top, width, height = self._boxes[axes]
        for name, axis, (low, high) in (
            ("x", axes.xaxis, axes.get_xlim()),
            ("y", axes.yaxis, axes.get_ylim()),
        ):
            places = axis.get_majorticklocs().tolist()
            texts = axis.get_major_formatter().format_ticks(places)
            for place, words in zip(places, texts, strict=True):
                share = (place - low) / (high - low)
                if not -1e-9 < share < 1 + 1e-9:
                    continue
                x, y = left + share * width, top + (1 - share) * height
                if name == "x":
                    self.small(x, top + height + 6, words, ha="center", va="top")
                    ends = (x, x), (top + height, top)
                else:
                    self.small(left - 6, y, words, ha="right", va="center_baseline")
                    ends = (left, left + width), (y, y)
                if name == self._grids[axes]:
                    self._rule(*ends, "rule", 1)

    def _rule(self, xs: Sequence[float], ys: Sequence[float], tone: str, width: float) -> None:
        """Draw a line on the sheet, below what its axes show."""
        self._add(Line2D(xs, ys, color=LIGHT[tone], linewidth=width, zorder=-1))

    def finish(self) -> None:
        """Write the legend and set the sheet's height, when everything else is drawn."""
        x = 4.0
        for label, style in self._legend.items():
            words = self.fitted(label, self.width - 30)
            length = 22 + text_width(words, SMALL)
            if x > 4 and x + length > self.width:
                x, self.y = 4.0, self.y + 20
            dot = style.get("linestyle") == "none"
            xs = [x + 7] if dot else [x, x + 14]
            size = {"markersize": min(style.get("markersize", 9), 9)} if dot else {}
            self._add(Line2D(xs, [self.y + 6] * len(xs), **(style | size)))
            self.small(x + 20, self.y + 6, words)
            x += length + 14
        self.y += 20 if self._legend else 0
        letters = int(self.width / text_width("x", SMALL))
        for name, mark in self._cut.items():
            for words in textwrap.wrap(f"({mark}) {name}", letters):
                self.small(4, self.y + 6, words)
                self.y += 17
        self._down.scale(1 / self.width, -1 / self.y).translate(0, 1)
        self.canvas.set_size_inches(self.width / 72, self.y / 72)
        for axes, (left, top, width, height) in self._boxes.items():
            below = 1 - (top + height) / self.y
            self._number(axes)
            axes.set_position((left / self.width, below, width / self.width, height / self.y))

    def svg(self, words: str) -> Markup:
        """Return the finished sheet as an `<svg>`, with a text that stands for it."""
        renderer = SvgRenderer(self.width, self.y)
        self.canvas.patch.set_visible(False)
        self.canvas.draw(renderer)
        size = Markup('viewBox="0 0 {0} {1}" width="{0}" height="{1}"').format(
            number(self.width), number(self.y)
        )
        kind = "narrow" if self.narrow else "wide"
        return Markup('<svg class="{}" role="img" aria-label="{}" {}>{}</svg>').format(
            kind, words, size, Markup("").join(renderer.parts)
        )

    def png(self) -> bytes:
        """Return the finished sheet as a PNG file of twice as many pixels."""
        file = io.BytesIO()
        self.canvas.savefig(
            file, format="png", dpi=144, bbox_inches="tight", metadata={"Software": None}
        )
        return file.getvalue()


def score_axis(metric: str) -> str:
    """Return what an axis of a metric is called: ``test accuracy (%)``."""
    return metric_name(metric) + (" (%)" if is_share(metric) else "")


def scaled(metric: str, values: Iterable[float]) -> list[float]:
    """Return scores as they are shown: shares in percent."""
    return [factor(metric) * value for value in values]


def _distance(point: tuple[float, float], box: tuple[float, float, float, float]) -> float:
    """Return how far a point is from a box: left, top, right, bottom."""
    (x, y), (left, top, right, bottom) = point, box
    return math.hypot(max(left - x, 0, x - right), max(top - y, 0, y - bottom))


def shortened(words: str, width: float) -> str:
    """Return a text cut to about so many pixels."""
    most = max(width / text_width("x"), 4)
    return words if len(words) <= most else words[: int(most) - 1] + "…"
