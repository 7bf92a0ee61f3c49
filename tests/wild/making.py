"""How layouts of data are made: tiny images, learnable in seconds, and what is true of them.

What files mean is recorded as they are written, and never read back from them.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

IGNORED = 255
SIDE = 24
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Example:
    """One image, and what is true of it.

    Attributes:
        name: Of its file, without folders; in an .npz file its part and number.
        path: The file; None in an .npz file.
        truth: The name of its class; or its mask (h, w) of class indices, 255 where none counts.
        part: Where the layout puts it; None where the layout has no split.
        group: The patient, where the layout tells.
    """

    name: str
    path: Path | None
    truth: str | Pixels
    part: str | None = None
    group: str | None = None


@dataclass
class Made:
    """A layout on disk.

    Attributes:
        data: What `init` is given.
        classes: Their names in any order; their number where any names will do.
        channels: Of the images.
        examples: All images that count.
    """

    data: Path
    classes: Sequence[str] | int
    channels: int = 3
    examples: list[Example] = field(default_factory=list)

    @property
    def task(self) -> str:
        """What the layout is for."""
        masks = not isinstance(self.examples[0].truth, str)
        return "segmentation" if masks else "classification"

    def image(
        self,
        path: str,
        label: str,
        part: str | None = None,
        group: str | None = None,
        shape: tuple[int, ...] = (SIDE, SIDE, 3),
        depth: type = np.uint8,
    ) -> None:
        """Write an image of a class."""
        assert not isinstance(self.classes, int)
        kind = [plain(name) for name in self.classes].index(plain(label))
        pixels = picture(kind, len(self.examples), shape).astype(depth)
        file = save(self.data / path, pixels * 200 if depth is np.uint16 else pixels)
        self.examples.append(Example(file.name, file, label, part, group))

    def pair(
        self,
        path: str,
        mask: str,
        part: str | None = None,
        group: str | None = None,
        code: Callable[[Pixels], Pixels | Image.Image] = lambda indices: indices,
        shape: tuple[int, ...] = (SIDE, SIDE, 3),
    ) -> None:
        """Write an image and its mask; `code` turns class indices into what the file holds."""
        count = self.classes if isinstance(self.classes, int) else len(self.classes)
        pixels, indices = scene(len(self.examples), count, shape)
        file = save(self.data / path, pixels)
        save(self.data / mask, code(indices))
        self.examples.append(Example(file.name, file, indices, part, group))


@dataclass(frozen=True)
class Layout:
    """A layout's maker, and what may come of it beside the right proposal.

    Attributes:
        make: Writes it below a folder.
        asks: Patterns; `init` may refuse where its message holds one of them: it then names the
            option that it needs, or what is wrong with the data.
        never: A pattern that nothing which is printed may hold.
    """

    make: Callable[[Path], Made]
    asks: tuple[str, ...] = ()
    never: str = ""


def layout(*asks: str, never: str = "") -> Callable[[Callable[[Path], Made]], Layout]:
    """Make a layout of the function that writes it."""
    return lambda make: Layout(make, asks, never)


def plain(name: str) -> str:
    """Return a class's name without what nobody sees: case, form of accents, outer spaces."""
    return unicodedata.normalize("NFC", name).strip().casefold()


def picture(kind: int, number: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return an image of a class, which a bright band tells, at its height by the class."""
    pixels = np.random.default_rng([kind, number]).integers(0, 90, shape)
    rows = shape[0] // 4
    pixels[kind % 4 * rows : kind % 4 * rows + rows] += 140
    return pixels.astype(np.uint8)


def scene(
    number: int, classes: int, shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return an image of one box for each class but the background, and its class indices."""
    draws = np.random.default_rng([classes, number])
    pixels = draws.integers(0, 60, shape)
    indices = np.zeros(shape[:2], np.uint8)
    strip = shape[1] // (classes - 1)
    for kind in range(1, classes):
        height, width = draws.integers(shape[0] // 4, shape[0] // 2), draws.integers(4, strip - 2)
        top, left = draws.integers(1, shape[0] - height - 1), draws.integers(strip - width)
        indices[top : top + height, (kind - 1) * strip + left :][:, :width] = kind
    pixels += (indices * (180 // (classes - 1))).reshape(*shape[:2], *[1] * (len(shape) - 2))
    return pixels.astype(np.uint8), indices


def save(path: Path, pixels: Pixels | Image.Image) -> Path:
    """Write an image file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path)
    return path


def values(*codes: int | tuple[int, int, int]) -> Callable[[Pixels], Pixels]:
    """Return a code of masks: the value or the colour of each class."""
    return lambda indices: np.array(codes, np.uint8)[indices]


def in_classes(
    made: Made,
    where: str,
    count: int = 12,
    part: str | None = None,
    names: Iterable[str] | None = None,
    **kind: Any,
) -> Made:
    """Write `count` images a class; `where` holds `{name}` and `{i}`."""
    assert not isinstance(made.classes, int)
    for name in names or made.classes:
        for i in range(count):
            made.image(where.format(name=name, i=i), name, part, **kind)
    return made
