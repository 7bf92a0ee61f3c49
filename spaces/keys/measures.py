"""What a run is measured by: the metrics of its predictions, and the costs of its network.

Here stands what is true of each by itself: direction, unit, words. What computes them is found by
their names: metrics in `runs/metrics`, costs in `blocks/measure`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

CLASSIFICATION, SEGMENTATION, MULTILABEL = "classification", "segmentation", "multilabel"
PARTS = {"val": "validation", "test": "test", "train": "training"}
MEASURED = "val_"
"""What the names of metrics begin with that every epoch measures on the validation part."""


@dataclass(frozen=True)
class Metric:
    """What is true of a metric, whatever predictions it is of.

    Attributes:
        words: As a report writes it.
        tasks: Those in which every epoch measures it; there it can be an objective, and primary.
        direction: "max" or "min": which values are better.
        share: Whether it lies between 0 and 1, and is written in percent.
        by_class: Whether several classes may have it each too, as `dice_polyp` or `ap_edema`.
    """

    words: str
    tasks: tuple[str, ...] = ()
    direction: str = "max"
    share: bool = True
    by_class: bool = False


METRICS = {
    "dice": Metric("Dice", (SEGMENTATION,), by_class=True),
    "iou": Metric("IoU", (SEGMENTATION,), by_class=True),
    "dice_pooled": Metric("dice pooled", (SEGMENTATION,)),
    "iou_pooled": Metric("iou pooled", (SEGMENTATION,)),
    "precision": Metric("precision", (SEGMENTATION,)),
    "recall": Metric("recall", (SEGMENTATION,)),
    "map": Metric("mAP", (MULTILABEL,)),
    "accuracy": Metric("accuracy", (CLASSIFICATION, SEGMENTATION)),
    "balanced_accuracy": Metric("balanced accuracy", (CLASSIFICATION,)),
    "f1": Metric("macro F1", (CLASSIFICATION, MULTILABEL), by_class=True),
    "micro_f1": Metric("micro F1", (MULTILABEL,)),
    "auroc": Metric("AUROC", (CLASSIFICATION, MULTILABEL), by_class=True),
    "exact_match": Metric("exact match", (MULTILABEL,)),
    "label_accuracy": Metric("accuracy over labels", (MULTILABEL,)),
    "loss": Metric("loss", (CLASSIFICATION, SEGMENTATION, MULTILABEL), "min", share=False),
    "ap": Metric("average precision", by_class=True),
    "auprc": Metric("AUPRC"),
    "nll": Metric("NLL", direction="min", share=False),
    "brier": Metric("Brier score", direction="min", share=False),
    "calibration_error": Metric("calibration error", direction="min"),
    "sensitivity": Metric("sensitivity"),
    "specificity": Metric("specificity"),
    "f1_at_threshold": Metric("F1 at the threshold"),
    "hd95": Metric("HD95", direction="min", share=False),
}
"""By name. The first of a task is its default objective."""


@dataclass(frozen=True)
class Cost:
    """What is true of a cost, whatever network it is of. Less is always better.

    Attributes:
        words: As the header of a table writes it, without its unit.
        axis: As the axis of a figure writes it.
        limit: What `limits` says of it.
        unit: Empty for a plain number.
    """

    words: str
    axis: str
    limit: str
    unit: str = ""

    @property
    def header(self) -> str:
        """Words and unit."""
        return f"{self.words} ({self.unit})" if self.unit else self.words

    @property
    def counted(self) -> bool:
        """Whether it is counted from the network alone; others are measured on a device."""
        return not self.unit


COSTS = {
    "params": Cost("Params", "Parameters", "Parameters."),
    "macs": Cost("MACs", "Multiply-accumulates per image", "Multiply-adds for one image."),
    "latency_ms": Cost(
        "Latency", "Forward latency (ms)", "Milliseconds for one image.", unit="ms"
    ),
    "memory_mb": Cost(
        "Memory", "Peak memory (MB)", "Peak megabytes of a training step.", unit="MB"
    ),
}
LATENCY_QUARTILES = ("latency_low_ms", "latency_high_ms")
"""Measured with `latency_ms`: how far the middle half of the passes spread."""

COUNTED = tuple(name for name, cost in COSTS.items() if cost.counted)


def excess(costs: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """Return each limit's relative excess where its cost is known: 0.1 is 10 % above."""
    pairs = [(name, costs.get(name), limit) for name, limit in limits.items()]
    return {f"limits.{name}": cost / limit - 1 for name, cost, limit in pairs if cost is not None}


def primary_metrics(task: str) -> dict[str, str]:
    """Return the metrics that can be primary, without their part, and their directions."""
    return {name: metric.direction for name, metric in METRICS.items() if task in metric.tasks}


def objectives(task: str) -> dict[str, str]:
    """Return the metrics that can be objectives, the default first, and their directions."""
    return {MEASURED + name: direction for name, direction in primary_metrics(task).items()}


def default_objective(task: str) -> dict[str, str]:
    """Return the objective where a file names none, and its direction."""
    return dict([next(iter(objectives(task).items()))])


def split_part(name: str) -> tuple[str, str]:
    """Return the part of the data that a metric's name begins with, or "", and the rest."""
    part, _, rest = name.partition("_")
    return (part, rest) if part in PARTS and rest else ("", name)


def find_metric(name: str) -> Metric:
    """Return what is true of a metric, with or without its part; of an unknown one its words."""
    bare = split_part(name)[1]
    if bare in METRICS:
        return METRICS[bare]
    words = bare.replace("_", " ")
    for start, metric in METRICS.items():
        if metric.by_class and bare.startswith(f"{start}_"):
            return replace(metric, words=words, tasks=())
    return Metric(words, share=False)


def is_share(name: str) -> bool:
    """Return whether a metric lies between 0 and 1, so that it is written in percent."""
    return find_metric(name).share


def metric_name(name: str) -> str:
    """Return a metric in words: `val_balanced_accuracy` -> `validation balanced accuracy`."""
    part, _ = split_part(name)
    words = find_metric(name).words
    return f"{PARTS[part]} {words}" if part else words
