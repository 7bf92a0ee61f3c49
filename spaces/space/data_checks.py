"""Keys of the `data` section that contradict each other, or that have no effect."""

import math
import re

from attnsearch.blocks.hosts import as_size, size_name
from attnsearch.spaces.file import Problems
from attnsearch.spaces.keys import BUILT_IN, GroupsPattern, SpaceFile, shown


def check_data(file: SpaceFile, problems: Problems) -> None:
    """Record what contradicts itself in the `data` section."""
    data, path = file.data, ("data",)
    if data.source is None and not problems.wrong((*path, "source")):
        missing = [key for key in ("channels", "classes") if getattr(data, key) is None]
        if missing:
            problems.add(
                (*path, "source"),
                f"source: null is a network without data, which must say {' and '.join(missing)}: "
                "add for instance channels: 3, classes: 1000",
            )
    size = as_size(data.eval_size or data.image_size)
    if data.eval_crop is not None and 1 < data.eval_crop < min(size):
        problems.add(
            (*path, "eval_crop"),
            f"{data.eval_crop}: images are resized to so many pixels before {size_name(size)} are "
            f"cut out of their middle; give at least {min(size)}, or a fraction such as 0.875",
        )
    if isinstance(data.classes, list) and len(set(data.classes)) < len(data.classes):
        twice = next(name for name in data.classes if data.classes.count(name) > 1)
        problems.add((*path, "classes"), f"the class {shown(twice)} stands twice")
    for key in ("fold", "development"):
        if getattr(data, key) is not None and data.folds is None:
            message = f"{key} needs folds: the number of folds; add it"
            problems.add((*path, key), message, at_key=True)
    if data.fold is not None and data.folds is not None and data.fold >= data.folds:
        problems.add(
            (*path, "fold"),
            f"{data.fold} is none of {data.folds} folds; they count from 0 to {data.folds - 1}",
        )
    if data.folds is not None and file.confirm and not (data.development or data.fold is not None):
        problems.warn(
            (*path, "folds"),
            'exploring sees test images of other folds, so that confirm gives no verdict ("not '
            'nested"); add development: 0.2, or run one file for each fold with fold: 0, 1, ...',
        )
    total = sum(data.splits)
    if not math.isclose(total, 1, abs_tol=1e-6):
        problems.add(
            (*path, "splits"),
            f"the fractions {data.splits} add up to {total:g}; training, validation and test "
            "must add up to 1",
        )
    if data.mask_values is not None and not problems.wrong((*path, "mask_values")):
        values, count = data.mask_values, class_count(file)
        if len(set(values)) < len(values):
            problems.add((*path, "mask_values"), "a value stands twice; each is one class's")
        if count is not None and count != len(values):
            problems.add(
                (*path, "mask_values"),
                f"{len(values)} values for {count} classes; give one per class",
            )
        if data.ignore_index in values:
            problems.add(
                (*path, "ignore_index"), f"{data.ignore_index} is a class's in mask_values too"
            )
    if data.mask_colors is not None and not problems.wrong((*path, "mask_colors")):
        colors = [tuple(color) for color in data.mask_colors.values()]
        if shared := [
            name for name, color in data.mask_colors.items() if colors.count((*color,)) > 1
        ]:
            problems.add(
                (*path, "mask_colors"), f"{' and '.join(shared)} have one colour; each has its own"
            )
        if len(data.mask_colors.keys() - {"ignore"}) < 2:
            problems.add(
                (*path, "mask_colors"),
                "names fewer than two classes (ignore is none); add the others' colours",
            )
        for key in ("classes", "mask_values", "ignore_index"):
            if getattr(data, key) is not None:
                problems.add(
                    (*path, key),
                    "mask_colors says what classes there are, and their order; remove this (a "
                    "colour called ignore does not count)",
                )
    if data.source in BUILT_IN and not problems.wrong(("task",)):
        task = BUILT_IN[data.source].task
        if task != file.task:
            problems.add((*path, "source"), f"{data.source} are for task: {task}")
    _groups(file, problems)


def class_count(file: SpaceFile) -> int | None:
    """Return how many classes a file names; None where the data tells."""
    if file.data.mask_colors is not None:
        return len(file.data.mask_colors.keys() - {"ignore"})
    classes = file.data.classes
    return len(classes) if isinstance(classes, list) else classes


def _groups(file: SpaceFile, problems: Problems) -> None:
    groups = file.data.groups
    pattern = groups.pattern if isinstance(groups, GroupsPattern) else groups
    if not isinstance(pattern, str) or pattern.endswith(".csv"):
        return
    try:
        count = re.compile(pattern).groups
    except (re.error, RecursionError, OverflowError) as error:
        problems.add(("data", "groups"), f"{shown(pattern)} is no regular expression: {error}")
        return
    if count != 1:
        problems.add(
            ("data", "groups"),
            f"{shown(pattern)} has {count} groups; it needs one, which catches the patient, as in "
            "'^(patient[0-9]+)_' (a table of groups ends in .csv)",
        )
