"""The metrics beside the primary one: means and differences with intervals, and no p."""

from attnsearch.runs.reports.tables import (
    Cell,
    Table,
    act_key,
    act_title,
    headers_of,
    table,
)
from attnsearch.runs.results import (
    ActResult,
    ArmResult,
    difference_text,
    interval_text,
    is_number,
    metric_text,
    percent,
)

_OF_CLASS = "ap_"  # of each of any number of classes an image, which are too many for columns


def secondary_table(act: ActResult) -> Table | None:
    """Return other metrics, one row an arm: mean with its interval; None where there are none."""
    names = [name for name in _names(act) if name not in _of_classes(act)]
    if not names:
        return None
    rows = []
    for arm in act.arms:
        cells = [Cell(arm.label)]
        for name in names:
            cells.append(_cell(arm, name))
        rows.append(cells)
    level = percent(1 - act.plan.alpha)
    notes = [
        f"Mean, and Δ to the arm's reference with its {level} interval, not adjusted. No p: one "
        "primary metric carries the tests.",
        "Calibration error: 15 bins of equal width." if "calibration_error" in names else "",
    ]
    key = f"{act_key(act)}-secondary"
    return table(key, f"{act_title(act)}, other metrics", headers_of(names), rows, notes)


def class_table(act: ActResult) -> Table | None:
    """Return average precision, a row a class and a column an arm; None where there is none."""
    names = _of_classes(act)
    if not names:
        return None
    rows = [
        [Cell(name.removeprefix(_OF_CLASS)), *(_cell(arm, name) for arm in act.arms)]
        for name in names
    ]
    headers = ["Class", *(arm.label for arm in act.arms)]
    notes = [
        "In percent. A class that this part of the data does not show has none, and is no part of "
        "mAP.",
        "Mean, and Δ to the arm's reference with its interval, not adjusted. No p.",
    ]
    title = f"{act_title(act)}, average precision of each class"
    return table(f"{act_key(act)}-classes", title, headers, rows, notes)


def _names(act: ActResult) -> list[str]:
    return [*dict.fromkeys(m for arm in act.arms if arm.summary for m in arm.summary.secondary)]


def _of_classes(act: ActResult) -> list[str]:
    names = _names(act)
    several = "label_accuracy" in {act.plan.metric, *names}
    return [name for name in names if several and name.startswith(_OF_CLASS)]


def _cell(arm: ArmResult, name: str) -> Cell:
    mean = arm.summary.secondary.get(name) if arm.summary else None
    change = arm.comparison.secondary.get(name) if arm.comparison else None
    words = "" if mean is None else metric_text(name, mean.value)
    if change is not None and is_number(change.low):
        words += f" (Δ {difference_text(name, change.value)} "
        words += f"{interval_text(name, change.low, change.high)})"
    return Cell(words, mean.value if mean else None)
