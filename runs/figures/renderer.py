"""What matplotlib draws as SVG elements: text stays text, a colour is the page's variable.

No ids, no styles of its own and no fonts, so drawings of one page cannot disturb each other and
the same figure is the same bytes under every release of a font.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from markupsafe import Markup
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.transforms import Affine2D, Transform

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

TEXT = 12.5
_EM = 0.57  # of a text's size, about what a character takes
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
_VARIABLES = {light: f"var(--{name})" for name, light in LIGHT.items()}
_ANCHORS = {"left": ("start", 0.0), "center": ("middle", 0.5), "right": ("end", 1.0)}
_LETTERS = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}


class SvgRenderer(RendererBase):
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
        """Return the size in pixels."""
        return self._size

    def get_text_width_height_descent(
        self, s: str, prop: FontProperties, ismath: object
    ) -> tuple[float, float, float]:
        """Return about how much room a text takes, in pixels."""
        # The page's font is not known here, so a text is as long as it is in most fonts.
        size = prop.get_size_in_points()
        return text_width(s, size), size * 0.95, size * 0.22

    def open_group(self, s: str, gid: str | Iterable[str] | None = None) -> None:
        """Begin an artist: its `gid` holds the titles of its shapes, one text or one a shape."""
        self._titles = iter([gid] if isinstance(gid, str) else gid or ())

    def close_group(self, s: str) -> None:
        """End an artist."""
        self._titles = iter(())

    def draw_path(
        self, gc: GraphicsContextBase, path: Path, transform: Transform, rgbFace: Any = None
    ) -> None:
        """Write a shape as a `<path>`."""
        steps = []
        for places, code in path.iter_segments(transform, simplify=False):
            pairs = [f"{number(x)} {self._y(y)}" for x, y in places.reshape(-1, 2)]
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
        """Write a marker at every point of a path, a `<circle>` where it is one."""
        radius = marker_trans.transform((1, 0))[0]
        for (x, y), _ in path.iter_segments(trans, simplify=False):
            if marker_path is Path.unit_circle():
                where = Markup('cx="{}" cy="{}" r="{}"')
                where = where.format(number(x), self._y(y), number(radius))
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
        """Write a line of text as `<text>`, anchored where it was placed."""
        size = prop.get_size_in_points()
        anchor, share = _ANCHORS[mtext.get_horizontalalignment() if mtext else "left"]
        style = f"fill:{_colour(gc.get_rgb())}"
        style += "" if anchor == "start" else f";text-anchor:{anchor}"
        style += f";font-size:{number(size)}px" if size != TEXT else ""
        style += ";font-weight:600" if prop.get_weight() == "bold" else ""
        x += share * text_width(s, size)
        # Here y is measured from the top already.
        words = Markup('<text x="{}" y="{}" style="{}">{}</text>')
        self.parts.append(words.format(number(x), number(y), style, s))

    def _y(self, y: float) -> str:
        """Return a height above the lower edge, measured from the upper one."""
        return number(self._size[1] - y)

    def _shape(self, tag: str, where: Markup, gc: GraphicsContextBase, face: Any) -> None:
        """Add a shape, if it is seen at all, with the title that is due."""
        (*edge, alpha), width = gc.get_rgb(), gc.get_linewidth()
        filled = face is not None and (len(face) < 4 or face[3] > 0)
        lined = width > 0 and alpha > 0
        style = [f"fill:{_colour(face) if filled else 'none'}"]
        if filled and len(face) == 4 and face[3] < 1:
            style.append(f"fill-opacity:{face[3]:.2g}")
        if lined:
            style += [f"stroke:{_colour(edge)}", f"stroke-width:{number(width)}"]
            style += [f"stroke-opacity:{alpha:.2g}"] if alpha < 1 else []
            style += ["stroke-linecap:round"] if gc.get_capstyle() == "round" else []
            dashes: Any = gc.get_dashes()[1]
            style += [f"stroke-dasharray:{' '.join(map(number, dashes))}"] if dashes else []
        title = next(self._titles, "")
        if filled or lined:
            inner = Markup("<title>{}</title>").format(title) if title else ""
            shape = Markup('<{0} {1} style="{2}">{3}</{0}>')
            self.parts.append(shape.format(Markup(tag), where, ";".join(style), inner))


def text_width(words: str, size: float = TEXT) -> float:
    """Return about how many pixels a line of text takes."""
    return _EM * size * len(words)


def _colour(colour: Any) -> str:
    """Return a colour as the page's variable, where it is one."""
    light = to_hex(colour[:3])
    return _VARIABLES.get(light, light)


def number(value: float) -> str:
    """Return a length as SVG writes it, to a tenth of a pixel."""
    return f"{round(float(value), 1) + 0.0:g}"
