"""What networks and their blocks are called."""

from typing import Any

import pytest

from attnsearch.blocks.naming import describe, shown_name
from attnsearch.spaces.space.decisions import parameter_decision


def entry(at: str, block: str, **more: Any) -> dict[str, Any]:
    return {"at": at, "block": block, "params": {}, **more}


def test_a_network_is_called_by_its_blocks_and_their_places() -> None:
    entries = [
        entry("layer4", "ecrm", name="layer4"),
        entry("layer1", "none"),
        entry("layer[2-3].*.conv2", "psa", name="mid"),
    ]
    assert describe({"insert": entries}) == "ecrm@layer4 psa@mid"
    assert describe({"insert": entries[1:2]}) == describe({"insert": []}) == "plain"


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        ("plain", "baseline"),
        ("000 plain", "000 baseline"),
        ("arm plain seed 3", "arm baseline seed 3"),
        ("001 plain@layer4", "001 plain@layer4"),  # a user's block
        ("002 gc@layer4 plain@layer3", "002 gc@layer4 plain@layer3"),
        ("arm plainer seed 1", "arm plainer seed 1"),
    ],
)
def test_people_read_baseline_where_plain_is_stored(stored: str, shown: str) -> None:
    assert shown_name(stored) == shown


@pytest.mark.parametrize("block", ["se", "my.module:Mine", "my.module:Outer.Mine"])
def test_a_users_block_is_called_as_in_the_names_of_decisions(block: str) -> None:
    called = describe({"insert": [entry("layer4", block)]}).removesuffix("@layer4")
    assert parameter_decision("layer4", block, "slope") == f"layer4.{called}.slope"
    assert called in ("se", "Mine")
