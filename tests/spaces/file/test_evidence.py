"""The studies of docs/evidence.md: every block once, alone, in the network that is asked about."""

from pathlib import Path

import pytest

from attnsearch.blocks.mechanisms import BLOCKS
from attnsearch.blocks.naming import NONE
from attnsearch.spaces import load_space

FOLDER = Path(__file__).parents[3] / "spaces/evidence"


@pytest.mark.parametrize("name", ["cifar10", "kvasir"])
def test_each_block_stands_alone_in_one_network(name: str) -> None:
    space = load_space(FOLDER / f"{name}.yaml")
    assert space.architecture_count() == 14
    choices = [
        value
        for decision in space.decisions
        if decision.name.endswith(".block")
        for value in decision.choices
        if value != NONE
    ]
    assert sorted(choices) == sorted(set(BLOCKS) - {"identity"})
    confirm = space.document["confirm"]
    assert (confirm["top"], confirm["seeds"]) == (13, 5)
