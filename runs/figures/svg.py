"""A few shapes of SVG, for figures that take their colours from the page they stand in.

matplotlib's SVG has its colours and sizes fixed; these figures follow the reader's light or dark
scheme by CSS classes, and each is drawn twice, for wide and for narrow pages, so that its text is
readable on a phone.
"""

from collections.abc import Iterable, Sequence

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from attnsearch.runs.results import MINUS

WIDE, NARROW = 880, 350
"""Widths of the two drawings of a figure, in CSS pixels."""

_CHARACTER = 6.6  # pixels that a character of 12 px text takes, about


class Canvas:
    """Shapes in a box of a width and height, in CSS pixels, with a text that stands for them.

    Args:
        width: Of the box.
        label: What the figure shows, in words: its text alternative.
    """

    def __init__(self, width: float, label: str) -> None:
        self.width = width
        self.height = 0.0
        self._label = label
        self._parts: list[Markup] = []

    @property
    def narrow(self) -> bool:
        """Whether it is drawn for a narrow page."""
        return self.width < 500

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        self._parts.append(
            Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(
                x1, y1, x2, y2, style
            )
        )

    def rect(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        style: str,
        *,
        title: str = "",
        opacity: float | None = None,
    ) -> None:
        """A rectangle; the title shows when the pointer rests on it."""
        self._parts.append(
            Markup(
                '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" class="{}"{}>{}</rect>'
            ).format(
                x,
                y,
                max(width, 0),
                height,
                style,
                "" if opacity is None else Markup(' fill-opacity="{:.3f}"').format(opacity),
                _title(title),
            )
        )

    def dot(
        self,
        x: float,
        y: float,
        style: str,
        *,
        size: float = 3.5,
        shape: str = "o",
        title: str = "",
    ) -> None:
        """A marker: ``o`` a circle, ``d`` a diamond, ``s`` a square."""
        if shape == "o":
            head = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" class="{}">').format(
                x, y, size, style
            )
            self._parts.append(head + _title(title) + Markup("</circle>"))
            return
        r = size * 1.15
        side = f"{2 * r:.1f}"
        paths = {
            "d": f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}Z",
            "s": f"M{x - r:.1f} {y - r:.1f}h{side}v{side}h-{side}Z",
        }
        head = Markup('<path d="{}" class="{}">').format(paths[shape], style)
        self._parts.append(head + _title(title) + Markup("</path>"))

    def path(self, places: Sequence[tuple[float, float]], style: str, *, title: str = "") -> None:
        """A line through several points."""
        data = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        self._parts.append(
            Markup('<path d="{}" class="{}">{}</path>').format(data, style, _title(title))
        )

    def text(
        self, x: float, y: float, words: str, style: str = "", *, anchor: str = "start"
    ) -> None:
        """A line of text; `anchor` is ``start``, ``middle`` or ``end``."""
        self._parts.append(
            Markup('<text x="{:.1f}" y="{:.1f}" class="{}" text-anchor="{}">{}</text>').format(
                x, y, style, anchor, words
            )
        )

    def legend(self, y: float, entries: Iterable[tuple[str, str, str]]) -> float:
        """Return a legend in rows; returns the y below it.

        Args:
            y: Of its first row.
            entries: Shape (of `dot`, or ``-`` for a line), style and words of each.
        """
        x = 4.0
        for shape, style, words in entries:
            length = 22 + text_width(words)
            if x > 4 and x + length > self.width:
                x, y = 4.0, y + 20
            if shape == "-":
                self.line(x, y - 4, x + 14, y - 4, style)
            else:
                self.dot(x + 7, y - 4, style, shape=shape, size=4)
            self.text(x + 20, y, words, "small")
            x += length + 14
        return y + 20

    def markup(self) -> Markup:
        """Return the figure as an `<svg>`."""
        kind = "narrow" if self.narrow else "wide"
        body = Markup("").join(self._parts)
        return Markup(
            '<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {:.0f} {:.0f}" '
            'width="{:.0f}" height="{:.0f}">{}</svg>'
        ).format(kind, self._label, self.width, self.height, self.width, self.height, body)


class Scale:
    """Maps values to pixels, over whole ticks.

    Args:
        values: What is to be shown.
        start: The pixel of the smallest.
        stop: The pixel of the largest; less than `start` for an axis that points upwards.
        ticks: About how many.
        pad: Share of the range that is left free at both ends.
    """

    def __init__(
        self,
        values: Iterable[float],
        start: float,
        stop: float,
        *,
        ticks: int = 5,
        pad: float = 0.05,
    ) -> None:
        known = list(values) or [0.0, 1.0]
        low, high = min(known), max(known)
        room = (high - low) * pad or abs(high) * 0.05 or 1.0
        self.low, self.high = low - room, high + room
        self._start, self._stop = start, stop
        places = MaxNLocator(nbins=ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(
            self.low, self.high
        )
        self.ticks = [float(tick) for tick in places if self.low <= tick <= self.high]

    def __call__(self, value: float) -> float:
        """Return the pixel of a value; one beyond the ends is drawn at the end."""
        inside = min(max(value, self.low), self.high)
        share = (inside - self.low) / (self.high - self.low)
        return self._start + share * (self._stop - self._start)

    def labels(self) -> list[tuple[float, str]]:
        """Return the ticks with what is written at them."""
        step = min((b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False)), default=1.0)
        digits = 0
        while digits < 6 and abs(step * 10**digits - round(step * 10**digits)) > 1e-6:
            digits += 1
        return [(tick, f"{tick + 0.0:.{digits}f}".replace("-", MINUS)) for tick in self.ticks]


def text_width(words: str) -> float:
    """Return about how many pixels a line of 12 px text takes."""
    return _CHARACTER * len(words)


def shortened(words: str, width: float) -> str:
    """Return a text cut to about so many pixels."""
    most = max(int(width / _CHARACTER), 4)
    return words if len(words) <= most else words[: most - 1] + "…"


def _title(words: str) -> Markup:
    return Markup("<title>{}</title>").format(words) if words else Markup("")
