import json
from typing import Any

import pytest
from torch import Tensor, nn

from attnsearch.blocks.build.architecture import (
    Insertion,
    canonical_architecture,
    complete,
    expand,
)
from attnsearch.blocks.errors import BlockError, SiteError
from attnsearch.blocks.mechanisms.table import BLOCKS


class Probe(nn.Module):
    def __init__(
        self,
        channels: int,
        needed: int,
        sizes: tuple[int, ...] = (3, 5),
        norm: type[nn.Module] = nn.BatchNorm2d,
        *,
        size: tuple[int, int],
        out_channels: int | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BLOCKS, "probe", Probe)


def entry(
    at: str, block: str, params: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    return {"at": at, "block": block, "params": {block: params or {}}, **more}


def config(*insert: dict[str, Any], **network: Any) -> dict[str, Any]:
    return {"network": {"backbone": "resnet18", **network}, "insert": list(insert)}


def test_expands_in_network_order_then_entry_order() -> None:
    found = expand(
        config(
            entry("layer4", "identity"),
            entry("layer2.*", "identity"),
            entry("layer3", "none"),
            entry("stem", "simam"),
            entry("layer4", "simam"),
        )
    )
    assert [(insertion.site, insertion.block) for insertion in found] == [
        ("stem", "simam"),
        ("layer2.0", "identity"),
        ("layer2.1", "identity"),
        ("layer4", "identity"),
        ("layer4", "simam"),
    ]


def test_defaults_are_filled_in_as_json_knows_them() -> None:
    (found,) = expand(config(entry("layer1.0.conv1", "psa", {"kernels": (3, 3, 5, 5)})))
    assert found == Insertion(
        "layer1.0.conv1", "psa", {"kernels": [3, 3, 5, 5], "groups": [1, 4, 8, 16]}
    )
    assert json.loads(json.dumps(found.params)) == found.params


def test_what_the_builder_supplies_and_what_no_config_can_hold_is_left_out() -> None:
    assert complete("probe", {"needed": 1}) == {"needed": 1, "sizes": [3, 5]}


def test_wrong_hyperparameters_are_explained() -> None:
    with pytest.raises(BlockError, match="probe needs a value for its hyperparameter 'needed'"):
        complete("probe", {})
    with pytest.raises(BlockError, match=r"no hyperparameter 'kernel' .nearest: kernels.; it has"):
        complete("psa", {"kernel": [3]})
    with pytest.raises(BlockError, match="identity has no hyperparameter 'x'; it has none"):
        complete("identity", {"x": 1})
    with pytest.raises(BlockError, match="out_channels"):
        complete("psa", {"out_channels": 3})


def test_two_replacements_of_one_convolution_are_refused() -> None:
    twice = config(entry("layer3.*.conv2", "psa"), entry("layer[3-4].last.conv2", "scconv"))
    with pytest.raises(
        SiteError, match=r"layer3\.1\.conv2 is replaced twice, by psa and by sccon"
    ):
        expand(twice)
    expand(config(entry("layer3.*.conv2", "psa"), entry("layer[3-4].last.conv2", "none")))
    expand(config(entry("layer3.*.conv2", "psa"), entry("layer3.*.after_conv2", "se")))


def test_unknown_names_are_explained() -> None:
    with pytest.raises(SiteError, match="layer9"):
        expand(config(entry("layer9", "se")))
    with pytest.raises(BlockError, match="psaa"):
        expand(config(entry("layer4", "psaa")))


def test_the_canonical_form_is_equal_for_equal_networks() -> None:
    defaults = {"kernels": [3, 5, 7, 9], "groups": [1, 4, 8, 16]}
    one = config(entry("layer[2-3].*.conv2", "psa"), entry("layer4", "none"), name="x")
    other = config(
        entry("layer3.*.conv2", "psa", defaults, name="mid"),
        entry("layer2.*.conv2", "psa", {"groups": (1, 4, 8, 16)}),
        stem="imagenet",
        width=1,
    )
    assert canonical_architecture(one) == canonical_architecture(other)
    assert canonical_architecture(one) == {
        "backbone": "resnet18",
        "stem": "imagenet",
        "width": 1.0,
        "insert": [
            {"site": f"layer{stage}.{block}.conv2", "block": "psa", "params": defaults}
            for stage in (2, 3)
            for block in (0, 1)
        ],
    }
    assert json.loads(json.dumps(canonical_architecture(one))) == canonical_architecture(one)


@pytest.mark.parametrize(
    "change",
    [
        {"stem": "small"},
        {"width": 0.5},
        {"backbone": "resnet34"},
        {"insert": [entry("layer4", "gc", {"ratio": 0.25})]},
        {"insert": [entry("layer3", "gc")]},
        {"insert": [entry("layer4", "gc"), entry("layer4", "gc")]},
    ],
)
def test_the_canonical_form_differs_for_different_networks(change: dict[str, Any]) -> None:
    insert = change.pop("insert", [entry("layer4", "gc")])
    assert canonical_architecture(config(*insert, **change)) != canonical_architecture(
        config(entry("layer4", "gc"))
    )


def test_order_at_one_site_matters() -> None:
    one = config(entry("layer4", "gc"), entry("layer4", "se"))
    other = config(entry("layer4", "se"), entry("layer4", "gc"))
    assert canonical_architecture(one) != canonical_architecture(other)
