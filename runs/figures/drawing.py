"""The one way to draw: a figure on matplotlib, as SVG in its page's colours and as a PNG.

Nothing here is global, neither pyplot nor rcParams, so any thread may draw. matplotlib lays out
axes, ticks and shapes; `_Svg` writes them down: text stays text, a colour is the page's variable,
and an artist's `gid` is what its shapes say when the pointer rests on them.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Affine2D, Transform

from attnsearch.runs.results import factor
from attnsearch.spaces.file import is_share, metric_name

COLOURS = {
    "page": ("#fbfbf9", "#14171a"),
    "card": ("#ffffff", "#1b1f23"),
    "ink": ("#1d2125", "#e7eaed"),
    "muted": ("#5a636c", "#a2acb5"),
    "rule": ("#dfe3e6", "#353c43"),
    "tint": ("#eef4f8", "#1d2b36"),
    "good": ("#0067a8", "#6cc0f5"),
    "bad": ("#b64a00", "#f0a05a"),
    "neutral": ("#6b747d", "#a2acb6"),
    "green": ("#00795a", "#4fc9a2"),
    "pink": ("#a3478b", "#dd8fc6"),
    "gold": ("#8a6d00", "#dcc04c"),
}
"""Name -> colour on a light and on a dark page; good and bad differ to the colour-blind."""

SERIES = ("good", "bad", "green", "pink", "gold", "muted")
"""The colours of arms that are drawn over each other."""

WIDE, NARROW = 880, 350
"""Widths of the two drawings of a figure, in CSS pixels."""

SMALL = 11.5
_TEXT = 12.5
_EM = 0.57  # of a text's size, about what a character takes
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
_VARIABLES = {light: f"var(--{name})" for name, light in LIGHT.items()}
HALO = {"facecolor": LIGHT["card"], "alpha": 0.8, "linewidth": 0, "pad": 1}
HOLLOW = {"markerfacecolor": "none", "markeredgewidth": 1.4}
_ANCHORS = {"left": ("start", 0.0), "center": ("middle", 0.5), "right": ("end", 1.0)}
_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}


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
        self._down = Affine2D()  # from the sheet's pixels to inches, once its height is known
        self._boxes: dict[Axes, tuple[float, float, float, float]] = {}
        self._legend: dict[str, dict[str, Any]] = {}
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
        self._boxes[axes] = (left, top, width, height)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, labelsize=SMALL, pad=6, labelcolor=LIGHT["muted"])
        axes.grid(axis=cast("Literal['x']", grid), color=LIGHT["rule"], linewidth=1)
        axes.set_axisbelow(True)
        for axis, most in ((axes.xaxis, 4 if self.narrow else 7), (axes.yaxis, 5)):
            axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        axes.ticklabel_format(style="plain", useOffset=False)
        return axes

    def chart(self, x: str, y: str, *, whole: bool = False) -> Axes:
        """Return axes as wide as the sheet, with their names; across they may count, `whole`."""
        height = 250 if self.narrow else 290
        axes = self.axes(56, self.y + 30, self.width - 72, height)
        axes.locator_params(axis="x", integer=whole)
        axes.spines["bottom"].set(visible=True, color=LIGHT["muted"], linewidth=1.2)
        self.small(4, self.y + 12, f"↑ {y}")
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
        self.text(0, y, shortened(name, room - 12), bbox=HALO)
        return y + 16 if self.narrow else y

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
        style = {"fontsize": _TEXT, "va": "center", "color": LIGHT[tone], **style}
        self._add(Text(x, y, words, parse_math=False, usetex=False, **style))

    def small(self, x: float, y: float, words: str, **style: Any) -> None:
        """Write small and pale, what explains the rest."""
        self.text(x, y, words, "muted", fontsize=SMALL, **style)

    def _add(self, artist: Artist) -> None:
        artist.set_transform(self._down + self.canvas.dpi_scale_trans)
        self.canvas.add_artist(artist)

    def name_points(self, axes: Axes, places: Sequence[tuple[str, float, float]]) -> None:
        """Write names beside points, the first ones first, where no other name stands yet."""
        (left, top, width, height), taken = self._boxes[axes], list[tuple[float, ...]]()
        (x0, x1), (y0, y1) = axes.get_xlim(), axes.get_ylim()
        for name, across, up in places:
            words = shortened(name, self.width * 0.42)
            x = left + width * (across - x0) / (x1 - x0)
            y = top + height * (y1 - up) / (y1 - y0)
            length = text_width(words, SMALL)
            corners = [(a, b) for b in (y - 14, y + 3) for a in (x + 11, x - 11 - length)]
            corners += [(x - length / 2, b) for b in (y - 24, y + 12)]
            for a, b in corners:
                c, d = a + length, b + 14
                free = all(c < box[0] or box[2] < a or d < box[1] or box[3] < b for box in taken)
                if free and a >= left - 4 and c <= self.width and b >= top - 10:
                    taken.append((a, b, c, d))
                    self.small(a, b + 7, words, bbox=HALO)
                    break

    def finish(self) -> None:
        """Write the legend and set the sheet's height, when everything else is drawn."""
        x = 4.0
        for label, style in self._legend.items():
            words = shortened(label, self.width - 30)
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
        self._down.scale(1 / 72, -1 / 72).translate(0, self.y / 72)
        self.canvas.set_size_inches(self.width / 72, self.y / 72)
        for axes, (left, top, width, height) in self._boxes.items():
            below = 1 - (top + height) / self.y
            axes.set_position((left / self.width, below, width / self.width, height / self.y))

    def svg(self, words: str) -> Markup:
        """Return the finished sheet as an `<svg>`, with a text that stands for it."""
        renderer = _Svg(self.width, self.y)
        self.canvas.patch.set_visible(False)
        self.canvas.draw(renderer)
        size = Markup('viewBox="0 0 {0} {1}" width="{0}" height="{1}"').format(
            _number(self.width), _number(self.y)
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


class _Svg(RendererBase):
    """Writes what matplotlib draws as SVG elements, without ids and without styles of its own.

    Args:
        width: Of the drawing, in pixels.
        height: Of the drawing.
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__()
        self.parts: list[Markup] = []
        self._size = width, height
        self._titles: Iterator[str] = iter(())

    def get_canvas_width_height(self) -> tuple[float, float]:
        return self._size

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: object
    ) -> tuple[float, float, float]:
        # The page's font is not known here, so a text is as long as it is in most fonts.
        size = prop.get_size_in_points()
        return text_width(s, size), size * 0.95, size * 0.22

    def open_group(self, s: str, gid: str | Iterable[str] | None = None) -> None:
        self._titles = iter([gid] if isinstance(gid, str) else gid or ())

    def close_group(self, s: str) -> None:
        self._titles = iter(())

    def draw_path(
        self, gc: GraphicsContextBase, path: Path, transform: Transform, rgbFace: Any = None
    ) -> None:
        steps = []
        for places, code in path.iter_segments(transform, simplify=False):
            pairs = [f"{_number(x)} {self._y(y)}" for x, y in places.reshape(-1, 2)]
            steps.append("Z" if code == Path.CLOSEPOLY else _LETTERS[code] + " ".join(pairs))
        self._shape("path", Markup('d="{}"').format("".join(steps)), gc, rgbFace)

    def draw_markers(
        self,
        gc: GraphicsContextBase,
        marker_path: Path,
        marker_trans: Transform,
        path: Path,
        trans: Transform,
        rgbFace: Any = None,
    ) -> None:
        radius = marker_trans.transform((1, 0))[0]
        for (x, y), _ in path.iter_segments(trans, simplify=False):
            if marker_path is Path.unit_circle():
                where = Markup('cx="{}" cy="{}" r="{}"')
                where = where.format(_number(x), self._y(y), _number(radius))
                self._shape("circle", where, gc, rgbFace)
            else:
                self.draw_path(gc, marker_path, marker_trans + Affine2D().translate(x, y), rgbFace)

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: object = False,
        mtext: Text | None = None,
    ) -> None:
        size = prop.get_size_in_points()
        anchor, share = _ANCHORS[mtext.get_horizontalalignment() if mtext else "left"]
        style = f"fill:{_colour(gc.get_rgb())}"
        style += "" if anchor == "start" else f";text-anchor:{anchor}"
        style += f";font-size:{_number(size)}px" if size != _TEXT else ""
        style += ";font-weight:600" if prop.get_weight() == "bold" else ""
        x += share * text_width(s, size)
        # Here y is measured from the top already.
        words = Markup('<text x="{}" y="{}" style="{}">{}</text>')
        self.parts.append(words.format(_number(x), _number(y), style, s))

    def _y(self, y: float) -> str:
        """Return a height above the lower edge, measured from the upper one."""
        return _number(self._size[1] - y)

    def _shape(self, tag: str, where: Markup, gc: GraphicsContextBase, face: Any) -> None:
        """Add a shape, if it is seen at all, with the title that is due."""
        (*edge, alpha), width = gc.get_rgb(), gc.get_linewidth()
        filled = face is not None and (len(face) < 4 or face[3] > 0)
        lined = width > 0 and alpha > 0
        style = [f"fill:{_colour(face) if filled else 'none'}"]
        if filled and len(face) == 4 and face[3] < 1:
            style.append(f"fill-opacity:{face[3]:.2g}")
        if lined:
            style += [f"stroke:{_colour(edge)}", f"stroke-width:{_number(width)}"]
            style += [f"stroke-opacity:{alpha:.2g}"] if alpha < 1 else []
            style += ["stroke-linecap:round"] if gc.get_capstyle() == "round" else []
            dashes: Any = gc.get_dashes()[1]
            style += [f"stroke-dasharray:{' '.join(map(_number, dashes))}"] if dashes else []
        title = next(self._titles, "")
        if filled or lined:
            inner = Markup("<title>{}</title>").format(title) if title else ""
            shape = Markup('<{0} {1} style="{2}">{3}</{0}>')
            self.parts.append(shape.format(Markup(tag), where, ";".join(style), inner))


def score_axis(metric: str) -> str:
    """Return what an axis of a metric is called: ``test accuracy (%)``."""
    return metric_name(metric) + (" (%)" if is_share(metric) else "")


def scaled(metric: str, values: Iterable[float]) -> list[float]:
    """Return scores as they are shown: shares in percent."""
    return [factor(metric) * value for value in values]


def text_width(words: str, size: float = _TEXT) -> float:
    """Return about how many pixels a line of text takes."""
    return _EM * size * len(words)


def shortened(words: str, width: float) -> str:
    """Return a text cut to about so many pixels."""
    most = max(width / text_width("x"), 4)
    return words if len(words) <= most else words[: int(most) - 1] + "…"


def _colour(colour: Any) -> str:
    """Return a colour as the page's variable, where it is one."""
    light = to_hex(colour[:3])
    return _VARIABLES.get(light, light)


def _number(value: float) -> str:
    return f"{round(float(value), 1) + 0.0:g}"
