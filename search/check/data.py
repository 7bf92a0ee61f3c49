"""What a data set's parts hold of each class, and what resizing loses: for `attnsearch check`."""

from attnsearch.blocks.hosts import size_name
from attnsearch.runs.data import DataSet, Split, class_counts
from attnsearch.runs.keeping import count_values
from attnsearch.runs.readers import PARTS
from attnsearch.runs.training import reach
from attnsearch.spaces.keys import MULTILABEL

SMALL_DICE = 0.8


def class_rows(data: DataSet) -> list[tuple[object, ...]]:
    """Return each class with its images in every part; of masks, its share of the pixels.

    Of any number of classes an image first how many show none.
    """
    counted = _pixel_shares if data.task == "segmentation" else _class_counts
    columns = [counted(getattr(data, part), data.classes) for part in PARTS]
    rows: list[tuple[object, ...]] = list(zip(data.class_names, *columns, strict=True))
    if data.task == MULTILABEL:  # images may show several classes, or none
        plain = [int((~getattr(data, part).labels.any(1)).sum()) for part in PARTS]
        rows.insert(0, ("(none of them)", *plain))
    return rows


def _class_counts(part: Split, classes: int) -> list[int]:
    return [int(count) for count in class_counts(part.labels, classes)]


def _pixel_shares(part: Split, classes: int) -> list[str]:
    """Return the share of each class in the pixels that count, at the network's size."""
    if part.masks is None or not len(part):
        return ["-"] * classes
    counts = count_values(part.masks.resized)[:classes]
    return [f"{share:.1%}" for share in counts / max(1, counts.sum())]


def lost_detail(data: DataSet) -> tuple[str, float]:
    """Say what of the masks gets lost where images are resized; empty where that is little.

    Measured at the validation part, whose masks are kept at the images' own size.

    Returns:
        Words on the class that loses most, and the best mean Dice over all classes that is left.
    """
    masks = data.val.masks
    if masks is None or masks.corners is not None:
        return "", 1.0
    dice = reach(data.val, data.class_names)
    name = min(dice, key=lambda name: dice[name], default="")
    if not name or dice[name] >= SMALL_DICE:
        return "", 1.0
    words = (
        f"at {size_name(data.eval_size)} pixels thin or small things are lost: a network right "
        f"in every pixel there would have a Dice of {dice[name]:.2f} for {name} at the images' "
        "own size"
    )
    return words, sum(dice.values()) / len(dice)
