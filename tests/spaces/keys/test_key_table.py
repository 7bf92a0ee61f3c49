"""The table of keys in the documentation is the model's."""

from pathlib import Path

from attnsearch.spaces.keys.data import Augment
from attnsearch.spaces.keys.key_table import key_table, with_table
from attnsearch.spaces.keys.space_file import SpaceFile
from attnsearch.spaces.keys.train import Train

PAGE = Path(__file__).parents[3] / "docs" / "space-file.md"


def test_the_page_holds_the_table_of_the_model() -> None:
    page = PAGE.read_text("utf-8")
    remedy = "run python -m attnsearch.spaces.keys.key_table docs/space-file.md"
    assert with_table(page) == page, remedy
    assert key_table() in page


def test_every_key_has_a_row_with_its_default_and_its_bounds() -> None:
    rows = dict(line.split(" | ", 1) for line in key_table().splitlines())
    for model, prefix in ((Augment, "data.augment."), (Train, "train."), (SpaceFile, "")):
        for key in model.model_fields:
            assert any(row.startswith(f"| `{prefix}{key}") for row in rows), key
    assert rows["| `data.augment.elastic`"].startswith("`0` | at least 0 and at most 0.2 | Bend")
    assert rows["| `task`"].startswith("required | `classification`, `segmentation`, `multil")
    assert rows["| `ablation.plans`"].startswith('`["loco"]` | a list of `loco`, `positions`')
