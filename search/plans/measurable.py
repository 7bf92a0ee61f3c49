"""Whether the data can give what a study is measured by, before anything is trained."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attnsearch.runs.data import DataSet
from attnsearch.runs.metrics import left_out, why_undefined
from attnsearch.runs.readers import DataError, listing
from attnsearch.search.plans.arms import plan_folds
from attnsearch.spaces.keys import COSTS, MEASURED, own_losses, own_metrics, own_names


@dataclass(frozen=True)
class _Need:
    """A metric that a part of some data must give, and the key that asks for it."""

    key: str
    fold: int | None
    part: str
    metric: str


def check_measurable(
    document: Mapping[str, Any],
    dataset: Callable[[int | None], DataSet],
    *,
    explore: bool = True,
    plans: bool = True,
) -> list[str]:
    """See that the data gives every objective, and the primary metric where arms are compared.

    Args:
        document: Of a space.
        dataset: Returns the data set of a fold; what exploring trains on is that of None.
        explore: Whether trials are trained.
        plans: Whether arms are compared, where the document says so.

    Returns:
        Which means over classes lack a class, a sentence each.

    Raises:
        DataError: A metric has no value on a part. The message says which, why, and what to do.
        TrainError: A loss, metric or loop of the user's own is none.
    """
    if any(section == "train" for (section, _), _ in own_names(document)):
        check_own_functions(document, dataset(None).classes)
    notes: dict[str, None] = {}
    for need in _needs(document, explore=explore, plans=plans):
        data = dataset(need.fold)
        part = getattr(data, need.part)
        name = f"{need.part}_{need.metric}"
        why = why_undefined(need.metric, part.labels, part.masks, data.class_names)
        fold = "" if need.fold is None else f" of fold {need.fold}"
        where = f"the {need.part} part{fold} of {data.name}"
        if why is not None:
            raise DataError(
                f"{need.key} asks for {name}, which {where} cannot give: {why}; choose another "
                f"metric, or change data.seed, data.splits, data.folds or the source's own split, "
                f"so that the part holds every class"
            )
        lacking = (
            left_out(need.metric, part.labels, data.class_names) if part.masks is None else []
        )
        if lacking:
            notes[f"{name} is a mean over classes; {where} has none of {listing(lacking)}"] = None
    return list(notes)


def _needs(document: Mapping[str, Any], *, explore: bool, plans: bool) -> Iterator[_Need]:
    if explore:
        for name in document["search"]["objectives"]:
            if name not in COSTS:
                yield _Need(f"search.objectives.{name}", None, "val", name.removeprefix(MEASURED))
    confirm, ablation = document.get("confirm"), document.get("ablation")
    if not plans or not (confirm or ablation):
        return
    parts = {"val": None, "test": None} if confirm else {"val": None}
    parts |= {(ablation or {}).get("part") or "val": None}
    for fold in plan_folds(document)[0]:
        for part in parts:
            yield _Need("primary_metric", fold, part, document["primary_metric"])


def check_own_functions(document: Mapping[str, Any], classes: int) -> None:
    """Try the losses and metrics of the user's own on made outputs, and look at their loop.

    Raises:
        TrainError: One of them breaks a rule.
    """
    from attnsearch.runs.training import check_own_loss, check_own_metric  # loads torch

    if loop := document["train"].get("loop"):
        from attnsearch.runs.loops import check_own_loop

        check_own_loop(loop)
    for name in own_losses(document):
        check_own_loss(name, document["task"], classes)
    for name in own_metrics(document).values():
        check_own_metric(name, document["task"], classes)
