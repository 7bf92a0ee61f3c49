"""Mask files to class indices: one rule for a whole source, and no value is ever blended.

What a pixel of a mask says is found from the values that occur in all masks together:

* 1-bit images, and those whose only values are 0 and one other (255, most often): background and
  one class;
* palette images: the index, not the colour;
* grey images with small values: the class index;
* any other values need `data.mask_values`, which lists them in the order of the classes;
* colours need `data.mask_colors`, see `mask_colors`.

Files of a lossy kind, JPEG above all, do not keep values. They are read only where two classes are
asked for and the picture is black and white, cut at 128, whatever the other files hold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attnsearch.runs.readers.images import ImageSize, resize
from attnsearch.runs.readers.mask_colors import check_colors, class_colors, unlike_palettes
from attnsearch.runs.readers.mask_files import MaskFile
from attnsearch.runs.readers.source import IGNORED, DataError, listing

CLASSES_MAX = 255
_CLASSES_USUAL = 8  # up to so many, values are not taken for instances
LISTED = 12  # values that a message shows; more than these are seldom classes
BLENDED = (
    "so many values mean that the masks were blended (resized with smooth edges, or once saved as "
    "JPEG): export them anew without that, or threshold them"
)


class IgnoreIndexError(DataError):
    """Masks hold class indices and 255, as where 255 marks pixels that do not count."""


class MaskValuesError(DataError):
    """Masks hold values that are no class indices counted from 0.

    Attributes:
        values: All that occur, ascending.
    """

    def __init__(self, message: str, values: Sequence[int]) -> None:
        super().__init__(message)
        self.values = tuple(values)


@dataclass(frozen=True)
class Coding:
    """What the values of a source's masks mean.

    Attributes:
        values: Of the classes, in their order.
        ignored: The value of ignored pixels, or None.
        class_names: One per class.
    """

    values: tuple[int, ...]
    ignored: int | None
    class_names: tuple[str, ...]

    def index(self, mask: MaskFile, name: str) -> NDArray[np.uint8]:
        """Return the class of each pixel (h, w), as `of_levels`."""
        return self.of_levels(mask.levels, mask.lossy, name)

    def of_levels(
        self, levels: NDArray[np.unsignedinteger], lossy: bool, name: str
    ) -> NDArray[np.uint8]:
        """Return the class of each pixel (h, w), `IGNORED` where none counts.

        Args:
            levels: (h, w), of a mask or a part of it.
            lossy: Whether its file does not keep values.
            name: Of the file.

        Raises:
            DataError: For a value that is no class; it names the file.
        """
        if lossy:
            dark, bright = np.argsort(self.values).astype(np.uint8)
            black_and_white: NDArray[np.uint8] = np.where(levels < 128, dark, bright)
            return black_and_white
        highest = max(int(levels.max()), *self.values, self.ignored or 0)
        table = np.full(highest + 1, -1, dtype=np.int16)
        table[list(self.values)] = np.arange(len(self.values))
        if self.ignored is not None:
            table[self.ignored] = IGNORED
        indices = table[levels]
        if indices.min() < 0:
            unknown = np.unique(levels[indices < 0]).tolist()
            raise DataError(
                f"{name}: the mask holds {_shown(unknown, 5)}, which is no class: classes have "
                f"the values {_shown(self.values)}"
                + (f", {self.ignored} is ignored" if self.ignored is not None else "")
                + f"; {self._way_out(unknown)}"
            )
        index: NDArray[np.uint8] = indices.astype(np.uint8)
        return index

    def _way_out(self, unknown: Sequence[int]) -> str:
        if len(unknown) > LISTED:
            return BLENDED
        if self.ignored is None and list(unknown) == [IGNORED]:
            return "if 255 marks pixels that do not count, say data.ignore_index: 255"
        return (
            "repair the mask, or name all values in data.mask_values, or the one to leave out in "
            "data.ignore_index"
        )


def find_coding(
    masks: Mapping[str, MaskFile],
    classes: int | Sequence[str] | None,
    ignored: int | None,
    mask_values: Sequence[int] | None,
    mask_colors: Mapping[str, Sequence[int]] | None = None,
) -> tuple[Coding, list[str]]:
    """Return what the values of all masks together mean.

    With the same `classes` one mask of a source alone gives what the whole source gave, as far as
    that mask's own values go.

    Args:
        masks: By name.
        classes: `data.classes`: their number or names.
        ignored: `data.ignore_index`.
        mask_values: `data.mask_values`: the value of each class.
        mask_colors: `data.mask_colors`, with which the masks were decoded.

    Returns:
        The coding, and notes on what was concluded.

    Raises:
        IgnoreIndexError: If 255 seems to be a value that does not count.
        DataError: If no rule fits; it names the values, a file and what to say in the space file.
    """
    if mask_colors is not None:
        check_colors({name: mask.unknown for name, mask in masks.items()}, mask_colors)
        named = tuple(class_colors(mask_colors))
        void = IGNORED if len(named) < len(mask_colors) else None
        said = ", ".join(f"{value} {name}" for name, value in mask_colors.items())
        coding = Coding(tuple(range(len(named))), void, named)
        return coding, [f"mask colours: {said}"]
    if mask_values is None:
        _check_palettes(masks)
    names = [str(name) for name in classes] if isinstance(classes, list | tuple) else None
    count = len(names) if names is not None else classes if isinstance(classes, int) else None
    if count is not None and count > CLASSES_MAX:
        raise DataError(f"data.classes: {count} classes; masks can have 2 to {CLASSES_MAX}")
    lossy = [name for name, mask in masks.items() if mask.lossy]
    exact = {name: mask for name, mask in masks.items() if not mask.lossy}
    values = sorted({value for mask in exact.values() for value in mask.values} - {ignored})
    if mask_values is not None:
        coded = tuple(mask_values)
    elif count is not None and count > 2:
        coded = tuple(range(count))
    else:
        coded = _occurring_values(exact, values, ignored, count, white=bool(lossy))
    if lossy:
        _check_lossy(masks, lossy, coded, ignored)
    names = names or _default_names(len(coded))
    if ignored in coded:
        raise DataError(
            f"data.ignore_index: {ignored} is the value of the class "
            f"{names[coded.index(ignored)]} (classes are counted from 0); remove it"
            + (
                f", or give each class's value, data.mask_values: [{_shown(values)}]"
                if len(values) > 1
                else ""
            )
        )
    notes = []
    if lossy:
        notes.append(
            f"masks saved as JPEG or the like were cut into black and white at 128: {len(lossy)} "
            f"of {len(masks)}"
        )
    said = ", ".join(
        f"{value} {name}" for value, name in zip(coded[:LISTED], names[:LISTED], strict=True)
    )
    notes.append(f"mask values: {said}" + (f", {ignored} ignored" if ignored is not None else ""))
    return Coding(coded, ignored, tuple(names)), notes


def check_found(masks: Mapping[str, MaskFile], coding: Coding) -> None:
    """See that the masks of a whole source hold more than one class.

    Raises:
        DataError: If they do not, with what may be the reason.
    """
    values: set[int] = set()
    for mask in masks.values():
        # What a lossy file holds lies around its classes' values.
        values |= {255 * (value >= 128) for value in mask.values} if mask.lossy else {*mask.values}
    rest = values - {coding.ignored}
    if len(rest) > 1:
        return
    only = f"the masks hold nothing but {_shown(sorted(rest)) or 'ignored pixels'}"
    if values > rest:
        raise DataError(
            f"{only} beside the value of data.ignore_index, {coding.ignored}: if that is a class, "
            f"remove data.ignore_index"
        )
    raise DataError(f"{only}: there is no class to find; is this the folder of the masks?")


def shrink(mask: NDArray[np.uint8], size: ImageSize) -> NDArray[np.uint8]:
    """Return a mask (h, w) at another size: each pixel takes the nearest one's class."""
    return resize(mask, size, Image.Resampling.NEAREST)


def _occurring_values(
    masks: Mapping[str, MaskFile],
    values: Sequence[int],
    ignored: int | None,
    count: int | None,
    *,
    white: bool,
) -> tuple[int, ...]:
    """Return the values of two classes, or of as many as there are, by what occurs in the masks.

    Args:
        masks: Those of no lossy kind.
        values: All that occur in them but the ignored one.
        ignored: The ignored value.
        count: 2 or None.
        white: Whether there are lossy ones as well.
    """
    above = [value for value in values if value]
    if len(above) < 2 and (count or 0 in values or not above):
        blank = 255 if white and ignored != 255 else 1
        return (0, *(above or [blank]))
    if ignored == 0:  # refused: class 0 is nowhere
        return (0, *above)
    if (count and len(above) == 2) or above == [1, 255]:
        _check_mixed(masks, above)
    if count:
        return (0, 255) if {0, 255} <= {*values} and 1 not in values else (0, 1)
    _check_instances(masks, values)
    if [*values] == [*range(len(values))] and len(values) <= CLASSES_MAX:
        return tuple(values)
    example = next(name for name, mask in masks.items() if max(mask.values) >= max(values))
    if len(values) == 1:
        raise DataError(
            f"the masks hold nothing but {values[0]} (such as {example}): there is no class to "
            f"find; is this the folder of the masks?"
        )
    said = f"the masks' values are {_shown(values)} (such as in {example})"
    rest = [value for value in values if value != IGNORED]
    if len(rest) < len(values) and len(rest) > 1 and rest == [*range(len(rest))]:
        raise IgnoreIndexError(
            f"{said}: if 255 marks pixels that do not count, say data.ignore_index: 255; if it is "
            f"a class, data.mask_values: [{', '.join(map(str, values))}]"
        )
    said += ", which are no class indices counted from 0"
    if len(values) > LISTED and values[-1] > IGNORED:
        raise DataError(
            f"{said}; so many above 255 are instances counted through (instance ids): save masks "
            f"of classes, for one class 0 and 255, or list them in data.mask_values"
        )
    if len(values) > LISTED:
        raise DataError(
            f"{said}; {BLENDED}; if all of them are classes, list them in data.mask_values, or "
            f"give data.classes where indices are missing"
        )
    raise MaskValuesError(
        f"{said}; list them in the order of the classes, data.mask_values: "
        f"[{', '.join(map(str, values))}], or give data.classes where indices are missing"
        + ("" if ignored is not None else ", and data.ignore_index for one that does not count"),
        values,
    )


def _check_palettes(masks: Mapping[str, MaskFile]) -> None:
    """See that a value of masks with palettes is one class: has one colour in all of them."""
    unlike = unlike_palettes({name: mask.palette for name, mask in masks.items()})
    if unlike is not None:
        raise DataError(
            f"the palettes of the masks differ: {unlike}. So their values are no classes; give "
            f"the colour of each class, data.mask_colors, or, if the values count and not the "
            f"colours, data.mask_values"
        )


def _check_instances(masks: Mapping[str, MaskFile], values: Sequence[int]) -> None:
    """See that many values are no ids of instances, which are counted through in each mask.

    Of classes some mask lacks one that is not the last; and few masks end at another one than the
    others.
    """
    several = [{*mask.values} - {0} for mask in masks.values() if len(mask.values) > 2]
    if len(values) <= _CLASSES_USUAL or len(several) < 3:
        return
    counted = sum(ids == {*range(1, len(ids) + 1)} for ids in several)
    ends = {len(ids) for ids in several}
    if counted > 0.9 * len(several) and len(ends) > min(len(several), len(values)) // 2:
        raise DataError(
            f"the masks look like instances counted through (instance ids): each holds all values "
            f"from 1 to its own last one, {min(ends)} to {max(ends)}; save masks of classes, for "
            f"one class 0 and 255. If the values are classes, say so: data.classes: "
            f"{max(values) + 1}"
        )


def _check_mixed(masks: Mapping[str, MaskFile], above: Sequence[int]) -> None:
    """See that two values of the foreground are not those of two kinds of files."""
    holders = [[name for name, mask in masks.items() if value in mask.values] for value in above]
    if not {*holders[0]} & {*holders[1]}:
        counted = " and ".join(
            f"{len(names)} hold {value} (such as {names[0]})"
            for value, names in zip(above, holders, strict=True)
        )
        raise DataError(
            f"the masks do not agree on the value of what is not 0: {counted}; save all with the "
            f"same"
            + (", or say data.ignore_index: 255 if 255 does not count" if 255 in above else "")
        )


def _check_lossy(
    masks: Mapping[str, MaskFile],
    lossy: Sequence[str],
    coded: Sequence[int],
    ignored: int | None,
) -> None:
    """See that lossy masks can be cut into black and white without a mistake."""
    wrong = [name for name in lossy if not masks[name].black_and_white]
    if wrong:
        reason = f"{len(wrong)} of {len(lossy)} are not black and white"
    elif len(coded) != 2 or 0 not in coded:
        reason = f"there are {len(coded)} classes, with the values {_shown(coded)}"
    elif ignored in (0, 255):
        reason = f"data.ignore_index is {ignored}"
    else:
        return
    raise DataError(
        f"{listing(wrong or lossy, 3)}: JPEG and other lossy files do not keep class values, and "
        f"{reason}; save the masks as PNG, from their source if possible"
    )


def _shown(values: Sequence[int], most: int = LISTED) -> str:
    return listing([str(value) for value in values], most)


def _default_names(count: int) -> list[str]:
    if count == 2:
        return ["background", "foreground"]
    return ["background", *(f"class {index}" for index in range(1, count))]
