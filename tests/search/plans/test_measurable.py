"""What the data cannot give is said before anything is trained."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnsearch.runs.data import DataSet, load_data
from attnsearch.runs.readers import DataError
from attnsearch.search.plans.measurable import check_measurable


@pytest.fixture
def uneven(tmp_path: Path) -> DataSet:
    """The test part has one class of three, validation two."""
    arrays: dict[str, Any] = {}
    for part, labels in (("train", [0, 1, 2] * 4), ("val", [0, 1] * 3), ("test", [1] * 5)):
        arrays[f"{part}_labels"] = np.array(labels)[:, None]
        arrays[f"{part}_images"] = np.zeros((len(labels), 8, 8), np.uint8)
    np.savez(tmp_path / "uneven.npz", **arrays)
    return load_data({"source": str(tmp_path / "uneven.npz"), "image_size": 8})


def document(**changes: Any) -> dict[str, Any]:
    return {
        "data": {"folds": None, "fold": None},
        "search": {"objectives": {"val_accuracy": "max"}},
        "confirm": None,
        "ablation": None,
        "primary_metric": "accuracy",
        **changes,
    }


def test_the_primary_metric_is_asked_of_the_part_that_is_compared(uneven: DataSet) -> None:
    wanted = document(primary_metric="auroc", ablation={"part": None})
    assert check_measurable(wanted, lambda _: uneven) == [
        "val_auroc is a mean over classes; the val part of uneven.npz has none of 2"
    ]
    for change in ({"ablation": {"part": "test"}}, {"confirm": {"top": 1}}):
        with pytest.raises(
            DataError, match=r"primary_metric asks for test_auroc.*of one class, 1"
        ):
            check_measurable(wanted | change, lambda _: uneven)
        assert check_measurable(wanted | change, lambda _: uneven, plans=False) == []


def test_each_fold_is_looked_at_and_costs_are_not(uneven: DataSet, tmp_path: Path) -> None:
    folded = {"folds": 2, "fold": None, "development": None}
    wanted = document(data=folded, confirm={"top": 1}, primary_metric="auroc")
    wanted["search"] = {"objectives": {"val_accuracy": "max", "params": "min"}}
    asked = []

    def dataset(fold: int | None) -> DataSet:
        asked.append(fold)
        return uneven

    with pytest.raises(DataError, match="the test part of fold 0"):
        check_measurable(wanted, dataset)
    assert asked == [None, 0, 0]
