"""What `attnsearch init` finds out of masks, as keys of `data`."""

import json
import re
from pathlib import Path
from typing import Any

from attnsearch.runs.readers import find_pairs, propose_colors


def parse_colors(text: str) -> dict[str, str | list[int]]:
    """Return what `--mask-colors` says; the key's own rules judge the colours.

    Args:
        text: As `background=#000000,vessel=#ff0000`, or with `0 0 0` for the colour.

    Raises:
        ValueError: A class has two colours, or none.
    """
    colors: dict[str, str | list[int]] = {}
    for part in text.split(","):
        name, _, color = (word.strip() for word in part.rpartition("="))
        if not name or name in colors:
            why = f"{name} has two colours" if name else f"{part.strip()!r} has no name"
            raise ValueError(f"{why}; write NAME=#RRGGBB for each class, divided by commas")
        colors[name] = _color(color)
    return colors


def _color(text: str) -> str | list[int]:
    numbers = text.split()
    return [*map(int, numbers)] if re.fullmatch(r"\d+( +\d+)+", text) else text


def colors_of(folder: Path, mask_name: str | None) -> dict[str, Any]:
    """Return the palette of colour-coded masks as a key of `data`; nothing of other masks.

    Raises:
        DataError: If images and masks cannot be paired.
    """
    pairs, _ = find_pairs(folder, mask_name)
    colors = propose_colors([pair.mask for pair in pairs])
    return {"mask_colors": colors} if colors else {}


def labels_of(folder: Path) -> dict[str, Any]:
    """Return the classes that nnU-Net's dataset.json names, as keys of `data`."""
    try:
        labels = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["labels"]
        values = {
            str(name): int(value)
            for name, value in (
                (value, key) if str(key).isdigit() else (key, value)
                for key, value in labels.items()
            )
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # none, or regions instead of labels
    ignored = {"ignore_index": values.pop("ignore")} if "ignore" in values else {}
    names = sorted(values, key=lambda name: values[name])
    if len(names) < 2:
        return {}
    codes = [values[name] for name in names]
    coded = {} if codes == [*range(len(codes))] else {"mask_values": codes}
    return {"classes": names, **coded, **ignored}
